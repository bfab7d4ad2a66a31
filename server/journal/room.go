package journal

import (
	"container/list"
	"context"
)

// room decides who gets how much of a Memory. Its methods are called with Memory.mu
// held.
//
// Completions that have ended give way to any that run, so it is the running ones that
// must fit. Each has a share: what it takes, or the reservation with which it begins,
// which is about what an answer takes, if that is more. For the oldest that runs, all
// that it may still grow to is set aside, too.
//
//   - A new completion is admitted while all shares, and what is set aside, leave a
//     sixteenth of the memory, into which those that run can grow, and nobody waits.
//   - One that runs grows as long as there is room for it. When there is none, it
//     waits, behind those that wait already, for others to end.
//   - The oldest never waits, so it comes to its end. Its share then goes to the
//     others, of whom one is the oldest. So all come to their ends.
//
// In this way what runs fails for its own size alone, up to guaranteed: an eighth of
// the memory, unless MaxCompletion is less. Beyond it, it may also find the memory full.
type room struct {
	size        int64 // of the memory
	reservation int64
	guaranteed  int64
	running     list.List // of *log: the oldest first
	waiting     list.List // of *waiter: in the order in which they came
	shares      int64     // of all that run
}

// place is a running log's.
type place struct {
	running *list.Element // in room.running
	waiting *list.Element // in room.waiting; nil: it does not wait
	granted int           // the size of a page that it has waited for and not yet used
}

// waiter is a log that waits to grow.
type waiter struct {
	log     *log
	grow    int
	decided chan struct{} // closed when it need not wait any more
	err     error         // then: nil when it has its room
}

func newRoom(size, maxCompletion int64) room {
	return room{
		size:        size,
		reservation: max(firstPage, min(16<<10, size/256)),
		guaranteed:  min(maxCompletion, size/8),
	}
}

// share returns what a running log counts for when its pages have so many bytes.
func (r *room) share(l *log, pages int64) int64 {
	return logCost + l.names() + max(pages, r.reservation)
}

// aside returns what is set aside for a log, as the oldest, beside its share.
func (r *room) aside(pages int64) int64 {
	return max(0, r.guaranteed-max(pages, r.reservation))
}

// oldest returns the log that has run for longest, or nil.
func (r *room) oldest() *log {
	if first := r.running.Front(); first != nil {
		return first.Value.(*log)
	}
	return nil
}

// admit counts a new log in, if there is room for it.
func (r *room) admit(l *log) bool {
	aside := r.aside(0)
	if oldest := r.oldest(); oldest != nil {
		aside = r.aside(oldest.bytes)
	}
	share := r.share(l, 0)
	if r.waiting.Len() > 0 || r.shares+share+aside > r.size-r.size/16 {
		return false
	}
	r.shares += share
	l.place = &place{running: r.running.PushBack(l)}
	return true
}

// dismiss counts a log out that has ended, and returns those that waited for it.
func (r *room) dismiss(l *log) []*waiter {
	r.running.Remove(l.place.running)
	r.shares -= r.share(l, l.bytes)
	return r.next()
}

// fits reports whether a log can grow by n bytes.
func (r *room) fits(l *log, n int64) bool {
	more := r.share(l, l.bytes+n) - r.share(l, l.bytes)
	oldest := r.oldest()
	if l == oldest {
		return r.shares+more+r.aside(l.bytes+n) <= r.size
	}
	return more == 0 || r.shares+more+r.aside(oldest.bytes) <= r.size
}

// grow lets a log grow by n bytes, if there is room, and nobody waits for it.
func (r *room) grow(l *log, n int64) bool {
	queued := r.waiting.Len() > 0 && l != r.oldest() && l.bytes+n > r.reservation
	if queued || !r.fits(l, n) {
		return false
	}
	r.take(l, n)
	return true
}

func (r *room) take(l *log, n int64) {
	r.shares += r.share(l, l.bytes+n) - r.share(l, l.bytes)
	l.bytes += n
}

// wait puts a log that cannot grow in the queue. The oldest cannot wait: nobody's end
// would help it for certain.
func (r *room) wait(l *log, n int) *waiter {
	w := &waiter{log: l, grow: n, decided: make(chan struct{})}
	if l == r.oldest() {
		w.err = ErrFull
		close(w.decided)
		return w
	}
	l.place.waiting = r.waiting.PushBack(w)
	return w
}

// leave takes a log out of the queue, and returns those that can go on without it.
func (r *room) leave(l *log) []*waiter {
	r.waiting.Remove(l.place.waiting)
	l.place.waiting = nil
	return r.next()
}

// next takes out of the queue those that need not wait any more: the oldest log,
// wherever it stands, and the first ones that have room now. They have taken it.
func (r *room) next() (decided []*waiter) {
	if oldest := r.oldest(); oldest != nil && oldest.place.waiting != nil {
		decided = append(decided, r.decide(oldest.place.waiting))
	}
	for first := r.waiting.Front(); first != nil; first = r.waiting.Front() {
		if w := first.Value.(*waiter); !r.fits(w.log, int64(w.grow)) {
			break
		}
		decided = append(decided, r.decide(first))
	}
	return decided
}

func (r *room) decide(e *list.Element) *waiter {
	w := r.waiting.Remove(e).(*waiter)
	w.log.place.waiting = nil
	if !r.fits(w.log, int64(w.grow)) {
		w.err = ErrFull
		return w
	}
	r.take(w.log, int64(w.grow))
	w.log.place.granted = w.grow
	return w
}

// Wait implements Writer.
func (l *log) Wait(ctx context.Context, e Entry) error {
	m := l.memory
	_, n := l.grow(e)
	m.mu.Lock()
	if m.room.grow(l, int64(n)) { // there is room since it was refused
		l.place.granted = n
		m.makeRoom(int64(n))
		m.mu.Unlock()
		return nil
	}
	w := m.room.wait(l, n)
	m.mu.Unlock()
	select {
	case <-w.decided:
		return w.err
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.place.waiting == nil { // both at once
		return w.err
	}
	m.goOn(m.room.leave(l))
	return context.Cause(ctx)
}

// goOn has those write on that need not wait any more. The caller holds the lock.
func (m *Memory) goOn(decided []*waiter) {
	for _, w := range decided {
		if w.err == nil {
			m.makeRoom(int64(w.grow))
		}
		close(w.decided)
	}
}
