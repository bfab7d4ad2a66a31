// Package enginetest is the test suite of engine.Engine: Run tests an engine for all
// that the interface promises. It also has Script, a fake engine for the tests of other
// packages, which passes the suite itself.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// Config says how to test an engine.
type Config struct {
	// Open returns an engine whose completions are as wanted, and a request for one. What
	// it opens, it closes by t.Cleanup.
	Open func(t testing.TB, want Completion) (engine.Engine, *completionv1.CompletionRequest)

	// Abilities are what the completions can do besides sending texts and finishing. The
	// tests of other abilities are left out.
	Abilities Ability

	// MaxTexts is the number of texts that a completion may have, for an engine that takes
	// its time for each. Zero means any number.
	MaxTexts int
}

func (c Config) allows(texts int) bool { return c.MaxTexts == 0 || texts <= c.MaxTexts }

// An Ability is something that not every engine's completions can do.
type Ability int

const (
	Pauses Ability = 1 << iota // fall silent between two bursts, until resumed
	Cuts                       // end without a finish reason
	Fails                      // end with an error
	All    = Pauses | Cuts | Fails
)

// A Completion is what an engine under test is to produce. Its usage at the end counts
// each text as one token.
type Completion struct {
	// Bursts are the texts. Those of one burst are ready at once, or as soon as they can
	// be. Each text is one word, with a space before it.
	Bursts [][]string

	// Resume is received from before each burst but the first, by an engine that has the
	// ability Pauses. Until then it sends nothing. It may be nil: there are no pauses.
	Resume <-chan struct{}

	End End
}

// An End is how a completion ends.
type End int

const (
	Stop    End = iota // with STOP
	Length             // with LENGTH
	Cut                // without a finish reason
	Fail               // with an error
	Silence            // not at all, until its context is done; there is one text before
)

// patience is how long to wait for what must happen at once.
const patience = 20 * time.Second

// errGone is the cause of the contexts that tests cancel.
var errGone = errors.New("nobody reads any more")

// Run runs the suite. It takes some seconds.
func Run(t *testing.T, c Config) {
	for _, group := range []struct {
		name string
		can  Ability
		test func(*testing.T, Config)
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
		if group.can&c.Abilities == group.can {
			before := runtime.NumGoroutine()
			t.Run(group.name, func(t *testing.T) { group.test(t, c) })
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

// within fails the test unless f returns at once.
func within(t testing.TB, what string, f func()) {
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

// open returns the stream of a completion.
func open(t testing.TB, ctx context.Context, c Config, want Completion) engine.Stream {
	t.Helper()
	eng, req := c.Open(t, want)
	return eng.Generate(ctx, req)
}

// numbered returns n texts, each different.
func numbered(n int) []string {
	texts := make([]string, n)
	for i := range texts {
		texts[i] = fmt.Sprint(" ", i)
	}
	return texts
}

// readModes are the ways in which a stream can be read.
var readModes = []struct {
	name string
	wait func(chunks int) bool // the argument of the next call of Next, after so many chunks
}{
	{"waits always", func(int) bool { return true }},
	{"waits when it must", func(int) bool { return false }},
	{"waits for each 64th", func(chunks int) bool { return chunks%64 == 0 }},
	{"waits every other time", func(chunks int) bool { return chunks%2 == 0 }},
}
