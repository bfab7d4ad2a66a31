package server

import (
	"context"
	"sync"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/journal"
)

// run is one completion while it is generated, a batch at a time: whoever generates waits
// for what the engine has next, and journals it (generate.go).
//
// As long as a run has one reader, the one that began it, that reader's goroutine
// generates: it leads. It sends what it has journaled without reading it back, and
// nothing is handed from one goroutine to another, which would cost more than all else
// that is done for an event. But between two batches it sends, and there are times when a
// run must not wait for that: when somebody else reads, when the leader is stuck or gone,
// when the run is to end. Then the run is detached: it gets a goroutine of its own, and
// keeps it; who led it is a reader like all others.
//
//	          start        beginBatch
//	starting ───────▶ idle ──────────▶ leading ───┐
//	                  │  ◀──────────              │
//	           detach │      endBatch             ├──▶ ended
//	                  ▼                           │
//	               detached ──────────────────────┘
//
// A run that is to be detached while it is starting or leading is detached when that is
// over.
//
// It is the owner of its journal, which tells it what others want: any of them may
// cancel it, and a reader that comes or goes may be anywhere.
type run struct {
	// With thousands of streams, none of what a batch needs is in the processor's cache
	// when the next event comes, and getting it there is most of what an event costs. So
	// it stands together, from here to watchdog.

	mu        sync.Mutex // guards all up to leaving
	state     state
	detaching bool        // it is to be detached, as soon as it can
	batches   int32       // that the leader has begun
	checked   int32       // batches, at the last check
	readers   int         // the leader, and those that the journal tells of
	leaving   *time.Timer // runs while there is no reader, and a grace; else nil

	// Of the goroutine that generates.
	sequence     int32 // of the last event that is journaled
	finishReason completionv1.Finished_FinishReason
	stream       engine.Stream // nil: it has ended
	writer       journal.Writer
	unwritten    *batch // what the journal had no room for; nil: nothing
	watchdog     watchdog
	usage        *completionv1.Usage
	outcome      error // how it ended: see outcomeOf
	firstToken   time.Time
	stopDetach   func() bool // stops that the end of ctx detaches the run

	journal.Completion
	server    *Server
	counted   bool // among those that run; guarded by server.mu
	requestID string
	grace     time.Duration
	ctx       context.Context
	cancel    context.CancelCauseFunc
}

// state is who generates a run.
type state uint8

const (
	starting state = iota // nobody yet: its journal is not created
	idle                  // its leader, but not now: it sends the last batch
	leading               // its leader, now
	detached              // its own goroutine
	ended                 // nobody any more
)

// newRun returns a run that is starting and has one reader, its caller.
func newRun(s *Server, c journal.Completion, req *completionv1.CompletionRequest, requestID string) *run {
	r := &run{
		Completion: c,
		server:     s,
		requestID:  requestID,
		grace:      min(req.GetDisconnectGrace().AsDuration(), s.config.MaxDisconnectGrace),
		readers:    1,
	}
	r.ctx, r.cancel = context.WithCancelCause(s.ctx)
	return r
}

// start readies a run to be generated, which a call has asked for.
func (r *run) start(call context.Context, w journal.Writer, eng engine.Engine, req *completionv1.CompletionRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writer = w
	r.watchdog.start(r.cancel, r.server)
	r.stream = r.open(call, eng, Began{ID: r.ID, Request: req})
	r.stopDetach = context.AfterFunc(r.ctx, r.detach) // an end does not wait for a reader
	r.rest()
}

// rest leaves the next batch to the leader, unless the run is to be detached. The caller
// holds the lock.
func (r *run) rest() {
	r.state = idle
	if r.detaching {
		r.state = detached
		go r.generate()
	}
}

// lead generates on the goroutine of the caller, who has begun the run, until something
// is journaled, and returns that, to be released. It returns nil when the caller does not
// lead any more.
func (r *run) lead() *batch {
	for r.beginBatch() {
		b, _ := r.nextBatch()
		r.endBatch()
		if len(b.entries) > 0 {
			return b
		}
		b.release()
	}
	return nil
}

func (r *run) beginBatch() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != idle {
		return false
	}
	r.state = leading
	r.batches++
	return true
}

func (r *run) endBatch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == leading {
		r.rest()
	}
}

// generate is the run's own goroutine, until the end.
func (r *run) generate() {
	for more := true; more; {
		var b *batch
		b, more = r.nextBatch()
		b.release()
	}
}

// detach gives the run a goroutine of its own, as soon as it can.
func (r *run) detach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.detachLocked()
}

func (r *run) detachLocked() {
	r.detaching = true
	if r.state == idle {
		r.rest()
	}
}

// check detaches a run whose leader has been elsewhere since the last check.
func (r *run) check() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == idle && r.batches == r.checked {
		r.detachLocked()
	}
	r.checked = r.batches
}

// Cancel implements journal.Owner.
func (r *run) Cancel() { r.cancel(errCancelled) }

// Readers implements journal.Owner.
func (r *run) Readers(change int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if change > 0 {
		r.detachLocked()
	}
	r.count(change)
}

// leave is called once, when the leader goes.
func (r *run) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.detachLocked()
	r.count(-1)
}

// count counts readers in or out. Without any, the run is cancelled when the grace is
// over. The caller holds the lock.
func (r *run) count(change int) {
	r.readers += change
	switch {
	case r.readers > 0:
		r.stopLeaving()
	case r.ctx.Err() != nil, r.leaving != nil:
	case r.grace <= 0:
		r.cancel(errAbandoned)
	default:
		var grace *time.Timer
		grace = time.AfterFunc(r.grace, func() {
			r.mu.Lock() // then it is set, too
			defer r.mu.Unlock()
			r.abandon(grace)
		})
		r.leaving = grace
	}
}

// stopLeaving stops the timer of the grace, if it runs. The caller holds the lock.
func (r *run) stopLeaving() {
	if r.leaving != nil {
		r.leaving.Stop()
		r.leaving = nil
	}
}

// abandon cancels the run when a grace is over, unless a reader came in the last moment: if
// that one has left, too, there is another grace. The caller holds the lock.
func (r *run) abandon(grace *time.Timer) {
	if r.leaving == grace {
		r.cancel(errAbandoned)
	}
}

// end notes that nobody generates the run any more, and stops what waits for readers.
func (r *run) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = ended
	r.cancel(nil)
	r.stopLeaving()
}
