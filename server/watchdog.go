package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sluice-sse/sluice/server/failure"
)

// watchdog cancels a run that waits too long for its upstream: first for the
// first chunk, then for each next one. It has one timer, which is not touched for
// each chunk: when it goes off, it looks how long ago the last chunk was.
//
// Only chunks feed it. Comments with which an upstream keeps its connection open
// do not (maximhq/bifrost#6784).
type watchdog struct {
	cancel      context.CancelCauseFunc
	first, idle time.Duration
	start       time.Time
	last        atomic.Int64 // when the last chunk came, in ns since start, plus 1; 0: none yet
	timer       *time.Timer
}

func newWatchdog(cancel context.CancelCauseFunc, first, idle time.Duration) *watchdog {
	w := &watchdog{cancel: cancel, first: first, idle: idle, start: time.Now()}
	w.timer = time.AfterFunc(first, w.bark)
	return w
}

func (w *watchdog) feed() {
	if w.last.Swap(int64(time.Since(w.start))+1) == 0 {
		w.timer.Reset(w.idle)
	}
}

func (w *watchdog) stop() { w.timer.Stop() }

func (w *watchdog) bark() {
	last := w.last.Load()
	if last == 0 {
		w.cancel(failure.New(failure.FirstTokenTimeout, "the upstream did not begin to answer within %v", w.first))
		return
	}
	if left := w.idle - (time.Since(w.start) - time.Duration(last-1)); left > 0 {
		w.timer.Reset(left)
		return
	}
	w.cancel(failure.New(failure.IdleTimeout, "the upstream fell silent for %v", w.idle))
}
