// Package enginetest holds what every engine.Engine promises against one: Run. It
// also has Script, the fake that the tests of other packages use in place of a real
// engine, and which passes Run as those do.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// A Subject is an engine that is tested.
type Subject struct {
	// Open returns the engine, whose completions do what the play says, and a request
	// for one. What it opens it closes with the test.
	Open func(t testing.TB, p Play) (engine.Engine, *completionv1.CompletionRequest)

	// What the engine's completions can do besides saying texts and finishing.
	// Whoever can do it is tested for it.
	Can Ability

	// For an engine that takes its time for each text: the most of them in a test.
	// Zero: there is no need for a limit.
	Most int
}

// says reports whether a completion may have so many texts.
func (s Subject) says(n int) bool { return s.Most == 0 || n <= s.Most }

// An Ability is something that not every engine's completions do.
type Ability int

// The abilities.
const (
	Pauses Ability = 1 << iota // fall silent between two bursts, until told to go on
	Cuts                       // end without a finish reason
	Fails                      // end with an error
	All    = Pauses | Cuts | Fails
)

// A Play is what a completion does. Its usage in the end counts each text as one token.
type Play struct {
	// The texts. Those of one burst are ready at once, or as soon as they can be. Each
	// is one word with a space before it.
	Bursts [][]string

	// A completion that pauses does so before each burst but the first, until it has
	// received from here; or it lasts, silent, until its context is done.
	GoOn <-chan struct{}

	// How it ends.
	End End
}

// An End is how a completion ends.
type End int

// The ends.
const (
	Stop    End = iota // with STOP
	Length             // with LENGTH
	Cut                // without a finish reason
	Fail               // with an error
	Silence            // not by itself; there is one text before
)

// patience is how long a test waits for what must happen at once.
const patience = 20 * time.Second

// errGone is the cause of the contexts that the tests end.
var errGone = errors.New("nobody reads any more")

// Run tests an engine.
func Run(t *testing.T, s Subject) {
	for _, group := range []struct {
		name string
		can  Ability
		test func(*testing.T, Subject)
	}{
		{"Bursts", 0, testBursts},
		{"Texts", 0, testTexts},
		{"Ends", 0, testEnds},
		{"Pauses", Pauses, testPauses},
		{"ChunkHolds", Pauses, testChunkHolds},
		{"NextDoesNotWait", 0, testNextDoesNotWait},
		{"CancelledBefore", 0, testCancelledBefore},
		{"CancelledWithinABurst", 0, testCancelledWithinABurst},
		{"CancelledWhileItWaits", 0, testCancelledWhileItWaits},
		{"Causes", 0, testCauses},
		{"CloseAnywhere", 0, testCloseAnywhere},
		{"CloseAfterCancel", 0, testCloseAfterCancel},
		{"ManyAtOnce", 0, testManyAtOnce},
		{"Interleaved", 0, testInterleaved},
		{"FromManyGoroutines", 0, testFromManyGoroutines},
	} {
		if group.can&s.Can == group.can {
			before := runtime.NumGoroutine()
			t.Run(group.name, func(t *testing.T) { group.test(t, s) })
			checkGoroutines(t, before)
		}
	}
}

// checkGoroutines waits until there are no more goroutines than before.
func checkGoroutines(t *testing.T, before int) {
	t.Helper()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// soon fails the test unless f returns at once.
func soon(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
}

// open begins a completion that does what the play says.
func open(t testing.TB, ctx context.Context, s Subject, p Play) engine.Stream {
	t.Helper()
	eng, req := s.Open(t, p)
	return eng.Generate(ctx, req)
}

// words returns n texts.
func words(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(" ", i)
	}
	return texts
}

// ways are those in which a stream can be read.
var ways = []struct {
	name string
	wait func(taken int) bool // whether to wait for the next chunk, when so many have been taken
}{
	{"waits always", func(int) bool { return true }},
	{"waits when it must", func(int) bool { return false }},
	{"takes turns of 64", func(taken int) bool { return taken%64 == 0 }},
	{"waits every other time", func(taken int) bool { return taken%2 == 0 }},
}

