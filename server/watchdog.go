package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sluice-sse/sluice/server/failure"
)

// watchdog cancels a run that waits too long for its upstream: first for the
// first chunk, then for each next one, and for the end. It has one timer, which is
// not touched for each chunk: when it goes off, it looks how long ago the last
// chunk was.
//
// Only chunks feed it. Comments with which an upstream keeps its connection open
// do not (maximhq/bifrost#6784).
type watchdog struct {
	last   atomic.Int64 // when the last chunk came, in ns since start, plus 1; 0: none yet
	start  time.Time
	cancel context.CancelCauseFunc
	config *Config // its three timeouts
	timer  *time.Timer
}

func (w *watchdog) watch(cancel context.CancelCauseFunc, config *Config) {
	w.cancel, w.config, w.start = cancel, config, time.Now()
	w.timer = time.AfterFunc(min(config.FirstTokenTimeout, config.TotalTimeout), w.bark)
}

func (w *watchdog) feed() {
	now := time.Since(w.start)
	if w.last.Swap(int64(now)+1) == 0 {
		w.timer.Reset(min(w.config.IdleTimeout, w.config.TotalTimeout-now))
	}
}

func (w *watchdog) stop() { w.timer.Stop() }

func (w *watchdog) bark() {
	now, last := time.Since(w.start), time.Duration(w.last.Load()-1)
	limit, late := last+w.config.IdleTimeout, failure.New(failure.IdleTimeout, "the upstream fell silent for %v", w.config.IdleTimeout)
	if last < 0 {
		limit, late = w.config.FirstTokenTimeout,
			failure.New(failure.FirstTokenTimeout, "the upstream did not begin to answer within %v", w.config.FirstTokenTimeout)
	}
	if total := w.config.TotalTimeout; total <= limit {
		limit, late = total, failure.New(failure.TotalTimeout, "the completion took longer than %v", total)
	}
	if now < limit {
		w.timer.Reset(limit - now)
		return
	}
	w.cancel(late)
}
