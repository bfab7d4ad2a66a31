package memory

import (
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// makeRoom counts n more bytes, which the budget has granted, and lets go of as much
// that has ended as is in their way.
func (j *Journal) makeRoom(n int64) {
	for j.bytes+n > j.config.Bytes && len(j.ended) > 0 {
		j.dropFirst()
	}
	for j.bytes+n > j.config.Bytes && len(j.gone) > 0 {
		j.forgetFirst()
	}
	j.bytes += n
}

// growLog counts a new page of a running log, of a size, or when there is no room for
// that, of the least that does. It returns its size.
func (j *Journal) growLog(l *log, size, least int) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if granted := l.account.granted; granted > 0 {
		l.account.granted = 0
		return granted, nil
	}
	var err error
	for _, n := range []int{size, least} {
		switch {
		case l.bytes+int64(n) > j.config.MaxCompletion:
			err = journal.ErrTooLarge
		case !j.budget.grow(l, int64(n)):
			err = journal.ErrFull
		default:
			j.makeRoom(int64(n))
			return n, nil
		}
	}
	return 0, err
}

// retire keeps a log that nobody writes any more for the retention.
func (j *Journal) retire(l *log) {
	unused := int64(l.trim())
	j.mu.Lock()
	defer j.mu.Unlock()
	resolved := j.budget.remove(l)
	unused += int64(l.account.granted) // it ended before it used what it had waited for
	j.bytes -= unused
	l.bytes -= unused
	l.account = nil
	l.expires = time.Now().Add(j.config.Retention)
	j.ended = append(j.ended, l)
	j.resume(resolved) // which may be in need of what has just ended
	j.expireLocked()
}

// dropFirst drops the pages of the log that ended first.
func (j *Journal) dropFirst() {
	l := j.ended.pop()
	l.drop()
	j.bytes -= l.bytes + logCost - goneCost
	l.bytes = 0
	l.expires = time.Now().Add(j.config.Retention)
	j.gone = append(j.gone, l)
}

// forgetFirst forgets the log whose pages went first.
func (j *Journal) forgetFirst() {
	l := j.gone.pop()
	j.bytes -= goneCost + l.names()
	delete(j.logs, l.ID)
	if c := (claim{l.Principal, l.Key}); j.keys[c] == l {
		delete(j.keys, c)
	}
}

func (j *Journal) expire() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.expireLocked()
}

// expireLocked drops and forgets what is due and sets the timer for what is due
// next. The timer bounds how long memory is held; that nothing is read after its
// time does not depend on it, since every look-up comes here first.
func (j *Journal) expireLocked() {
	now := time.Now()
	for len(j.ended) > 0 && !j.ended[0].expires.After(now) {
		j.dropFirst()
	}
	for len(j.gone) > 0 && !j.gone[0].expires.After(now) {
		j.forgetFirst()
	}
	var next time.Time
	for _, q := range []queue{j.ended, j.gone} {
		if len(q) > 0 && (next.IsZero() || q[0].expires.Before(next)) {
			next = q[0].expires
		}
	}
	if !next.IsZero() && !next.Equal(j.due) {
		j.due = next
		j.timer.Reset(next.Sub(now))
	}
}

// queue is a first-in, first-out queue of logs.
type queue []*log

func (q *queue) pop() *log {
	l := (*q)[0]
	(*q)[0] = nil
	*q = (*q)[1:]
	return l
}
