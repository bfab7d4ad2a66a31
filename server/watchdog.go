package server

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/sluice-sse/sluice/server/failure"
)

// watchdog cancels a run that waits too long for its upstream: first for the
// first chunk, then for each next one, and for the end. It has one timer, which is
// not touched for each chunk: when it fires, it looks how long ago the last chunk
// came.
//
// Only chunks count. Comments with which an upstream keeps its connection open
// do not (maximhq/bifrost#6784).
//
// All times are since the server's start.
type watchdog struct {
	last   atomic.Int64 // when the last chunk came, plus 1 ns; 0: none yet
	paused atomic.Bool  // it is not the upstream that is waited for
	server *Server      // whose config has the three timeouts
	began  time.Duration
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

func (w *watchdog) start(cancel context.CancelCauseFunc, s *Server) {
	w.cancel, w.server, w.began = cancel, s, time.Since(s.start)
	w.timer = time.AfterFunc(min(s.config.FirstTokenTimeout, s.config.TotalTimeout), w.check)
}

// touch notes that a chunk has come.
func (w *watchdog) touch() {
	now := time.Since(w.server.start)
	if w.last.Swap(int64(now)+1) == 0 {
		config := &w.server.config
		w.timer.Reset(min(config.IdleTimeout, w.began+config.TotalTimeout-now))
	}
}

// pause has nothing but the time for the whole count, until resume is called.
func (w *watchdog) pause() { w.paused.Store(true) }

func (w *watchdog) resume() {
	w.touch()
	w.paused.Store(false)
}

func (w *watchdog) stop() { w.timer.Stop() }

// check is called when the timer fires.
func (w *watchdog) check() {
	config := &w.server.config
	paused := w.paused.Load() // read before last, which resume sets first
	now, last := time.Since(w.server.start), time.Duration(w.last.Load()-1)
	if paused {
		last = now
	}
	limit, late := last+config.IdleTimeout, failure.New(failure.IdleTimeout, "the upstream fell silent for %v", config.IdleTimeout)
	if last < 0 {
		limit, late = w.began+config.FirstTokenTimeout,
			failure.New(failure.FirstTokenTimeout, "the upstream did not begin to answer within %v", config.FirstTokenTimeout)
	}
	if total := w.began + config.TotalTimeout; total <= limit {
		limit, late = total, failure.New(failure.TotalTimeout, "the completion took longer than %v", config.TotalTimeout)
	}
	if now < limit {
		w.timer.Reset(limit - now)
		return
	}
	w.cancel(late)
}
