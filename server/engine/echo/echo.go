// Package echo is the embedded engine: it streams the prompt, or the last message of the
// user, back word by word. It needs no model and is deterministic, so that everything
// around it can be shown and tested.
//
// Its tokens are words, each with the white space before it.
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

// Engine is an engine.Engine. The zero value is ready to use. It may be used by many
// goroutines at once.
type Engine struct {
	Interval time.Duration // between two words; 0: none
}

// Models implements engine.Engine. There is one model, "echo".
func (*Engine) Models(context.Context) ([]string, error) { return []string{"echo"}, nil }

// Generate implements engine.Engine. Of the parameters, stop and the limits of tokens
// count.
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
	limit    *int32 // of words; nil: none
	text     string // what is left
	usage    *completionv1.Usage
	interval time.Duration
	timer    *time.Timer // for the next word; nil before the first

	begun, ended bool
	chunk        engine.Chunk // reused for each chunk, as is delta
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
		if ok, err := s.isTime(wait); !ok {
			return nil, err
		}
		n := wordLen(s.text)
		s.delta.Text, s.text = s.text[:n], s.text[n:]
		addTokens(s.usage, 0, 1)
		s.chunk = engine.Chunk{Delta: &s.delta, Usage: s.usage}
	}
	return &s.chunk, nil
}

// end makes the last chunk.
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

// isTime tells whether it is time for the next word. If wait is true, it waits until it
// is.
func (s *stream) isTime(wait bool) (bool, error) {
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
		addTokens(usage, countWords(req.GetPrompt()), 0)
		return req.GetPrompt(), usage
	}
	var text string
	for _, m := range req.GetMessages() {
		content := m.GetContent()
		if len(m.GetParts()) > 0 {
			var parts strings.Builder
			for _, p := range m.GetParts() {
				parts.WriteString(p.GetText())
			}
			content = parts.String()
		}
		addTokens(usage, countWords(content), 0)
		if m.GetRole() == "user" {
			text = content
		}
	}
	return text, usage
}

// addTokens adds tokens to a usage.
func addTokens(u *completionv1.Usage, prompt, completion int32) {
	u.PromptTokens += prompt
	u.CompletionTokens += completion
	u.TotalTokens += prompt + completion
}

func countWords(s string) (n int32) {
	for ; len(s) > 0; n++ {
		s = s[wordLen(s):]
	}
	return n
}

// wordLen returns the length of the first word of s, with the white space before it.
// White space at the end of a text is a word, too.
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
