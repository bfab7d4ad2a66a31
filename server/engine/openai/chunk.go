package openai

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

// stream makes the chunks of one completion from the events of its upstream. It is
// an engine.Stream.
//
// What each chunk needs comes first and together, for the processor's cache.
type stream struct {
	request *completionv1.CompletionRequest // until it is sent
	again   *string                         // the text in delta, when all else in chunk is as in any like it
	chunk   engine.Chunk                    // used again for each chunk, as are delta and wire
	events  events
	wire    wireChunk
	delta   completionv1.Delta

	engine   *Engine
	ctx      context.Context
	question question
	complete bool // it came to its own end
	finished bool // there was a finish reason
	calls    callIndex

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
	if s.request != nil {
		switch {
		case s.ctx.Err() != nil:
			return nil, context.Cause(s.ctx)
		case !wait:
			return nil, nil
		}
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
			return nil, io.EOF
		case err != nil:
			return nil, s.broken(err)
		}
		data = bytes.TrimSpace(data)
		switch {
		case len(data) == 0:
			continue
		case string(data) == "[DONE]":
			s.complete = true
			return nil, io.EOF
		}
		like, err := decode(data, &s.wire)
		switch {
		case like && s.again != nil && *s.wire.text(s.wire.last.field) != "":
			*s.again = *s.wire.text(s.wire.last.field)
			return &s.chunk, nil
		case err != nil && s.events.cut:
			return nil, s.broken(err)
		case err != nil:
			return nil, s.unavailable("the upstream sent what is no chunk", fmt.Errorf("decode a chunk: %w", err))
		}
		if err := s.refused(&s.wire, data); err != nil {
			return nil, err
		}
		if s.wire.Choices == nil && s.wire.Usage == nil {
			continue // a ping, or what else a server may think of
		}
		return s.translate(&s.wire), nil
	}
}

