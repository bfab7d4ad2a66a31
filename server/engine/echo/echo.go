// Package echo is the embedded engine: it streams the prompt, or what the user
// said last, back word by word. It needs nothing and is deterministic, so it
// shows and tests all that is around it.
//
// A word is its token: white space before it belongs to it.
package echo

import (
	"cmp"
	"context"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// Engine is an engine.Engine. The zero value is ready to use and echoes as fast
// as it can.
type Engine struct {
	Interval time.Duration // between two words; default 0
}

// Models implements engine.Engine.
func (*Engine) Models(context.Context) ([]string, error) { return []string{"echo"}, nil }

// Generate implements engine.Engine.
func (e *Engine) Generate(ctx context.Context, req *completionv1.CompletionRequest) engine.Stream {
	s := &stream{ctx: ctx, limit: cmp.Or(req.MaxTokens, req.MaxCompletionTokens), interval: e.Interval}
	s.text, s.usage = input(req)
	for _, stop := range req.GetStop() {
		s.text, _, _ = strings.Cut(s.text, stop)
	}
	return s
}

// stream is an engine.Stream.
type stream struct {
	ctx      context.Context
	limit    *int32 // of its words; nil: none
	text     string // what is left of it
	usage    *completionv1.Usage
	interval time.Duration
	timer    *time.Timer // runs from the first word on, if there is an interval

	begun, ended bool
	chunk        engine.Chunk // the two are used again for each chunk
	delta        completionv1.Delta
}

// Next implements engine.Stream.
func (s *stream) Next(wait bool) (*engine.Chunk, error) {
	s.chunk = engine.Chunk{}
	switch {
	case s.ctx.Err() != nil:
		return nil, context.Cause(s.ctx)
	case s.ended:
		return nil, io.EOF
	case !s.begun:
		s.begun = true
		s.chunk.Model = "echo"
	case s.text == "":
		s.end(completionv1.Finished_STOP)
	case s.limit != nil && s.usage.CompletionTokens == *s.limit:
		s.end(completionv1.Finished_LENGTH)
	default:
		if ok, err := s.pause(wait); !ok {
			return nil, err
		}
		n := wordLen(s.text)
		s.delta.Text, s.text = s.text[:n], s.text[n:]
		count(s.usage, 0, 1)
		s.chunk = engine.Chunk{Delta: &s.delta, Usage: s.usage}
	}
	return &s.chunk, nil
}

func (s *stream) end(reason completionv1.Finished_FinishReason) {
	s.ended = true
	s.chunk = engine.Chunk{FinishReason: reason, Usage: s.usage}
}

// Close implements engine.Stream.
func (s *stream) Close() {
	if s.timer != nil {
		s.timer.Stop()
	}
}

// pause reports whether it is time for the next word, and waits for that if it is
// to. The first word's time is at once.
func (s *stream) pause(wait bool) (bool, error) {
	switch {
	case s.interval <= 0:
		return true, nil
	case s.timer == nil:
		s.timer = time.NewTimer(s.interval)
		return true, nil
	case !wait:
		return false, nil
	}
	select {
	case <-s.timer.C:
		s.timer.Reset(s.interval)
		return true, nil
	case <-s.ctx.Done():
		return false, context.Cause(s.ctx)
	}
}

// input returns the text to echo, and the usage with the prompt counted.
func input(req *completionv1.CompletionRequest) (string, *completionv1.Usage) {
	usage := &completionv1.Usage{}
	if req.Prompt != nil {
		count(usage, words(req.GetPrompt()), 0)
		return req.GetPrompt(), usage
	}
	var text string
	for _, m := range req.GetMessages() {
		said := m.GetContent()
		if len(m.GetParts()) > 0 {
			var parts strings.Builder
			for _, p := range m.GetParts() {
				parts.WriteString(p.GetText())
			}
			said = parts.String()
		}
		count(usage, words(said), 0)
		if m.GetRole() == "user" {
			text = said
		}
	}
	return text, usage
}

// count adds tokens to a usage.
func count(u *completionv1.Usage, prompt, completion int32) {
	u.PromptTokens += prompt
	u.CompletionTokens += completion
	u.TotalTokens += prompt + completion
}

func words(s string) (n int32) {
	for ; len(s) > 0; n++ {
		s = s[wordLen(s):]
	}
	return n
}

// wordLen returns the length of the first word of s and the white space before
// it. White space at the end of a text is a word.
func wordLen(s string) int {
	inWord := false
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if space := unicode.IsSpace(r); !space {
			inWord = true
		} else if inWord {
			return i
		}
		i += size
	}
	return len(s)
}
