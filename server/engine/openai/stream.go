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

// stream is an engine.Stream. It makes the chunks of one completion from the events of
// the upstream's answer.
//
// The fields that each chunk needs come first, for the processor's cache.
type stream struct {
	request   *completionv1.CompletionRequest // nil once it has been sent
	failure   error                           // what Next is to return from now on
	nextIndex lenientInt                      // of a choice, if its index counts the chunks; -1: it does not
	template  template
	chunk     engine.Chunk // reused for each chunk
	delta     completionv1.Delta
	events    eventReader

	engine *Engine
	ctx    context.Context
	info   requestInfo

	complete  bool                               // the upstream has ended the stream itself
	reason    completionv1.Finished_FinishReason // the last one, unless more of the answer came behind it
	hasDeltas bool                               // a message would repeat what came in deltas
	partials  partials
	calls     callTracker

	// The context of the exchange is cancelled with ctx, until drain takes over.
	detach      func() bool
	cancel      context.CancelFunc
	body        io.ReadCloser // nil: there is no answer
	contentType string        // as the upstream gave it
}

// Next implements engine.Stream. The stream ends with [DONE] or with the end of the
// body, whichever comes first.
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
		// Reading fails when the context is done, but some may have been read before.
		if s.events.hasUnused() && s.ctx.Err() != nil {
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
		if c, err := s.next(data); c != nil || err != nil {
			return c, err
		}
	}
}

// next returns the chunk that an event's data stands for, or nil for none.
func (s *stream) next(data []byte) (*engine.Chunk, error) {
	if text, ok := s.template.match(data); ok {
		*s.template.field = text
		s.nextIndex = -1
		return &s.chunk, nil
	}
	wire, err := decodeChunk(data)
	switch {
	case err != nil && s.events.cut:
		return s.broken(err)
	case err != nil:
		return nil, s.unavailable("the upstream sent what is no chunk", fmt.Errorf("decode a chunk: %w", err))
	}
	failed := s.errorIn(wire, data)
	if failed == nil && wire.Choices == nil && wire.Usage == nil && wire.Groq == nil {
		return nil, nil // a ping, or something else that is not of the answer
	}
	c := s.translate(wire)
	switch {
	case failed == nil:
		s.template.learn(wire, data, c)
	case c.Delta == nil:
		return nil, failed
	default: // first the text, then the error
		s.failure = failed
		c.FinishReason = completionv1.Finished_FINISH_REASON_UNSPECIFIED
	}
	return c, nil
}

// open sends the request and waits for the answer to begin.
func (s *stream) open() error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	s.cancel, s.detach = cancel, context.AfterFunc(s.ctx, cancel)
	res, err := s.engine.negotiate(ctx, s.request)
	s.request = nil
	if err != nil {
		return s.engine.failureOf(s.ctx, err, s.info)
	}
	s.body, s.contentType = res.Body, res.Header.Get("Content-Type")
	s.events.r = res.Body
	first := s.events.peekByte()
	if first == gzipMagic[0] { // without a Content-Encoding (Wei-Shaw/claude-relay-service#1039)
		s.events.decompress()
		first = s.events.peekByte()
	}
	switch first {
	case '{', '[', '<': // no line of an event stream begins like this
		return s.readUnstreamed(requestLine(res.Request))
	}
	return nil
}

// Close implements engine.Stream.
func (s *stream) Close() {
	switch {
	case s.cancel == nil: // nothing was sent
	case s.detach() && s.complete && !s.events.atEOF():
		s.engine.drain(s.body, s.cancel)
	default:
		if s.body != nil {
			s.body.Close()
		}
		s.cancel()
	}
}

// end returns io.EOF, or before that a chunk with a replacement for each character of
// which only a part has come. That is not done at the finish reason, for some servers
// send one in each chunk.
func (s *stream) end() (*engine.Chunk, error) {
	d := &s.delta
	d.Text, d.Reasoning, d.Refusal = s.partials.text.flush(), s.partials.reasoning.flush(), s.partials.refusal.flush()
	d.ToolCalls, d.Parts, d.Logprobs, d.Extra = append(d.ToolCalls[:0], s.calls.flush()...), nil, nil, nil
	if s.reason == completionv1.Finished_FINISH_REASON_UNSPECIFIED || !hasContent(d) {
		return nil, io.EOF
	}
	s.failure = io.EOF
	s.chunk = engine.Chunk{Delta: d, FinishReason: s.reason}
	return &s.chunk, nil
}

// broken returns the end of a stream that the upstream has not ended itself.
func (s *stream) broken(err error) (*engine.Chunk, error) {
	switch {
	case s.ctx.Err() != nil:
		return nil, context.Cause(s.ctx)
	case errors.Is(err, errEventTooLong):
		return nil, s.unavailable("the upstream sent more in one event than can be taken", err)
	case s.reason != completionv1.Finished_FINISH_REASON_UNSPECIFIED: // only the usage may be missing
		return s.end()
	}
	return nil, failure.New(failure.UpstreamTruncated, "the upstream broke off in the middle of its answer").
		WithCause(s.engine.logCause("read the stream: " + err.Error()))
}

// errorIn returns the error that a chunk holds, or nil.
func (s *stream) errorIn(wire *wireChunk, data []byte) error {
	if isError(json.RawMessage(wire.Error)) || wire.Object == "error" {
		return s.upstreamError(data)
	}
	if wire.Groq != nil && isError(json.RawMessage(wire.Groq.Error)) {
		return s.upstreamError(wire.Groq.Error.asBody())
	}
	for i := range wire.Choices {
		c := &wire.Choices[i]
		if isError(json.RawMessage(c.Error)) {
			return s.upstreamError(c.Error.asBody())
		}
		if reason := c.finishReason(); parseFinish(reason).failed {
			return s.unavailable("the upstream failed in the middle of its answer", errors.New("finish reason "+reason))
		}
	}
	return nil
}

// upstreamError returns the failure that an error in the stream means.
func (s *stream) upstreamError(body []byte) error {
	upstream := &upstreamError{status: 200, body: body}
	upstream.parse()
	return s.engine.failureOfUpstream(upstream, s.info)
}

func (s *stream) unavailable(message string, cause error) error {
	return failure.New(failure.UpstreamUnavailable, "%s", message).WithCause(s.engine.logCause(cause.Error()))
}
