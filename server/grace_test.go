package server

import (
	"context"
	"testing"
	"time"
)

// TestGraceAnew has a grace end while a reader comes, who leaves again at once: the run has
// the grace of that one, and not the end of the first.
func TestGraceAnew(t *testing.T) {
	r := &run{readers: 1, grace: time.Microsecond}
	r.ctx, r.cancel = context.WithCancelCause(t.Context())
	r.mu.Lock()
	r.count(-1)
	time.Sleep(20 * time.Millisecond) // the grace is over: what is to end the run waits for the lock
	r.grace = time.Hour
	r.count(1)
	r.count(-1)
	second := r.leaving
	r.mu.Unlock()
	time.Sleep(20 * time.Millisecond)
	if err := context.Cause(r.ctx); err != nil {
		t.Errorf("it is ended: %v", err)
	}
	r.mu.Lock()
	r.abandon(second)
	r.mu.Unlock()
	if err := context.Cause(r.ctx); err != errAbandoned {
		t.Errorf("when the second grace is over: %v", err)
	}
	second.Stop()
}
