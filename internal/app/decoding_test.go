package app

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
)

// TestRoom checks that large requests wait for each other, for as long as their
// callers do, and that small ones do not wait for them.
func TestRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxBody = 4 << 20
		room := newRoom(maxBody)
		enter := func(ctx context.Context, bytes int) (entered chan func()) {
			entered = make(chan func(), 1)
			go func() {
				if leave, err := room(ctx, bytes); err == nil {
					entered <- leave
				} else {
					close(entered)
				}
			}()
			synctest.Wait()
			return entered
		}
		// More than all there is, as protobuf may have, is as much as there is.
		first := <-enter(t.Context(), 2*maxBody*max(1, runtime.GOMAXPROCS(0)))
		ctx, cancel := context.WithCancel(t.Context())
		gone, second := enter(ctx, maxBody), enter(t.Context(), smallBody+1)
		var small chan func()
		for range smallTotal / smallBody {
			if small = enter(t.Context(), smallBody); len(small) != 1 {
				t.Fatal("a small one waits for a large one")
			}
		}
		last := enter(t.Context(), smallBody)
		if len(gone)+len(second)+len(last) != 0 {
			t.Fatal("there was room for more than there is")
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
