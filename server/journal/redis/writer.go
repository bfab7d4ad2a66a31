package redis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// writer writes a completion that this process owns: into memory, where nobody is shown
// it, then into the store, and then it is shown.
type writer struct {
	journal.Completion
	journal *Journal
	owner   journal.Owner
	fence   string

	mu     sync.Mutex // guards all up to lost: Append and resync are not at once
	held   *memory.Held
	stored int32 // the last entry that the store has, as far as is known
	behind bool  // the store was gone when there was something for it
	closed bool
	lost   bool // somebody else has raised the fence

	readers sync.Mutex // guards all below
	others  map[string]presence
}

// presence is how many readers another instance has, and when it said so.
type presence struct {
	readers int
	number  int64 // of the news
	seen    time.Time
}

// Append implements journal.Writer. It does not return before the store has the entries,
// unless that is gone. What the store refuses is shown with the end, which must follow.
func (w *writer) Append(ctx context.Context, entries []journal.Entry) (n int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost {
		return 0, journal.ErrFenced
	}
	n, err = w.held.Append(ctx, entries)
	if n > 0 && !w.behind {
		patience := w.journal.config.Patience * 3 / 2 // all of the store counts as gone before
		err := w.store(ctx, entries[:n], patience)
		switch {
		case errors.Is(err, journal.ErrFenced):
			return 0, err
		case err != nil && entries[n-1].Kind == journal.Event:
			return n, err // they are in memory, and the end will follow
		case err != nil:
			w.behind = true // who reads here gets the end in any case
		}
	}
	w.held.Show(w.held.Last())
	return n, err
}

// lose gives up a completion that somebody else has ended. The caller holds the lock.
func (w *writer) lose() {
	w.lost = true
	w.held.Lose()
	w.journal.forget(w)
}

// Wait implements journal.Writer.
func (w *writer) Wait(ctx context.Context, e journal.Entry) error { return w.held.Wait(ctx, e) }

// Close implements journal.Writer.
func (w *writer) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.closed = true
	if !w.behind {
		w.journal.forget(w) // before readers learn that there is no owner any more
	}
	w.held.Close()
	w.finish()
}

// finish lets go of a completion that nobody writes any more, and of which the store has
// all. The caller holds the lock.
func (w *writer) finish() {
	if w.behind || w.lost {
		return
	}
	w.journal.forget(w)
	if w.journal.local.Lost(w.ID) {
		w.journal.later(func(ctx context.Context) { _ = w.journal.release(ctx, w.ID, w.fence) })
		return
	}
	w.journal.expireClaim(w)
}

// setReaders notes how many readers another instance has, and tells the owner.
func (w *writer) setReaders(instance string, n int, number int64) {
	w.readers.Lock()
	defer w.readers.Unlock()
	before := w.others[instance]
	if number < before.number {
		return
	}
	w.others[instance] = presence{n, number, time.Now()}
	if n != before.readers {
		w.owner.Readers(n - before.readers)
	}
}

// dropReaders drops the readers of instances that have not been heard of for so long.
func (w *writer) dropReaders(silence time.Duration) {
	w.readers.Lock()
	defer w.readers.Unlock()
	for instance, p := range w.others {
		if time.Since(p.seen) <= silence {
			continue
		}
		delete(w.others, instance)
		if p.readers != 0 {
			w.owner.Readers(-p.readers)
		}
	}
}
