package enginetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/engine"
)

// testCancelledBefore checks that nothing comes when it is too late to begin.
func testCancelledBefore(t *testing.T, s Subject) {
	for _, wait := range []bool{true, false} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errGone)
		stream := open(t, ctx, s, Play{Bursts: [][]string{words(3)}})
		soon(t, "get the cause", func() {
			if c, err := stream.Next(wait); c != nil || err != errGone {
				t.Errorf("Next(%v) = %v, %v; want the cause of the context", wait, c, err)
			}
			stream.Close()
		})
	}
}

// testCancelledWithinABurst checks that nothing comes any more, though more is ready.
func testCancelledWithinABurst(t *testing.T, s Subject) {
	for _, taken := range []int{1, 2, 64, 65, 500} {
		for _, wait := range []bool{true, false} {
			if !s.says(taken) {
				continue
			}
			t.Run(fmt.Sprintf("after %d chunks, wait %v", taken, wait), func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				stream := open(t, ctx, s, Play{Bursts: [][]string{words(1000)}})
				defer stream.Close()
				soon(t, "get the cause", func() {
					got := &told{}
					for got.chunks < taken && got.next(stream, true) {
					}
					cancel(errGone)
					if c, err := stream.Next(wait); got.err != nil || c != nil || err != errGone {
						t.Errorf("%v; then Next = %v, %v; want the cause of the context", got.err, c, err)
					}
				})
			})
		}
	}
}

// testCancelledWhileItWaits checks that Next returns when its context is done.
func testCancelledWhileItWaits(t *testing.T, s Subject) {
	for range 20 {
		ctx, cancel := context.WithCancelCause(t.Context())
		stream := open(t, ctx, s, Play{Bursts: [][]string{words(1)}, End: Silence})
		said := make(chan struct{})
		done := make(chan *told, 1)
		go func() {
			got := &told{}
			for got.next(stream, true) {
				if got.text.Len() > 0 {
					close(said)
				}
			}
			done <- got
		}()
		soon(t, "hear something", func() { <-said })
		cancel(errGone)
		soon(t, "get the cause", func() {
			if got := <-done; got.err != errGone || got.text.String() != words(1)[0] {
				t.Errorf("got %q, %v; want the cause of the context", got.text.String(), got.err)
			}
			stream.Close()
		})
	}
}

// testCauses ends contexts in all ways that there are.
func testCauses(t *testing.T, s Subject) {
	for _, tt := range []struct {
		name string
		ctx  func(context.Context) (context.Context, func())
		want error
	}{
		{"cancelled", func(ctx context.Context) (context.Context, func()) { return context.WithCancel(ctx) }, context.Canceled},
		{"deadline", func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
			return ctx, func() { <-ctx.Done(); cancel() }
		}, context.DeadlineExceeded},
		{"deadline with a cause", func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithTimeoutCause(ctx, time.Millisecond, errGone)
			return ctx, func() { <-ctx.Done(); cancel() }
		}, errGone},
		{"a cause further up", func(ctx context.Context) (context.Context, func()) {
			above, cancel := context.WithCancelCause(ctx)
			ctx, cancelBelow := context.WithCancel(above)
			return ctx, func() { cancel(errGone); cancelBelow() }
		}, errGone},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, end := tt.ctx(t.Context())
			stream := open(t, ctx, s, Play{Bursts: [][]string{words(1)}, End: Silence})
			defer stream.Close()
			go end()
			var got *told
			soon(t, "read to the end", func() { got = read(stream, ways[0].wait) })
			if !errors.Is(got.err, tt.want) || len(got.mistakes) > 0 {
				t.Errorf("got %v, %v; want %v", got.err, got.mistakes, tt.want)
			}
		})
	}
}

// testCloseAnywhere closes streams before, within and after what they say.
func testCloseAnywhere(t *testing.T, s Subject) {
	for _, n := range []int{1, 100, 1000} {
		for _, taken := range []int{0, 1, 2, 50, 100, 101, 102, 103, 2000} {
			if !s.says(n) {
				continue
			}
			stream := open(t, t.Context(), s, Play{Bursts: [][]string{words(n)}})
			soon(t, fmt.Sprintf("close after %d of %d chunks", taken, n), func() {
				got := &told{}
				for got.chunks < taken && got.next(stream, got.chunks%2 == 0) {
				}
				stream.Close()
			})
		}
	}
	if s.Can&Cuts != 0 {
		closeAfter(t, open(t, t.Context(), s, Play{Bursts: [][]string{words(3)}, End: Cut}))
	}
	if s.Can&Fails != 0 {
		closeAfter(t, open(t, t.Context(), s, Play{Bursts: [][]string{words(3)}, End: Fail}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := open(t, ctx, s, Play{Bursts: [][]string{words(1)}, End: Silence})
	soon(t, "close while it is silent", func() {
		got := &told{}
		for got.text.Len() == 0 && got.next(stream, true) {
		}
		stream.Close()
	})
}

func closeAfter(t testing.TB, s engine.Stream) {
	t.Helper()
	soon(t, "close after the end", func() {
		read(s, ways[0].wait)
		s.Close()
	})
}

// testCloseAfterCancel closes streams whose context is done, before and after they
// have said so.
func testCloseAfterCancel(t *testing.T, s Subject) {
	for _, taken := range []int{0, 1, 70} {
		for _, asks := range []bool{false, true} {
			ctx, cancel := context.WithCancelCause(t.Context())
			stream := open(t, ctx, s, Play{Bursts: [][]string{words(200)}})
			soon(t, "close", func() {
				got := &told{}
				for got.chunks < taken && got.next(stream, true) {
				}
				cancel(errGone)
				if asks {
					_, _ = stream.Next(true)
				}
				stream.Close()
			})
		}
	}
}
