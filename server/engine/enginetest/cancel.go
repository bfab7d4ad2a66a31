package enginetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// testCancelledBefore checks that nothing comes if the context is done at the start.
func testCancelledBefore(t *testing.T, c Config) {
	for _, wait := range []bool{true, false} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errGone)
		stream := open(t, ctx, c, Completion{Bursts: [][]string{numbered(3)}})
		within(t, "get the cause", func() {
			if c, err := stream.Next(wait); c != nil || err != errGone {
				t.Errorf("Next(%v) = %v, %v; want the cause of the context", wait, c, err)
			}
			stream.Close()
		})
	}
}

// testCancelledWithinABurst checks that nothing comes once the context is done, though
// more is ready.
func testCancelledWithinABurst(t *testing.T, c Config) {
	for _, taken := range []int{1, 2, 64, 65, 500} {
		for _, wait := range []bool{true, false} {
			if !c.allows(taken) {
				continue
			}
			t.Run(fmt.Sprintf("after %d chunks, wait %v", taken, wait), func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				stream := open(t, ctx, c, Completion{Bursts: [][]string{numbered(1000)}})
				defer stream.Close()
				within(t, "get the cause", func() {
					got := &outcome{}
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

// testCancelledWhileItWaits checks that a Next that waits returns when the context is
// done.
func testCancelledWhileItWaits(t *testing.T, c Config) {
	for range 20 {
		ctx, cancel := context.WithCancelCause(t.Context())
		stream := open(t, ctx, c, Completion{Bursts: [][]string{numbered(1)}, End: Silence})
		begun := make(chan struct{})
		done := make(chan *outcome, 1)
		go func() {
			got := &outcome{}
			for got.next(stream, true) {
				if got.text.Len() > 0 {
					close(begun)
				}
			}
			done <- got
		}()
		within(t, "read the first text", func() { <-begun })
		cancel(errGone)
		within(t, "get the cause", func() {
			if got := <-done; got.err != errGone || got.text.String() != numbered(1)[0] {
				t.Errorf("got %q, %v; want the cause of the context", got.text.String(), got.err)
			}
			stream.Close()
		})
	}
}

// testCauses checks the error for all ways in which a context can end.
func testCauses(t *testing.T, c Config) {
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
			stream := open(t, ctx, c, Completion{Bursts: [][]string{numbered(1)}, End: Silence})
			defer stream.Close()
			go end()
			var got *outcome
			within(t, "read to the end", func() { got = read(stream, readModes[0].wait) })
			if !errors.Is(got.err, tt.want) || len(got.violations) > 0 {
				t.Errorf("got %v, %v; want %v", got.err, got.violations, tt.want)
			}
		})
	}
}

// testCloseAnywhere closes streams at any point.
func testCloseAnywhere(t *testing.T, c Config) {
	for _, n := range []int{1, 100, 1000} {
		for _, taken := range []int{0, 1, 2, 50, 100, 101, 102, 103, 2000} {
			if !c.allows(n) {
				continue
			}
			stream := open(t, t.Context(), c, Completion{Bursts: [][]string{numbered(n)}})
			within(t, fmt.Sprintf("close after %d of %d chunks", taken, n), func() {
				got := &outcome{}
				for got.chunks < taken && got.next(stream, got.chunks%2 == 0) {
				}
				stream.Close()
			})
		}
	}
	if c.Abilities&Cuts != 0 {
		readAll(t, c, Completion{Bursts: [][]string{numbered(3)}, End: Cut}, readModes[0].wait)
	}
	if c.Abilities&Fails != 0 {
		readAll(t, c, Completion{Bursts: [][]string{numbered(3)}, End: Fail}, readModes[0].wait)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := open(t, ctx, c, Completion{Bursts: [][]string{numbered(1)}, End: Silence})
	within(t, "close while it is silent", func() {
		got := &outcome{}
		for got.text.Len() == 0 && got.next(stream, true) {
		}
		stream.Close()
	})
}

// testCloseAfterCancel closes streams whose context is done, before and after Next has
// returned that.
func testCloseAfterCancel(t *testing.T, c Config) {
	for _, taken := range []int{0, 1, 70} {
		for _, read := range []bool{false, true} {
			ctx, cancel := context.WithCancelCause(t.Context())
			stream := open(t, ctx, c, Completion{Bursts: [][]string{numbered(200)}})
			within(t, "close", func() {
				got := &outcome{}
				for got.chunks < taken && got.next(stream, true) {
				}
				cancel(errGone)
				if read {
					_, _ = stream.Next(true)
				}
				stream.Close()
			})
		}
	}
}
