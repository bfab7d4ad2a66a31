package redis

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// maxReads is how many readers read the store at once. When it comes back, or a connection
// breaks, all of them do, and those whose clients come back: it has to answer owners, too.
const maxReads = 64

// reads are the places of those who read the store. A read that takes long gives its place
// to the next one: a part of a cluster that does not answer must not hold up those who read
// the others.
type reads struct {
	max  int
	long time.Duration

	mu    sync.Mutex // guards all below
	taken int
	queue list.List // of *place, which wait
}

// place is one that has been asked for. It is to be given up in any case.
type place struct {
	reads   *reads
	granted chan struct{} // closed when it may be used

	// guarded by reads.mu
	waiting *list.Element // nil: it has been granted, or given up
	timer   *time.Timer   // nil: it is not taken
}

// ask asks for a place, behind all that have asked before.
func (r *reads) ask() *place {
	p := &place{reads: r, granted: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	p.waiting = r.queue.PushBack(p)
	r.grantLocked()
	return p
}

func (r *reads) grantLocked() {
	for r.taken < r.max && r.queue.Len() > 0 {
		p := r.queue.Remove(r.queue.Front()).(*place)
		p.waiting, p.timer = nil, time.AfterFunc(r.long, p.giveUp)
		r.taken++
		close(p.granted)
	}
}

// giveUp gives the place up, or no longer waits for it. It can be called again.
func (p *place) giveUp() {
	r := p.reads
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.waiting != nil:
		r.queue.Remove(p.waiting)
		p.waiting = nil
	case p.timer != nil:
		p.timer.Stop()
		p.timer = nil
		r.taken--
		r.grantLocked()
	}
}

// begin waits for a place, and returns what gives it up. It returns the cause of ctx when
// that is done before.
func (r *reads) begin(ctx context.Context) (end func(), err error) {
	p := r.ask()
	select {
	case <-p.granted:
		return p.giveUp, nil
	case <-ctx.Done():
		p.giveUp()
		return nil, context.Cause(ctx)
	}
}
