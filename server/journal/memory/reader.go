package memory

import (
	"context"
	"encoding/binary"
	"io"
	"sort"

	"github.com/sluice-sse/sluice/server/journal"
)

const (
	batch      = 64 // the most entries that Next returns
	fewEntries = 8  // the most that a reader has room for while it waits
)

// reader reads a log. Its cursor is behind the entry with sequence last, at an
// offset of a page.
type reader struct {
	log     *log
	woken   chan struct{} // nil: the reader does not follow
	waiting bool          // guarded by log.mu, as is place
	place   int           // in log.readers; -1: it is not there

	page, offset int
	last         int32
	entries      []journal.Entry // what Next returned, used again
}

// read returns a reader that stands behind the given sequence.
func (l *log) read(after int32, follow bool) (journal.Reader, error) {
	l.mu.Lock()
	r, err := l.seek(after)
	if err != nil {
		l.mu.Unlock()
		return nil, err
	}
	owner := l.owner
	if follow {
		r.woken = make(chan struct{}, 1)
		r.place = len(l.readers)
		l.readers = append(l.readers, r)
	}
	l.mu.Unlock()
	if follow && owner != nil {
		owner.Readers(1)
	}
	return r, nil
}

// seek returns a reader that stands behind the given sequence. The caller holds the
// lock.
func (l *log) seek(after int32) (*reader, error) {
	if l.gone {
		return nil, journal.ErrExpired
	}
	if after > l.shown {
		return nil, journal.ErrAhead
	}
	return l.position(after), nil
}

// position returns a reader that stands behind a sequence there is. The caller holds the
// lock.
func (l *log) position(after int32) *reader {
	r := &reader{log: l, place: -1}
	// The last page that begins at or before the entry that is wanted.
	r.page = max(0, sort.Search(len(l.full)+1, func(i int) bool { return l.at(i).first > after+1 })-1)
	if l.last > 0 {
		r.last = l.at(r.page).first - 1
		for r.last < after {
			_, n := decodeFrame(l.at(r.page).data[r.offset:])
			r.offset += n
			r.last++
		}
	}
	return r
}

// Next implements journal.Reader.
func (r *reader) Next(ctx context.Context) ([]journal.Entry, error) {
	for {
		frames, n, err := r.look()
		if err != nil {
			return nil, err
		}
		if n > 0 {
			return r.decode(frames, n), nil
		}
		if cap(r.entries) > fewEntries { // many may wait for long
			r.entries = nil
		}
		select {
		case <-r.woken:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// look returns the frames of the current page that the reader has not had, of which it is
// to have n at most. With none there, the reader waits from then on.
func (r *reader) look() (frames []byte, n int, err error) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended && r.last == l.last: // also when the pages went since
		return nil, 0, io.EOF
	case l.gone:
		return nil, 0, journal.ErrExpired
	case r.last < l.shown:
		if r.offset == len(l.at(r.page).data) {
			r.page, r.offset = r.page+1, 0
		}
		return l.at(r.page).data[r.offset:], int(l.shown - r.last), nil
	case l.closed && !l.ended:
		return nil, 0, journal.ErrOwnerLost
	case r.woken == nil:
		return nil, 0, io.EOF
	}
	// A wake that came while ctx was done, and was not taken, is not for later.
	select {
	case <-r.woken:
	default:
	}
	r.waiting = true
	return nil, 0, nil
}

// decode moves the cursor over frames, at most n, or as many as a batch holds.
func (r *reader) decode(frames []byte, n int) []journal.Entry {
	r.entries = r.entries[:0]
	for n = min(n, batch); len(frames) > 0 && len(r.entries) < n; {
		e, size := decodeFrame(frames)
		r.last++
		e.Sequence = r.last
		r.entries = append(r.entries, e)
		r.offset += size
		frames = frames[size:]
	}
	return r.entries
}

// decodeFrame returns the entry at the start of frames, without its sequence,
// and the length of its frame.
func decodeFrame(frames []byte) (journal.Entry, int) {
	header, n := binary.Uvarint(frames)
	end := n + int(header>>2)
	return journal.Entry{Kind: journal.Kind(header & 3), Data: frames[n:end:end]}, end
}

// Close implements journal.Reader.
func (r *reader) Close() {
	l := r.log
	l.mu.Lock()
	follows, owner := r.place >= 0, l.owner
	if follows {
		last := len(l.readers) - 1
		l.readers[r.place], l.readers[last].place = l.readers[last], r.place
		l.readers[last] = nil
		l.readers, r.place = l.readers[:last], -1
	}
	l.mu.Unlock()
	if follows && owner != nil {
		owner.Readers(-1)
	}
}
