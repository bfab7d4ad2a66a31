package server

import (
	"sync"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// Limits bounds what callers may have at the same time, and ask for. Zero is no limit.
type Limits struct {
	Running             int   // completions that run: the next one is refused with OVERLOADED
	RunningPerPrincipal int   // those of one principal: RATE_LIMITED
	Readers             int   // of one completion, at this server: RATE_LIMITED
	MaxTokens           int32 // that a request may ask for; one that does not say gets as many
	Messages            int   // of one request
	MessageBytes        int   // of one message, as protobuf, or of a prompt
}

// within checks a request against the limits, and returns the first one that it exceeds.
func (v *violations) within(l *Limits, req *completionv1.CompletionRequest) (exceeded string) {
	over := func(limit string) {
		if exceeded == "" && len(*v) > 0 {
			exceeded = limit
		}
	}
	v.check(l.Messages == 0 || len(req.GetMessages()) <= l.Messages, "messages", "must be at most %d here", l.Messages)
	over("max_messages")
	if l.MessageBytes > 0 {
		v.check(len(req.GetPrompt()) <= l.MessageBytes, "prompt", "must have at most %d bytes here", l.MessageBytes)
		for i, m := range req.GetMessages() {
			v.element("messages", i, func() {
				v.check(proto.Size(m) <= l.MessageBytes, "", "must have at most %d bytes here", l.MessageBytes)
			})
		}
	}
	over("max_message_bytes")
	if l.MaxTokens > 0 {
		v.check(req.GetMaxTokens() <= l.MaxTokens, "max_tokens", "must be at most %d here", l.MaxTokens)
		v.check(req.GetMaxCompletionTokens() <= l.MaxTokens, "max_completion_tokens", "must be at most %d here", l.MaxTokens)
	}
	over("max_tokens")
	return exceeded
}

// fill limits the tokens of a request that does not.
func (l *Limits) fill(req *completionv1.CompletionRequest) {
	if l.MaxTokens > 0 && req.MaxTokens == nil && req.MaxCompletionTokens == nil {
		req.MaxTokens = proto.Int32(l.MaxTokens)
	}
}

// runningCount counts the completions that run, in all and per principal. Its methods are
// called with Server.mu held.
type runningCount struct {
	all int
	of  map[string]int // by principal, of those that have any
}

// add counts one in, unless that is one too many.
func (c *runningCount) add(l *Limits, principal string) error {
	switch {
	case l.Running > 0 && c.all >= l.Running:
		return failure.New(failure.Overloaded, "the server runs as many completions as it takes: try again").WithLimit("max_running")
	case l.RunningPerPrincipal > 0 && c.of[principal] >= l.RunningPerPrincipal:
		return failure.New(failure.RateLimited, "at most %d of your completions may run at the same time: try again when one has ended", l.RunningPerPrincipal).
			WithLimit("max_running_per_principal")
	}
	c.all++
	c.of[principal]++
	return nil
}

func (c *runningCount) remove(principal string) {
	c.all--
	if c.of[principal]--; c.of[principal] == 0 {
		delete(c.of, principal)
	}
}

// readerCount counts the readers of each completion. The zero value is ready to use.
type readerCount struct {
	mu  sync.Mutex     // guards all below
	all int            // of all completions
	of  map[string]int // by the completion's id, of those that have any
}

// add counts one in, unless that is one too many. Zero is no limit.
func (c *readerCount) add(limit int, id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit > 0 && c.of[id] >= limit {
		return failure.New(failure.RateLimited, "at most %d may read a completion at the same time: try again when one has left", limit).WithLimit("max_readers")
	}
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.all++
	c.of[id]++
	return nil
}

func (c *readerCount) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.of[id]--; c.of[id] == 0 {
		delete(c.of, id)
	}
}
