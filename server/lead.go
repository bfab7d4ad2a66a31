package server

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// stall is how long a run waits, at least, for the reader that leads it; twice as
// long at most.
const stall = time.Second

// turn is held by the goroutine that generates a run.
//
// As long as a run has one reader, that is the reader's: it leads. It waits for the
// upstream, journals what comes, and sends that on, without reading it back, and
// nothing needs to be handed from one goroutine to another, which would cost more
// than all else that is done for an event. Between two turns it sends. A run that
// must not wait for that any more, since somebody else reads, the reader is stuck or
// gone, or the run is to end, gets a goroutine of its own, and keeps it; the leader
// is then a reader like all others.
type turn struct {
	sync.Mutex
	ended    bool
	detached atomic.Bool // the run has a goroutine of its own, or has ended
	left     atomic.Bool // the leader has
	turns    int         // of the leader
	checked  int         // turns, at the last check that found the leader elsewhere
}

// lead generates, on the goroutine of the reader that leads, and returns what it has
// journaled, in the slice that it is given. With nothing, the caller no longer leads.
func (r *run) lead(journaled []journal.Entry) []journal.Entry {
	journaled = journaled[:0]
	for goesOn := true; goesOn && len(journaled) == 0; {
		journaled, goesOn = r.leadOnce(journaled)
	}
	return journaled
}

// leadOnce takes one turn, unless the caller no longer leads, and reports whether
// there will be another.
func (r *run) leadOnce(journaled []journal.Entry) ([]journal.Entry, bool) {
	if r.left.Load() || r.detached.Load() {
		return journaled, false
	}
	r.turn.Lock()
	defer r.turn.Unlock()
	if r.detached.Load() {
		return journaled, false
	}
	r.turns++
	return r.advance(journaled)
}

// detach gives the run a goroutine of its own, unless it has one or has ended.
func (r *run) detach() {
	if r.detached.CompareAndSwap(false, true) {
		go r.generate()
	}
}

// retire notes that the run has ended.
func (t *turn) retire() {
	t.ended = true
	t.detached.Store(true)
}

// generate is the run's own goroutine.
func (r *run) generate() {
	r.turn.Lock()
	defer r.turn.Unlock()
	var journaled []journal.Entry
	for goesOn := !r.ended; goesOn; {
		journaled, goesOn = r.advance(journaled[:0])
	}
}

// check detaches a run whose leader has not taken a turn since the last check.
func (r *run) check() {
	if !r.turn.TryLock() { // it has its turn now, or the run is not started
		return
	}
	defer r.turn.Unlock()
	if r.turns == r.checked {
		r.detach()
	}
	r.checked = r.turns
}

// checkLeaders checks all runs, and does so again and again while there are any: one
// timer is enough for all of them.
func (s *Server) checkLeaders() {
	s.mu.Lock()
	runs := slices.Collect(maps.Values(s.runs))
	if len(runs) > 0 {
		s.checks.Reset(stall)
	}
	s.mu.Unlock()
	for _, r := range runs {
		r.check()
	}
}

// seat is a reader's place at a completion.
type seat struct {
	id    string
	run   *run        // nil: it has ended
	leads bool        // the reader leads
	stay  func() bool // of a leader: stops that the end of its context makes it leave
}

// leader returns the place of the reader that began the run. It leaves as soon as
// ctx is done, and not only when it notices: it may wait for the upstream.
func (r *run) leader(ctx context.Context) *seat {
	return &seat{id: r.ID, run: r, leads: true, stay: context.AfterFunc(ctx, func() {
		r.left.Store(true)
		r.leave()
	})}
}

// leave gives the place up.
func (p *seat) leave() {
	if p.leads {
		p.run.detach()
	}
	if p.run != nil && (p.stay == nil || p.stay()) {
		p.run.leave()
	}
}
