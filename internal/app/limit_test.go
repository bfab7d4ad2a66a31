package app

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
)

// TestDecodeLimit checks that large requests wait for each other, for as long as their
// callers do, and that small ones do not wait for them.
func TestDecodeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxBody = 4 << 20
		limit := newDecodeLimit(maxBody)
		acquire := func(ctx context.Context, bytes int) (acquired chan func()) {
			acquired = make(chan func(), 1)
			go func() {
				if release, err := limit(ctx, bytes); err == nil {
					acquired <- release
				} else {
					close(acquired)
				}
			}()
			synctest.Wait()
			return acquired
		}
		// More than all there is, as protobuf may have, is as much as there is.
		first := <-acquire(t.Context(), 2*maxBody*max(1, runtime.GOMAXPROCS(0)))
		ctx, cancel := context.WithCancel(t.Context())
		gone, second := acquire(ctx, maxBody), acquire(t.Context(), smallRequest+1)
		var small chan func()
		for range smallTotal / smallRequest {
			if small = acquire(t.Context(), smallRequest); len(small) != 1 {
				t.Fatal("a small one waits for a large one")
			}
		}
		last := acquire(t.Context(), smallRequest)
		if len(gone)+len(second)+len(last) != 0 {
			t.Fatal("there is more than the limit")
		}
		cancel()
		if _, ok := <-gone; ok {
			t.Error("one whose caller has gone was let in")
		}
		first()
		(<-second)()
		(<-small)()
		(<-last)()
	})
}
