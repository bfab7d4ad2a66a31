package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

// stream makes the chunks of one completion from the events of its upstream. It is
// an engine.Stream.
//
// What each chunk needs comes first and together, for the processor's cache.
type stream struct {
	request  *completionv1.CompletionRequest // until it is sent
	failure  error                           // comes next
	counted  lenientInt                      // the next index of a choice, if that counts chunks; -1: it does not
	template template
	chunk    engine.Chunk // used again for each chunk, as is delta
	events   events
	delta    completionv1.Delta

	engine   *Engine
	ctx      context.Context
	question question
	complete bool                               // it came to its own end
	reason   completionv1.Finished_FinishReason // that came, and after it no more of the answer
	deltas   bool                               // a delta said something: what comes as a message then is all of it again
	halves   halves
	calls    calls

	// The exchange has a context of its own, which ends with ctx only until drain
	// takes the exchange over.
	detach      func() bool
	cancel      context.CancelFunc
	body        io.ReadCloser // nil: there is no answer
	contentType string        // as the upstream gave it
}

// Next implements engine.Stream. The stream's own end is [DONE], or the end of its
// events, whatever has come by then.
func (s *stream) Next(wait bool) (*engine.Chunk, error) {
	switch {
	case s.failure != nil && s.ctx.Err() == nil:
		return nil, s.failure
	case s.failure != nil, s.request != nil && s.ctx.Err() != nil:
		return nil, context.Cause(s.ctx)
	case s.request != nil && !wait:
		return nil, nil
	case s.request != nil:
		if err := s.open(); err != nil {
			return nil, err
		}
	}
	for {
		// The body cannot be read any more when the context is done; what has been
		// read would still be there.
		if s.events.buffered() && s.ctx.Err() != nil {
			return nil, context.Cause(s.ctx)
		}
		data, err := s.events.next(wait)
		switch {
		case err == errNotYet:
			return nil, nil
		case err == io.EOF:
			s.complete = true
			return s.end()
		case err != nil:
			return s.broken(err)
		}
		data = bytes.TrimSpace(data)
		switch {
		case len(data) == 0:
			continue
		case string(data) == "[DONE]":
			s.complete = true
			return s.end()
		}
		if c, err := s.chunkOf(data); c != nil || err != nil {
			return c, err
		}
	}
}

// chunkOf returns what an upstream's chunk says, or nil if that is nothing.
func (s *stream) chunkOf(data []byte) (*engine.Chunk, error) {
	if text, ok := s.template.match(data); ok {
		*s.template.field = text
		s.counted = -1
		return &s.chunk, nil
	}
	wire := new(wireChunk)
	switch err := decode(data, wire); {
	case err != nil && s.events.cut:
		return s.broken(err)
	case err != nil:
		return nil, s.unavailable("the upstream sent what is no chunk", fmt.Errorf("decode a chunk: %w", err))
	}
	refused := s.refused(wire, data)
	if refused == nil && wire.Choices == nil && wire.Usage == nil && wire.Groq == nil {
		return nil, nil // a ping, or what else a server may think of
	}
	s.template.field = nil
	c := s.translate(wire)
	switch {
	case refused == nil:
		s.remember(wire, data)
	case c.Delta == nil:
		return nil, refused
	default: // the last words come first
		s.failure = refused
		c.FinishReason = completionv1.Finished_FINISH_REASON_UNSPECIFIED
	}
	return c, nil
}

// open sends the request and waits for the answer to begin.
func (s *stream) open() error {
	own, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	s.cancel, s.detach = cancel, context.AfterFunc(s.ctx, cancel)
	response, err := s.engine.ask(own, s.request)
	s.request = nil
	if err != nil {
		return s.engine.failed(s.ctx, err, s.question)
	}
	s.body, s.contentType = response.Body, response.Header.Get("Content-Type")
	s.events.r = response.Body
	first := s.events.first()
	if first == gzipMagic[0] { // which its header does not say (Wei-Shaw/claude-relay-service#1039)
		s.events = events{r: &unzipper{r: s.events.rest()}}
		first = s.events.first()
	}
	switch first {
	case '{', '[', '<': // no line of an event stream begins so
		return s.noStream(askedFor(response.Request))
	}
	return nil
}

// Close implements engine.Stream.
func (s *stream) Close() {
	switch {
	case s.cancel == nil: // nothing was sent
	case s.detach() && s.complete && !s.events.ended():
		s.engine.drain(s.body, s.cancel)
	default:
		if s.body != nil {
			s.body.Close()
		}
		s.cancel()
	}
}

// broken is for a stream that did not come to its own end.
func (s *stream) broken(err error) (*engine.Chunk, error) {
	switch {
	case s.ctx.Err() != nil:
		return nil, context.Cause(s.ctx)
	case errors.Is(err, errEventTooLong):
		return nil, s.unavailable("the upstream sent more in one event than can be taken", err)
	case s.reason != completionv1.Finished_FINISH_REASON_UNSPECIFIED: // the answer is complete: what is lost is the usage at most
		return s.end()
	}
	return nil, failure.New(failure.UpstreamTruncated, "the upstream broke off in the middle of its answer").
		WithCause(s.engine.cause("read the stream: " + err.Error()))
}

// refused returns the error that stands in a chunk, or nil.
func (s *stream) refused(wire *wireChunk, data []byte) error {
	if isError(json.RawMessage(wire.Error)) || wire.Object == "error" {
		return s.said(data)
	}
	if wire.Groq != nil && isError(json.RawMessage(wire.Groq.Error)) {
		return s.said(wire.Groq.Error.enclosed())
	}
	for i := range wire.Choices {
		c := &wire.Choices[i]
		if isError(json.RawMessage(c.Error)) {
			return s.said(c.Error.enclosed())
		}
		if reason := c.finishReason(); endOf(reason).failed {
			return s.unavailable("the upstream failed in the middle of its answer", errors.New("finish reason "+reason))
		}
	}
	return nil
}

// said returns the error that a body tells of in the upstream's words.
func (s *stream) said(body []byte) error {
	r := &refusal{status: 200, body: body}
	r.parse()
	return s.engine.refused(r, s.question)
}

func (s *stream) unavailable(message string, cause error) error {
	return failure.New(failure.UpstreamUnavailable, "%s", message).WithCause(s.engine.cause(cause.Error()))
}