// open sends the request and waits for the answer to begin.
func (s *stream) open() error {
	own, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	s.cancel, s.detach = cancel, context.AfterFunc(s.ctx, cancel)
	response, err := s.engine.send(own, s.request)
	s.request = nil
	if err != nil {
		return s.engine.failed(s.ctx, err, s.question)
	}
	s.body, s.contentType = response.Body, response.Header.Get("Content-Type")
	s.events.r = response.Body
	switch s.events.first() {
	case '{', '[', '<': // no line of an event stream begins so
		return s.noStream()
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
func (s *stream) broken(err error) error {
	switch {
	case s.ctx.Err() != nil:
		return context.Cause(s.ctx)
	case errors.Is(err, errEventTooLong):
		return s.unavailable("the upstream sent more in one event than can be taken", err)
	case s.finished: // the answer is complete: what is lost is the usage at most
		return io.EOF
	}
	return failure.New(failure.UpstreamTruncated, "the upstream broke off in the middle of its answer").
		WithCause(s.engine.cause("read the stream: " + err.Error()))
}

// noStream is for a success that is not an event stream: an error under a status
// of 200, a whole completion from a server that does not stream, a page of a
// proxy's.
func (s *stream) noStream() error {
	body, err := io.ReadAll(io.LimitReader(s.events.rest(), maxErrorBody))
	if err != nil {
		return s.broken(err)
	}
	said := &refusal{status: 200, body: body}
	if said.parse() {
		return s.engine.refused(said, s.question)
	}
	// The body may hold the text of a completion, which is not for the log.
	return s.unavailable("the upstream answered without streaming", fmt.Errorf("content type %q", s.contentType))
}

// refused returns the error that stands in a chunk, or nil.
func (s *stream) refused(wire *wireChunk, data []byte) error {
	if isError(wire.Error) || wire.Object == "error" {
		said := &refusal{status: 200, body: data}
		said.parse()
		return s.engine.refused(said, s.question)
	}
	for _, c := range wire.Choices {
		switch c.FinishReason {
		case "error", "insufficient_system_resource": // OpenRouter; DeepSeek
			return s.unavailable("the upstream failed in the middle of its answer", errors.New("finish reason "+c.FinishReason))
		}
	}
	return nil
}

func (s *stream) unavailable(message string, cause error) error {
	return failure.New(failure.UpstreamUnavailable, "%s", message).WithCause(s.engine.cause(cause.Error()))
}

// translate returns a chunk that holds until the next call. There is one choice,
// as only one is asked for.
func (s *stream) translate(wire *wireChunk) *engine.Chunk {
	s.chunk = engine.Chunk{Model: wire.Model, Usage: usageOf(wire.Usage)}
	d := &s.delta
	d.Text, d.Reasoning, d.Refusal, d.ToolCalls = "", "", "", d.ToolCalls[:0]
	for i := range wire.Choices {
		c := &wire.Choices[i]
		if c.Index != 0 {
			continue
		}
		d.Text += c.Text
		if c.Delta != nil {
			s.add(c.Delta)
		} else if c.Message != nil {
			s.add(c.Message)
		}
		if reason := finishReasonOf(c.FinishReason); reason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
			s.chunk.FinishReason = reason
			s.finished = true
		}
	}
	if d.Text != "" || d.Reasoning != "" || d.Refusal != "" || len(d.ToolCalls) > 0 {
		s.chunk.Delta = d
	}
	s.again = s.onlyText(wire)
	return &s.chunk
}

// onlyText returns where in delta the text of a chunk has gone, if a chunk that
// differs in that text alone makes the same of all the rest.
func (s *stream) onlyText(wire *wireChunk) *string {
	field := wire.last.field
	if field == noText || s.chunk.Delta == nil {
		return nil
	}
	choice, d := &wire.Choices[0], wire.Choices[0].Delta
	switch {
	case field == legacyText && (d == nil || d.Content == ""), field == content && choice.Text == "":
		return &s.delta.Text
	case field == reasoningContent, field == reasoning && d.ReasoningContent == "":
		return &s.delta.Reasoning
	case field == refusalText:
		return &s.delta.Refusal
	}
	return nil
}

// add adds what an upstream's delta has to ours.
func (s *stream) add(w *wireDelta) {
	d := &s.delta
	d.Text += w.Content
	d.Refusal += w.Refusal
	if w.ReasoningContent != "" { // where both are there, they are the same
		d.Reasoning += w.ReasoningContent
	} else {
		d.Reasoning += w.Reasoning
	}
	for i := range w.ToolCalls {
		s.addCall(&w.ToolCalls[i])
	}
	if w.FunctionCall != nil {
		s.addCall(&wireToolCall{Index: proto.Int32(0), Function: *w.FunctionCall})
	}
}

func (s *stream) addCall(w *wireToolCall) {
	s.delta.ToolCalls = append(s.delta.ToolCalls, &completionv1.ToolCall{
		Index:     proto.Int32(s.calls.of(w)),
		Id:        w.ID,
		Name:      w.Function.Name,
		Arguments: w.Function.Arguments,
	})
}

// callIndex finds out to which call a piece without an index belongs.
type callIndex struct {
	last  int32  // the call of the piece before
	count int32  // one more than the highest index so far
	id    string // of the call last, where it has one
	named bool   // the call last has a name
}

// of returns the index of the call that a piece belongs to. Without one, a piece
// with a new id, or with a second name and no id, begins the next call; any other
// goes on with the last.
func (x *callIndex) of(w *wireToolCall) int32 {
	at := x.last
	switch {
	case w.Index != nil && *w.Index >= 0 && *w.Index < math.MaxInt32:
		at = *w.Index
	case x.count == 0: // the first is 0
	case w.ID != "" && w.ID != x.id, w.ID == "" && w.Function.Name != "" && x.named:
		at = x.count
	}
	if at != x.last {
		x.id, x.named = "", false
	}
	if w.ID != "" {
		x.id = w.ID
	}
	x.named = x.named || w.Function.Name != ""
	x.last, x.count = at, max(x.count, at+1)
	return at
}

// finishReasonOf knows OpenAI's finish reasons, and what servers that translate
// from others let through.
func finishReasonOf(reason string) completionv1.Finished_FinishReason {
	switch strings.ToLower(reason) {
	case "", "null": // some servers write null as a string
		return completionv1.Finished_FINISH_REASON_UNSPECIFIED
	case "stop", "eos", "end_turn", "stop_sequence":
		return completionv1.Finished_STOP
	case "length", "max_tokens", "model_length":
		return completionv1.Finished_LENGTH
	case "tool_calls", "function_call":
		return completionv1.Finished_TOOL_CALLS
	case "content_filter":
		return completionv1.Finished_CONTENT_FILTER
	}
	return completionv1.Finished_OTHER
}

// usageOf returns nil for a usage that is all zero: Ollama has one in every chunk
// of a legacy completion but the last.
func usageOf(w *wireUsage) *completionv1.Usage {
	if w == nil || *w == (wireUsage{}) {
		return nil
	}
	return &completionv1.Usage{
		PromptTokens:     count(w.PromptTokens),
		CompletionTokens: count(w.CompletionTokens),
		TotalTokens:      count(w.TotalTokens),
		ReasoningTokens:  count(w.CompletionTokensDetails.ReasoningTokens),
		CachedTokens:     count(w.PromptTokensDetails.CachedTokens),
	}
}

func count(n int64) int32 { return int32(min(max(n, 0), math.MaxInt32)) }
