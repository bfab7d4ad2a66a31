package memory

import (
	"container/list"
	"context"

	"github.com/sluice-sse/sluice/server/journal"
)

// budget decides which logs get how much of a Journal's memory. Its methods are called
// with Journal.mu held.
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
type budget struct {
	size        int64 // of the memory
	reservation int64
	guaranteed  int64
	running     list.List // of *log: the oldest first
	waiting     list.List // of *waiter: in the order in which they came
	shares      int64     // of all that run
}

// account is a running log's, in the budget.
type account struct {
	running *list.Element // in budget.running
	waiting *list.Element // in budget.waiting; nil: it does not wait
	granted int           // the size of a page that it has waited for and not yet used
}

// waiter is a log that waits to grow.
type waiter struct {
	log      *log
	grow     int
	resolved chan struct{} // closed when it need not wait any more
	err      error         // then: nil when it has been granted what it waited for
}

func newBudget(size, maxCompletion int64) budget {
	return budget{
		size:        size,
		reservation: max(firstPage, min(16<<10, size/256)),
		guaranteed:  min(maxCompletion, size/8),
	}
}

// share returns what a running log counts for when its pages have so many bytes.
func (b *budget) share(l *log, pages int64) int64 {
	return logCost + l.names() + max(pages, b.reservation)
}

// setAside returns what is set aside for a log, as the oldest, beside its share.
func (b *budget) setAside(pages int64) int64 {
	return max(0, b.guaranteed-max(pages, b.reservation))
}

// oldest returns the log that has run for longest, or nil.
func (b *budget) oldest() *log {
	if first := b.running.Front(); first != nil {
		return first.Value.(*log)
	}
	return nil
}

// admit counts a new log in, if there is room for it.
func (b *budget) admit(l *log) bool {
	aside := b.setAside(0)
	if oldest := b.oldest(); oldest != nil {
		aside = b.setAside(oldest.bytes)
	}
	share := b.share(l, 0)
	if b.waiting.Len() > 0 || b.shares+share+aside > b.size-b.size/16 {
		return false
	}
	b.shares += share
	l.account = &account{running: b.running.PushBack(l)}
	return true
}

// remove counts a log out that is closed, and returns those that waited for it.
func (b *budget) remove(l *log) []*waiter {
	b.running.Remove(l.account.running)
	b.shares -= b.share(l, l.bytes)
	return b.resolveNext()
}

// fits reports whether a log can grow by n bytes.
func (b *budget) fits(l *log, n int64) bool {
	more := b.share(l, l.bytes+n) - b.share(l, l.bytes)
	oldest := b.oldest()
	if l == oldest {
		return b.shares+more+b.setAside(l.bytes+n) <= b.size
	}
	return more == 0 || b.shares+more+b.setAside(oldest.bytes) <= b.size
}

// grow lets a log grow by n bytes, if there is room, and nobody waits for it.
func (b *budget) grow(l *log, n int64) bool {
	queued := b.waiting.Len() > 0 && l != b.oldest() && l.bytes+n > b.reservation
	if queued || !b.fits(l, n) {
		return false
	}
	b.charge(l, n)
	return true
}

func (b *budget) charge(l *log, n int64) {
	b.shares += b.share(l, l.bytes+n) - b.share(l, l.bytes)
	l.bytes += n
}

// enqueue puts a log that cannot grow in the queue. The oldest cannot wait: nobody's
// end would help it for certain.
func (b *budget) enqueue(l *log, n int) *waiter {
	w := &waiter{log: l, grow: n, resolved: make(chan struct{})}
	if l == b.oldest() {
		w.err = journal.ErrFull
		close(w.resolved)
		return w
	}
	l.account.waiting = b.waiting.PushBack(w)
	return w
}

// dequeue takes a log out of the queue, and returns those that need not wait without it.
func (b *budget) dequeue(l *log) []*waiter {
	b.waiting.Remove(l.account.waiting)
	l.account.waiting = nil
	return b.resolveNext()
}

// resolveNext takes out of the queue those that need not wait any more: the oldest
// log, wherever it stands, and the first ones that there is room for now, which is
// theirs then.
func (b *budget) resolveNext() (resolved []*waiter) {
	if oldest := b.oldest(); oldest != nil && oldest.account.waiting != nil {
		resolved = append(resolved, b.resolve(oldest.account.waiting))
	}
	for first := b.waiting.Front(); first != nil; first = b.waiting.Front() {
		if w := first.Value.(*waiter); !b.fits(w.log, int64(w.grow)) {
			break
		}
		resolved = append(resolved, b.resolve(first))
	}
	return resolved
}

func (b *budget) resolve(e *list.Element) *waiter {
	w := b.waiting.Remove(e).(*waiter)
	w.log.account.waiting = nil
	if !b.fits(w.log, int64(w.grow)) {
		w.err = journal.ErrFull
		return w
	}
	b.charge(w.log, int64(w.grow))
	w.log.account.granted = w.grow
	return w
}

// wait waits for room for a log to grow by n bytes.
func (j *Journal) wait(ctx context.Context, l *log, n int) error {
	j.mu.Lock()
	if j.budget.grow(l, int64(n)) { // there is room since it was refused
		l.account.granted = n
		j.makeRoom(int64(n))
		j.mu.Unlock()
		return nil
	}
	w := j.budget.enqueue(l, n)
	j.mu.Unlock()
	select {
	case <-w.resolved:
		return w.err
	case <-ctx.Done():
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if l.account.waiting == nil { // both at once
		return w.err
	}
	j.resume(j.budget.dequeue(l))
	return context.Cause(ctx)
}

// resume has those write on that need not wait any more. The caller holds the lock.
func (j *Journal) resume(resolved []*waiter) {
	for _, w := range resolved {
		if w.err == nil {
			j.makeRoom(int64(w.grow))
		}
		close(w.resolved)
	}
}
