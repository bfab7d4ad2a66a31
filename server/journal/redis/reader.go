package redis

import (
	"cmp"
	"context"
	"errors"
	"io"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// maxBatches is how many batches are read from the store at a time.
const maxBatches = 4

// localReader reads what this process owns from its memory, and goes on in the store when
// the completion has been taken from it, or the entries had to go here.
type localReader struct {
	journal.Reader
	journal *Journal
	id      string
	last    int32
	follow  bool
	stored  bool
}

// Next implements journal.Reader.
func (r *localReader) Next(ctx context.Context) ([]journal.Entry, error) {
	entries, err := r.Reader.Next(ctx)
	if !r.stored && (errors.Is(err, journal.ErrOwnerLost) || errors.Is(err, journal.ErrExpired)) {
		there, err := r.journal.openStored(ctx, r.id, r.last, r.follow)
		if errors.Is(err, journal.ErrNotFound) {
			err = journal.ErrExpired
		}
		if err != nil {
			return nil, err
		}
		r.Reader.Close()
		r.Reader, r.stored = there, true
		return there.Next(ctx)
	}
	if len(entries) > 0 {
		r.last = entries[len(entries)-1].Sequence
	}
	return entries, err
}

// storedReader reads a completion from the store.
type storedReader struct {
	journal *Journal
	id      string
	topic   *topic        // nil: it does not follow
	woken   chan struct{} // there may be more
	reread  bool          // guarded by topic.mu: what was published may not be all

	last   int32
	shown  int32 // the last event that its user has: last may be less when the store has lost that
	ended  bool  // the last entry was the end
	failed time.Time
	closed bool
}

func (j *Journal) openStored(ctx context.Context, id string, after int32, follow bool) (journal.Reader, error) {
	r := &storedReader{journal: j, id: id, last: after, shown: after}
	if !follow {
		if _, err := r.find(ctx); err != nil {
			return nil, err
		}
		return r, nil
	}
	t, err := j.join(ctx, id)
	if err != nil {
		return nil, err
	}
	at, err := r.find(ctx)
	if err != nil {
		j.leave(t)
		return nil, err
	}
	r.topic, r.woken, r.reread = t, make(chan struct{}, 1), true
	j.follow(t, r, at)
	return r, nil
}

// find reads what the store knows of the completion, and checks the cursor.
func (r *storedReader) find(ctx context.Context) (record, error) {
	end, err := r.journal.reads.begin(ctx)
	if err != nil {
		return record{}, err
	}
	defer end()
	at, err := r.journal.settled(r.journal.record(ctx, r.id))
	if err == nil {
		err = r.seek(ctx, at)
	}
	return at, err
}

// seek checks the reader's cursor. A cursor that is ahead of a completion whose owner is
// lost has been handed out by that while the store was gone: what follows it is the end.
func (r *storedReader) seek(ctx context.Context, at record) error {
	if at.lost && r.last >= at.Last { // the end, which is no event, is never behind a cursor
		r.last = at.Last - 1
		return nil
	}
	if r.last <= at.Last {
		return nil
	}
	if at.Ended {
		return journal.ErrAhead
	}
	if lost, err := r.journal.isLost(ctx, at); !lost {
		if err == nil && r.journal.isUnsettled() {
			err = errGone
		}
		return cmp.Or(err, journal.ErrAhead)
	}
	r.last = at.Last
	return nil
}

// Next implements journal.Reader.
func (r *storedReader) Next(ctx context.Context) ([]journal.Entry, error) {
	for !r.ended {
		var entries []journal.Entry
		read := r.topic == nil
		if !read {
			entries, read = r.topic.look(r)
		}
		if read {
			var err error
			if entries, err = r.read(ctx); err != nil {
				return nil, err
			}
		}
		if n := len(entries); n > 0 {
			r.last = entries[n-1].Sequence
			r.ended = entries[n-1].Kind != journal.Event
			for len(entries) > 0 && entries[0].Kind == journal.Event && entries[0].Sequence <= r.shown {
				entries = entries[1:]
			}
			if len(entries) == 0 {
				continue
			}
			r.shown = max(r.shown, r.last)
			return entries, nil
		}
		if r.ended {
			break
		}
		if err := r.wait(ctx); err != nil {
			return nil, err
		}
	}
	return nil, io.EOF
}

func (r *storedReader) wait(ctx context.Context) error {
	select {
	case <-r.woken:
		return nil
	default:
	}
	select {
	case <-r.woken:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read waits until it may read the store, or what follows is published: that must not
// wait for those who read a part of a cluster that does not answer.
func (r *storedReader) read(ctx context.Context) ([]journal.Entry, error) {
	place := r.journal.reads.ask()
	defer place.giveUp()
	for {
		select {
		case <-place.granted:
			return r.readNow(ctx)
		case <-r.woken:
			if entries, _ := r.topic.look(r); len(entries) > 0 {
				r.readAgain()
				return entries, nil
			}
		case <-ctx.Done():
			r.readAgain()
			return nil, context.Cause(ctx)
		}
	}
}

// readNow returns what the store has behind the cursor: for a reader that does not follow,
// io.EOF when there is nothing. A store that is gone is waited for, by one that does, as
// long as an owner that is gone.
func (r *storedReader) readNow(ctx context.Context) ([]journal.Entry, error) {
	at, entries, err := r.journal.read(context.WithoutCancel(ctx), r.id, r.last, maxBatches)
	at, err = r.journal.settled(at, err)
	if isMissing(at, err) { // and it was there: has the store just lost more than that?
		_ = r.journal.renew()
		at, err = r.journal.settled(at, err)
	}
	if errors.Is(err, journal.ErrNotFound) {
		err = journal.ErrExpired // it was there
	}
	switch {
	case isStoreError(err) && r.topic != nil && !r.outlasted():
		return nil, nil // and wait: the ticker wakes it
	case err != nil && !(errors.Is(err, journal.ErrExpired) && at.Ended && r.last >= at.Last):
		return nil, err
	}
	r.failed = time.Time{}
	switch {
	case len(entries) > 0:
		r.readAgain() // there may be more, and perhaps no owner
		return entries, nil
	case at.lost && r.last >= at.Last: // what the reader has read is lost, too
		r.last = at.Last - 1
		return r.readNow(ctx)
	case at.Ended && r.last >= at.Last:
		r.ended = true
		return nil, nil
	}
	if lost, err := r.journal.isLost(context.WithoutCancel(ctx), at); lost && err == nil {
		r.readAgain() // each call says so, until the end is there
		return nil, journal.ErrOwnerLost
	}
	if r.topic == nil {
		return nil, io.EOF
	}
	return nil, nil
}

// readAgain has the next call read the store, unless what follows has been published.
func (r *storedReader) readAgain() {
	if r.topic != nil {
		r.topic.mu.Lock()
		defer r.topic.mu.Unlock()
		r.reread = true
	}
}

// isStoreError tells whether an error is none that the journal's users know.
func isStoreError(err error) bool {
	return err != nil && (errors.Is(err, errGone) || isOutage(err)) && !errors.Is(err, journal.ErrExpired) && !errors.Is(err, errFrames)
}

// outlasted tells whether the store has been gone for longer than the reader waits.
func (r *storedReader) outlasted() bool {
	if r.failed.IsZero() {
		r.failed = time.Now()
	}
	return time.Since(r.failed) > r.journal.config.Lease
}

// Close implements journal.Reader.
func (r *storedReader) Close() {
	if r.topic != nil && !r.closed {
		r.closed = true
		r.journal.unfollow(r.topic, r)
	}
}
