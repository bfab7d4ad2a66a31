package enginetest

import (
	"fmt"
	"io"
	"strings"
	"testing"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// outcome is what has been read of a stream.
type outcome struct {
	text       strings.Builder
	model      string
	finish     completionv1.Finished_FinishReason
	usage      *completionv1.Usage // kept, as a caller may
	chunks     int
	err        error    // that ended it
	violations []string // of the interface
}

// add adds a chunk. It keeps nothing of it but the usage.
func (got *outcome) add(c *engine.Chunk) {
	got.chunks++
	if c.Model != "" {
		got.model = strings.Clone(c.Model)
	}
	if got.finish != 0 && (c.Delta.GetText() != "" || c.FinishReason != 0) {
		got.violations = append(got.violations, fmt.Sprintf("chunk %d comes after the finish reason", got.chunks))
	}
	got.text.WriteString(c.Delta.GetText())
	if c.FinishReason != 0 {
		got.finish = c.FinishReason
	}
	if c.Usage != nil {
		if n := got.usage.GetCompletionTokens(); c.Usage.GetCompletionTokens() < n {
			got.violations = append(got.violations, fmt.Sprintf("the usage goes back from %d to %v", n, c.Usage))
		}
		got.usage = c.Usage
	}
}

// next reads one chunk, and tells whether there may be more.
func (got *outcome) next(s engine.Stream, wait bool) bool {
	c, err := s.Next(wait)
	if c == nil && err == nil {
		if wait {
			got.violations = append(got.violations, "Next returned nothing though it was to wait")
			return false
		}
		return got.next(s, true)
	}
	if err != nil {
		if c != nil {
			got.violations = append(got.violations, fmt.Sprintf("a chunk together with %v", err))
		}
		got.err = err
		return false
	}
	got.add(c)
	return true
}

// read reads a stream to its end.
func read(s engine.Stream, wait func(chunks int) bool) *outcome {
	got := &outcome{}
	for got.next(s, wait(got.chunks)) {
	}
	return got
}

// readAll reads a completion to its end, and closes its stream, within patience.
func readAll(t testing.TB, c Config, want Completion, wait func(chunks int) bool) (got *outcome) {
	t.Helper()
	s := open(t, t.Context(), c, want)
	within(t, "read a completion", func() {
		got = read(s, wait)
		s.Close()
	})
	return got
}

// check compares what has been read with a completion that finishes.
func (got *outcome) check(t testing.TB, want Completion, finish completionv1.Finished_FinishReason) {
	t.Helper()
	got.checkText(t, want)
	if got.err != io.EOF || got.finish != finish {
		t.Errorf("the end is %v, %v; want %v", got.err, got.finish, finish)
	}
	n := int32(want.texts())
	if u := got.usage; u.GetCompletionTokens() != n || u.GetTotalTokens() != u.GetPromptTokens()+n {
		t.Errorf("the usage is %v; want %d tokens", u, n)
	}
	if got.model == "" {
		t.Error("it names no model")
	}
}

func (got *outcome) checkText(t testing.TB, want Completion) {
	t.Helper()
	for _, violation := range got.violations {
		t.Error(violation)
	}
	if a, b := got.text.String(), want.text(); a != b {
		same := 0
		for same < min(len(a), len(b)) && a[same] == b[same] {
			same++
		}
		t.Errorf("%d bytes of text, want %d; from %d on: %.40q, want %.40q", len(a), len(b), same, a[same:], b[same:])
	}
}

func (c Completion) text() string {
	var b strings.Builder
	for _, burst := range c.Bursts {
		b.WriteString(strings.Join(burst, ""))
	}
	return b.String()
}

func (c Completion) texts() (n int) {
	for _, burst := range c.Bursts {
		n += len(burst)
	}
	return n
}
