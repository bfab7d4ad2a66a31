package memory

import (
	"context"
	"encoding/binary"
	"math/bits"
	"sync"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

const (
	firstPage = 512      // most completions that fail fit in here
	fullPage  = 16 << 10 // each page is twice as large as the one before, up to this
)

// log is one completion's journal in memory: pages of frames, one frame an
// entry. A frame is a varint of its data's length times four plus its kind, and
// the data; sequences are not stored but counted. So an entry costs its data and
// one or two bytes, and a reader's cursor is a page and an offset.
//
// Bytes once written never change or move while a reader may look at them: a
// page is filled, never grown.
//
// It is also the completion's writer.
type log struct {
	mu      sync.Mutex // guards all up to owner
	last    int32
	shown   int32 // the last one that readers get: last, unless this is held
	held    bool
	ended   bool          // the last entry is the end
	closed  bool          // there is no writer any more; if it has not ended, its owner is lost
	gone    bool          // the pages have been dropped
	readers []*reader     // that follow
	page    page          // the last one, which is written to; without data, there is none
	full    []page        // those before it
	owner   journal.Owner // nil: closed

	journal *Journal
	journal.Completion

	// Guarded by Journal.mu.
	bytes   int64     // what the memory counts for the pages
	account *account  // in the budget, while it is written
	expires time.Time // once closed: when to drop the pages; once gone: when to forget the log
}

type page struct {
	first int32 // the sequence of its first entry
	data  []byte
}

func frameHeader(e *journal.Entry) uint64 { return uint64(len(e.Data))<<2 | uint64(e.Kind) }

// headerSize is how many bytes a header takes as a varint.
func headerSize(header uint64) int { return (bits.Len64(header|1) + 6) / 7 }

// Append implements journal.Writer.
func (l *log) Append(_ context.Context, entries []journal.Entry) (n int, err error) {
	// Only the writer changes what is read unlocked here, until it is closed.
	for newPage := 0; n < len(entries); {
		if l.closed {
			return n, journal.ErrFenced
		}
		l.mu.Lock()
		n += l.write(entries[n:], newPage)
		l.mu.Unlock()
		if l.closed { // that was the end
			l.journal.retire(l)
		} else if n < len(entries) {
			if newPage, err = l.grow(entries[n]); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// grow returns the size of the new page that the next entry needs.
func (l *log) grow(e journal.Entry) (int, error) {
	if e.Sequence != l.last+1 {
		return 0, journal.ErrFenced
	}
	size, least := l.newPage(e)
	if e.Kind != journal.Event { // it has its room in logCost
		return size, nil
	}
	return l.journal.growLog(l, size, least)
}

// Wait implements journal.Writer.
func (l *log) Wait(ctx context.Context, e journal.Entry) error {
	_, least := l.newPage(e)
	return l.journal.wait(ctx, l, least)
}

// Close implements journal.Writer.
func (l *log) Close() {
	if l.closed {
		return
	}
	l.mu.Lock()
	l.close()
	l.wake()
	l.mu.Unlock()
	l.journal.retire(l)
}

// close notes that there is no writer any more. The caller holds the lock.
func (l *log) close() { l.closed, l.owner = true, nil }

// newPage returns the size of the page that e needs, and the least that it can be, and 0
// when e fits into the last one. The caller is the writer, or holds the lock.
func (l *log) newPage(e journal.Entry) (size, least int) {
	need := headerSize(frameHeader(&e)) + len(e.Data)
	data := l.page.data
	switch {
	case cap(data)-len(data) >= need:
		return 0, 0
	case e.Kind != journal.Event: // nothing comes after it
		return need, need
	}
	least = max(need, firstPage)
	return max(least, min(2*cap(data), fullPage)), least
}

// write writes entries, as many as come next and the page has room for, which is a new
// one of the given size if that is not 0, makes their data the log's, and wakes the
// readers that wait. It returns how many entries those are. The caller holds the lock.
func (l *log) write(entries []journal.Entry, newPage int) (n int) {
	if newPage > 0 {
		if l.page.data != nil {
			l.full = append(l.full, l.page)
		}
		l.page = page{first: entries[0].Sequence, data: make([]byte, 0, newPage)}
	}
	data := l.page.data
	for n < len(entries) && !l.ended {
		e := &entries[n]
		size, header := len(e.Data), frameHeader(e)
		if e.Sequence != l.last+1 || headerSize(header)+size > cap(data)-len(data) {
			break
		}
		data = append(binary.AppendUvarint(data, header), e.Data...)
		e.Data = data[len(data)-size : len(data) : len(data)]
		l.last = e.Sequence
		l.ended = e.Kind != journal.Event
		n++
	}
	if n == 0 {
		return 0
	}
	l.page.data = data
	if l.ended {
		l.close()
	}
	if !l.held {
		l.show(l.last)
	}
	return n
}

// endLost writes the end for an owner that is lost.
func (l *log) endLost(data []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended || !l.closed:
		return journal.ErrFenced
	case l.gone:
		return journal.ErrExpired
	}
	e := journal.Entry{Sequence: l.last + 1, Kind: journal.Failed, Data: data}
	size, _ := l.newPage(e)
	l.write([]journal.Entry{e}, size)
	return nil
}

// at returns a page. The caller holds the lock.
func (l *log) at(page int) *page {
	if page < len(l.full) {
		return &l.full[page]
	}
	return &l.page
}

// show lets readers have the entries up to a sequence. The caller holds the lock.
func (l *log) show(sequence int32) {
	l.shown = sequence
	l.wake()
}

// wake lets the readers that wait look again. The caller holds the lock.
func (l *log) wake() {
	for _, r := range l.readers {
		if r.waiting {
			r.waiting = false
			r.woken <- struct{}{} // has room: a reader waits once for each wake
		}
	}
}

// trim gives back the unused end of the last page and returns how many bytes
// that were. The log is closed. Readers keep their offsets: the new page has the
// same bytes.
func (l *log) trim() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	data := l.page.data
	l.page.data = append(make([]byte, 0, len(data)), data...)
	return cap(data) - len(data)
}

// drop lets the pages go. The log is closed, so no reader waits.
func (l *log) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full, l.page, l.gone = nil, page{}, true
}

// names returns how much its names take, which stay as long as it is known.
func (l *log) names() int64 {
	return int64(len(l.ID) + len(l.Principal) + len(l.Key) + len(l.Model))
}
