package redis

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// A store may lose what it has acknowledged: it is started again, empty, or it fails over.
// Owners notice that their connections break, and look, and write again what is missing.
// Meanwhile nobody is told that there is no such thing, or that it is lost.

// settled returns a completion's record as what has just been read of it, unless it may be
// that the store has just lost what an owner is about to write again: then errGone.
func (j *Journal) settled(at record, err error) (record, error) {
	if isMissing(at, err) && j.isUnsettled() {
		return at, errGone
	}
	return at, err
}

// isMissing tells whether the store has not, of a completion that has not ended, what it had.
func isMissing(at record, err error) bool {
	return errors.Is(err, journal.ErrNotFound) || errors.Is(err, journal.ErrExpired) && !at.Ended
}

// isUnsettled tells whether owners may still be about to write again what the store has
// lost: they look every quarter of a lease.
func (j *Journal) isUnsettled() bool { return j.outage.isShaken(j.config.Lease / 2) }

// keepWritten writes again what the store has not, or has lost, until the journal is closed.
// It may wait for parts of a store, and nothing else may wait for it.
func (j *Journal) keepWritten() {
	ticker := time.NewTicker(j.config.Lease / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-j.ctx.Done():
			return
		}
		if j.outage.isGone() {
			j.dropUnwritable()
			continue
		}
		j.resync(!j.outage.takeUnsure())
		j.takeAllBack()
	}
}

// resync writes what the store has not, or has lost, of what this process writes, and lets
// go of what has been taken from it: of all, or only of what is known to be behind, as the
// store may go again while this is done.
func (j *Journal) resync(behind bool) {
	for _, w := range j.allWriters() {
		if j.ctx.Err() != nil || j.outage.isGone() {
			return
		}
		w.resync(j.ctx, behind)
	}
}

// dropUnwritable lets go of completions that ended while the store was gone, and whose
// entries had to go here: an outage may be long.
func (j *Journal) dropUnwritable() {
	for _, w := range j.allWriters() {
		w.mu.Lock()
		if w.closed && w.behind && !w.lost {
			if _, err := w.held.Entries(w.held.Last()); errors.Is(err, journal.ErrExpired) {
				w.behind = false
				j.forget(w)
			}
		}
		w.mu.Unlock()
	}
}

func (j *Journal) allWriters() []*writer {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Collect(maps.Values(j.writers))
}

// resync compares what the store has with what is in memory, and writes what is missing.
func (w *writer) resync(ctx context.Context, behind bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lost || w.held == nil || behind && !w.behind {
		return
	}
	record, err := w.journal.record(ctx, w.ID)
	switch {
	case errors.Is(err, journal.ErrNotFound):
		if _, err := w.journal.claim(ctx, w); err != nil {
			return
		}
		w.stored = 0
	case errors.Is(err, journal.ErrExpired): // the hash without the stream
		return
	case err != nil:
		return
	case record.fence != w.fence:
		w.lose()
		w.owner.Cancel() // the run learns from its next append that it has lost
		return
	default:
		w.stored = min(record.Last, w.held.Last())
		if w.Key != "" && !behind { // the part of a cluster that has it may have lost it
			_, _ = w.journal.claimKeyFor(ctx, w)
		}
	}
	switch err := w.store(ctx, nil, 0); {
	case errors.Is(err, journal.ErrFenced):
		w.owner.Cancel()
	case err != nil:
		w.journal.config.Log.Error("a completion cannot be written to the journal's store", "id", w.ID, "cause", err)
		w.behind = false
	}
	w.held.Show(w.held.Last())
	if w.closed {
		w.finish()
	}
}

// maxForgets is how often, in one turn, the store may have lost what it has just been given. If
// no connection breaks meanwhile, it drops keys as soon as it has them, or is several ones that
// do not know of each other; else it is started again all the time, and as good as gone.
const maxForgets = 8

var errForgets = errors.New("the journal's store does not keep what it is given")

// store has the store get entries that are in memory, and all before them. It returns nil
// when it has them, or is gone, or, if it is the part of a cluster that has these, has failed
// for so long, or when it is started again all the time. The caller holds the lock.
func (w *writer) store(ctx context.Context, entries []journal.Entry, patience time.Duration) (err error) {
	var failing time.Duration
	start, forgets := time.Now(), 0
	for w.stored < w.held.Last() {
		if len(entries) == 0 || entries[0].Sequence != w.stored+1 {
			if entries, err = w.held.Entries(w.stored); err != nil {
				return err // it has ended long ago, and had to go
			}
		}
		began := time.Now()
		answer, last, err := w.journal.appendBatch(ctx, w, entries)
		// It may seem to have taken longer than it could: the process stood still, and may
		// have lost the completion meanwhile.
		failing += min(time.Since(began), w.journal.config.Patience/2)
		forgotten := err == nil && (answer == isUnknown || answer == hasGap && last < w.stored)
		if err == nil && answer == isUnknown { // the store has come back empty
			w.journal.outage.shake()
			_, err = w.journal.claim(ctx, w)
			last = 0
		}
		if forgotten && err == nil {
			forgets++
			switch {
			case forgets <= maxForgets:
			case w.journal.outage.hasBrokenOff(start):
				w.behind = true
				return nil
			default:
				return errForgets
			}
		}
		switch {
		case isOutage(err) && (w.journal.outage.isGone() || failing >= patience):
			w.behind = true
			return nil
		case isOutage(err):
			select {
			case <-time.After(w.journal.config.Patience / 40):
				failing += w.journal.config.Patience / 40
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		case err != nil:
			return err
		case answer == isFenced:
			w.lose()
			return journal.ErrFenced
		}
		w.stored = min(last, w.held.Last())
		entries = nil
	}
	w.behind = false
	return nil
}
