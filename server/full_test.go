package server

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// TestFullJournalFailsNothingThatRuns begins far more than there is room for, at once.
// Some are refused, before anything is paid for; none of the others fails.
func TestFullJournalFailsNothingThatRuns(t *testing.T) {
	const begun = 200
	word := strings.Repeat("x", 120)
	var paid, refused atomic.Int64
	f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
		paid.Add(1)
		for range 15 { // together, all but 30 KiB, of which an eighth of the journal has room
			if err := emit(text(word), text(word), text(word), text(word), text(word), text(word), text(word), text(word)); err != nil {
				return err
			}
			time.Sleep(time.Millisecond) // they grow together
		}
		return emit(stopped)
	}), func(c *Config) { c.Journal = memory.New(memory.Config{Bytes: 256 << 10}) })
	var all sync.WaitGroup
	for range begun {
		all.Go(func() {
			s, err := f.client.StreamCompletion(t.Context(), prompt("x"))
			var length int
			for err == nil {
				var e *completionv1.CompletionEvent
				e, err = s.Recv()
				length += len(e.GetDelta().GetText())
			}
			switch {
			case err == io.EOF && length == 15*8*len(word):
			case reason(err) == failure.Overloaded && length == 0:
				refused.Add(1)
			default:
				t.Errorf("after %d bytes of %d: %v", length, 15*8*len(word), err)
			}
		})
	}
	all.Wait()
	t.Logf("%d of %d refused", refused.Load(), begun)
	if paid.Load()+refused.Load() != begun || refused.Load() == 0 {
		t.Errorf("%d went upstream, %d were refused, of %d", paid.Load(), refused.Load(), begun)
	}
}

// TestWaitingForRoom has a completion wait for the room that another one takes, for
// longer than an upstream may be silent: it is not the upstream that is late.
func TestWaitingForRoom(t *testing.T) {
	for _, tt := range []struct {
		name string
		then func(t *testing.T, f *fixture, oldest, waits string)
		want string
	}{
		{"the other ends", func(t *testing.T, f *fixture, oldest, _ string) {
			_, _ = f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: oldest})
		}, "STOP"},
		{"it is cancelled", func(t *testing.T, f *fixture, _, waits string) {
			_, _ = f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: waits})
		}, "CANCELLED"},
		{"the other goes on", func(*testing.T, *fixture, string, string) {}, "STOP"}, // until its time is over
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := true
				f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
					isFirst := first
					for first = false; isFirst; {
						if err := emit(begun); err != nil {
							return err
						}
						select {
						case <-time.After(time.Second):
						case <-ctx.Done():
							return context.Cause(ctx)
						}
					}
					return play(nil, begun, text(strings.Repeat("x", 30<<10)), stopped)(ctx, emit)
				}), func(c *Config) {
					c.Journal = memory.New(memory.Config{Bytes: 34 << 10})
					c.IdleTimeout, c.TotalTimeout = time.Minute, 2*time.Hour
				})
				oldest, other := f.stream(t, t.Context(), prompt("x"))
				if _, err := other.Recv(); err != nil {
					t.Fatal(err)
				}
				var others sync.WaitGroup
				defer others.Wait()
				defer f.server.Close()
				others.Go(func() { _, _ = read(other) })
				time.Sleep(time.Minute)
				waits, s := f.stream(t, t.Context(), prompt("x"))
				others.Go(func() {
					time.Sleep(10 * time.Minute)
					tt.then(t, f, oldest, waits)
				})
				var last string
				var err error
				for err == nil {
					var e *completionv1.CompletionEvent
					if e, err = s.Recv(); err == nil {
						last = word(e)
					}
				}
				if last != tt.want || err != io.EOF {
					t.Errorf("got %.40q, %v", last, err)
				}
			})
		})
	}
}

// TestPartOfABatchGoesFirst has the journal take a part of what has come at once: its
// reader has that, and waits for the rest alone.
func TestPartOfABatchGoesFirst(t *testing.T) {
	long := strings.Repeat("x", 30<<10)
	for _, tt := range []struct {
		name string
		then func(t *testing.T, f *fixture, oldest, waits string)
		want string
	}{
		{"the other ends", func(t *testing.T, f *fixture, oldest, _ string) {
			_, _ = f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: oldest})
		}, "4:" + long + " 5:c 6:STOP"},
		{"it is cancelled", func(t *testing.T, f *fixture, _, waits string) {
			_, _ = f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: waits})
		}, "4:CANCELLED"},
	} {
		for _, second := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, another one reads: %v", tt.name, second), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					engines := []script{silent(begun), atOnce(nil, begun, text("a"), text("b"), text(long), text("c"), stopped)}
					f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
						next := engines[0]
						engines = engines[1:]
						return next(ctx, emit)
					}), func(c *Config) { c.Journal = memory.New(memory.Config{Bytes: 34 << 10}) })
					oldest, other := f.stream(t, t.Context(), prompt("x"))
					go func() { _, _ = read(other) }()
					synctest.Wait()
					waits, s := f.stream(t, t.Context(), prompt("x"))
					for _, want := range []string{"created", "a", "b"} {
						if e, err := s.Recv(); err != nil || word(e) != want {
							t.Fatalf("got %v, %v; want %s", e, err, want)
						}
					}
					ends := make(chan string, 1)
					if second {
						s := f.resume(t, t.Context(), waits, 3)
						go func() {
							got, _ := read(s)
							ends <- got
						}()
					}
					time.Sleep(time.Second)
					tt.then(t, f, oldest, waits)
					if got, err := read(s); got != tt.want || err != nil {
						t.Errorf("got %.40q, %v", got, err)
					}
					if second {
						if got := <-ends; got != tt.want {
							t.Errorf("the other one got %.40q", got)
						}
					}
					f.server.Close()
				})
			})
		}
	}
}