// told is what a stream has said.
type told struct {
	text     strings.Builder
	model    string
	finish   completionv1.Finished_FinishReason
	usage    *completionv1.Usage // kept, as a caller may
	chunks   int
	err      error // the end
	mistakes []string
}

// take notes a chunk, of which it keeps nothing but the usage.
func (got *told) take(c *engine.Chunk) {
	got.chunks++
	if c.Model != "" {
		got.model = strings.Clone(c.Model)
	}
	if got.finish != 0 && (c.Delta.GetText() != "" || c.FinishReason != 0) {
		got.mistakes = append(got.mistakes, fmt.Sprintf("chunk %d comes after the finish reason", got.chunks))
	}
	got.text.WriteString(c.Delta.GetText())
	if c.FinishReason != 0 {
		got.finish = c.FinishReason
	}
	if c.Usage != nil {
		if n := got.usage.GetCompletionTokens(); c.Usage.GetCompletionTokens() < n {
			got.mistakes = append(got.mistakes, fmt.Sprintf("the usage goes back from %d to %v", n, c.Usage))
		}
		got.usage = c.Usage
	}
}

// next takes one chunk, and reports whether the stream goes on.
func (got *told) next(s engine.Stream, wait bool) bool {
	c, err := s.Next(wait)
	if c == nil && err == nil {
		if wait {
			got.mistakes = append(got.mistakes, "Next has waited for nothing")
			return false
		}
		return got.next(s, true)
	}
	if err != nil {
		if c != nil {
			got.mistakes = append(got.mistakes, fmt.Sprintf("a chunk together with %v", err))
		}
		got.err = err
		return false
	}
	got.take(c)
	return true
}

// read reads a stream to its end.
func read(s engine.Stream, wait func(taken int) bool) *told {
	got := &told{}
	for got.next(s, wait(got.chunks)) {
	}
	return got
}

// readAll reads a stream to its end, and closes it, while the test watches.
func readAll(t testing.TB, s engine.Stream, wait func(taken int) bool) (got *told) {
	t.Helper()
	soon(t, "read a completion", func() {
		got = read(s, wait)
		s.Close()
	})
	return got
}

// check compares what a stream has said with what a play that finishes should.
func (got *told) check(t testing.TB, p Play, finish completionv1.Finished_FinishReason) {
	t.Helper()
	got.checkText(t, p)
	if got.err != io.EOF || got.finish != finish {
		t.Errorf("the end is %v, %v; want %v", got.err, got.finish, finish)
	}
	n := int32(p.texts())
	if u := got.usage; u.GetCompletionTokens() != n || u.GetTotalTokens() != u.GetPromptTokens()+n {
		t.Errorf("the usage is %v; want %d tokens", u, n)
	}
	if got.model == "" {
		t.Error("it names no model")
	}
}

func (got *told) checkText(t testing.TB, p Play) {
	t.Helper()
	for _, mistake := range got.mistakes {
		t.Error(mistake)
	}
	want := p.text()
	if said := got.text.String(); said != want {
		same := 0
		for same < min(len(said), len(want)) && said[same] == want[same] {
			same++
		}
		t.Errorf("%d bytes of text, want %d; from %d on: %.40q, want %.40q", len(said), len(want), same, said[same:], want[same:])
	}
}

func (p Play) text() string {
	var b strings.Builder
	for _, burst := range p.Bursts {
		b.WriteString(strings.Join(burst, ""))
	}
	return b.String()
}

func (p Play) texts() (n int) {
	for _, burst := range p.Bursts {
		n += len(burst)
	}
	return n
}

// clone is a copy of what a chunk says.
func clone(c *engine.Chunk) *completionv1.Delta { return proto.CloneOf(c.Delta) }
