// Package echo is the embedded engine: it streams the prompt, or what the user
// said last, back word by word. It needs nothing and is deterministic, so it
// shows and tests all that is around it.
//
// A word is its token: white space before it belongs to it.
package echo

import (
	"context"
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
func (e *Engine) Generate(ctx context.Context, req *completionv1.CompletionRequest, emit func(*engine.Chunk) error) error {
	text, usage := input(req)
	for _, stop := range req.GetStop() {
		text, _, _ = strings.Cut(text, stop)
	}
	finish := completionv1.Finished_STOP

	chunk := engine.Chunk{Model: "echo"}
	if err := emit(&chunk); err != nil {
		return err
	}
	delta := &completionv1.Delta{}
	pause := newPause(e.Interval)
	defer pause.stop()
	for len(text) > 0 {
		if req.MaxTokens != nil && usage.CompletionTokens == req.GetMaxTokens() {
			finish = completionv1.Finished_LENGTH
			break
		}
		if err := pause.wait(ctx); err != nil {
			return err
		}
		n := wordLen(text)
		delta.Text, text = text[:n], text[n:]
		count(usage, 0, 1)
		chunk = engine.Chunk{Delta: delta, Usage: usage}
		if err := emit(&chunk); err != nil {
			return err
		}
	}
	return emit(&engine.Chunk{FinishReason: finish, Usage: usage})
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
		for _, p := range m.GetParts() {
			said += p.GetText()
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

// pause waits for the interval between words, with one timer for a completion.
type pause struct {
	interval time.Duration
	timer    *time.Timer
}

func newPause(interval time.Duration) *pause { return &pause{interval: interval} }

// wait returns the cause of ctx when that is done before or while it waits. The
// first wait is over at once.
func (p *pause) wait(ctx context.Context) error {
	switch {
	case p.interval <= 0:
	case p.timer == nil:
		p.timer = time.NewTimer(p.interval)
	default:
		select {
		case <-p.timer.C:
			p.timer.Reset(p.interval)
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (p *pause) stop() {
	if p.timer != nil {
		p.timer.Stop()
	}
}
