package redis

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
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

// TestCloseWhileStoreHangs has the journal be closed, with readers and completions, while
// the store answers nothing.
func TestCloseWhileStoreHangs(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{URL: s.URL, Patience: 500 * time.Millisecond}
	a, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	var writers []journal.Writer
	var readers []journal.Reader
	for i := range 20 {
		w, _ := create(t, a, fmt.Sprint("c", i))
		add(t, w, 1, 2)
		r, err := b.Follow(soon(t), fmt.Sprint("c", i), 0)
		if err != nil {
			t.Fatal(err)
		}
		writers, readers = append(writers, w), append(readers, r)
	}
	s.Signal(syscall.SIGSTOP)
	began := time.Now()
	var all sync.WaitGroup
	for _, w := range writers {
		all.Go(func() { end(t, w, 3) })
	}
	for _, r := range readers {
		all.Go(r.Close)
	}
	all.Wait()
	a.Close()
	b.Close()
	took := time.Since(began)
	s.Signal(syscall.SIGCONT)
	if took > 10*time.Second {
		t.Errorf("it takes %v", took)
	}
	t.Log(took)
}
