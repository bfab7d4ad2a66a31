package redis

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// TestLaterWhileClosing has what nobody waits for begin while the journal is closed: Close
// waits for it, or it does not begin. The race detector sees a WaitGroup that is used wrong.
func TestLaterWhileClosing(t *testing.T) {
	s := testbed.StartRedis(t)
	for range 10 {
		j, err := New(Config{URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				j.later(func(context.Context) {})
				if n%2 == 0 { // the store comes back
					j.outage.mu.Lock()
					j.outage.gone = true
					j.outage.mu.Unlock()
					j.observe(context.Background(), time.Now(), nil, true)
				}
				time.Sleep(time.Microsecond)
			}
		})
		time.Sleep(time.Millisecond)
		j.Close()
		close(done)
		all.Wait()
	}
}
