package server

import (
	"context"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Observer is told of completions and their readers: once for each, never for an event.
// Many goroutines call it at once, and it must not wait.
//
// It is not told of a call that is refused: that is one that fails before Reads.
type Observer interface {
	// Began is called when a completion begins, before its engine is called. It gets
	// the context of the call that asks for the completion, and the one in which the
	// completion is generated; and it returns the latter, or one made of it.
	Began(call, generate context.Context, b Began) context.Context

	// Ended is called when a completion has ended, with the context that Began has
	// returned. For one whose server is gone, which had been told of Began, this is
	// called by the server that writes its end, with the context of a call.
	Ended(generate context.Context, e Ended)

	// Reads is called when a call begins to read a completion, with its context.
	Reads(call context.Context, id string)
}

// Began is a completion that begins. Its request is not to be kept, nor changed.
type Began struct {
	ID      string
	Request *completionv1.CompletionRequest // whose model is named
}

// Ended is a completion that has ended.
type Ended struct {
	ID      string
	Model   string // the model asked for; "" if Began was told elsewhere, as all below but Outcome
	Outcome string // in one word, which is for all that tells of it: see Config.Observer

	// Journaled tells whether readers get to know the outcome. If not, it is owner_lost,
	// and they are told so by whoever writes the end: that one's Ended is the one to count.
	Journaled bool

	Cause        error // for the log: what made it end so; nil: it is finished
	Events       int
	Duration     time.Duration
	FirstToken   time.Duration // when the engine's first chunk came; 0: none did
	FinishReason completionv1.Finished_FinishReason
	Usage        *completionv1.Usage // nil: not known
}

// unobserved is the Observer of a server that has none.
type unobserved struct{}

func (unobserved) Began(_, generate context.Context, _ Began) context.Context { return generate }
func (unobserved) Ended(context.Context, Ended)                               {}
func (unobserved) Reads(context.Context, string)                              {}

// Stats is what a server has at a time.
type Stats struct {
	Running int // completions
	Readers int // of completions; one may have several
}

// Stats returns what the server has now.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers.mu.Lock()
	defer s.readers.mu.Unlock()
	return Stats{Running: s.running.all, Readers: s.readers.all}
}
