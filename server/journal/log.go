package journal

import (
	"context"
	"encoding/binary"
	"io"
	"sort"
	"sync"
	"time"
)

const (
	firstPage = 512      // most completions that fail fit in here
	fullPage  = 16 << 10 // each page is twice as large as the one before, up to this
	batch     = 64       // the most entries that Next returns
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
	mu      sync.Mutex // guards all up to full
	last    int32
	ended   bool
	gone    bool // the pages have been dropped
	readers []*reader
	page    page   // the last one, which is written to; without data, there is none
	full    []page // those before it

	memory *Memory
	Completion

	// Guarded by Memory.mu.
	bytes   int64     // what the memory counts for the pages
	place   *place    // in room, while it runs
	expires time.Time // once ended: when to drop the pages; once gone: when to forget the log
}

type page struct {
	first int32 // the sequence of its first entry
	data  []byte
}

func frameHeader(e Entry) uint64 { return uint64(len(e.Data))<<2 | uint64(e.Kind) }

// grow returns the size of the page that e needs, and the least that it can be, and 0
// when e fits into the last one. Only the writer changes pages while the completion
// runs, so it may ask without the lock.
func (l *log) grow(e Entry) (size, least int) {
	need := len(binary.AppendUvarint(make([]byte, 0, binary.MaxVarintLen64), frameHeader(e))) + len(e.Data)
	data := l.page.data
	switch {
	case cap(data)-len(data) >= need:
		return 0, 0
	case e.Kind != Event: // nothing comes after it
		return need, need
	}
	least = max(need, firstPage)
	return max(least, min(2*cap(data), fullPage)), least
}

// append writes e, on a new page of the given size if that is not 0, and wakes
// the readers that wait. It returns the data as it is written.
func (l *log) append(e Entry, newPage int) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.page
	if newPage > 0 {
		if p.data != nil {
			l.full = append(l.full, *p)
		}
		*p = page{first: e.Sequence, data: make([]byte, 0, newPage)}
	}
	p.data = append(binary.AppendUvarint(p.data, frameHeader(e)), e.Data...)
	l.last = e.Sequence
	l.ended = e.Kind != Event
	l.wake()
	n := len(p.data)
	return p.data[n-len(e.Data) : n : n]
}

// at returns a page. The caller holds the lock.
func (l *log) at(page int) *page {
	if page < len(l.full) {
		return &l.full[page]
	}
	return &l.page
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
// that were. The completion has ended. Readers keep their offsets: the new page
// has the same bytes.
func (l *log) trim() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	data := l.page.data
	l.page.data = append(make([]byte, 0, len(data)), data...)
	return cap(data) - len(data)
}

// drop lets the pages go. The completion has ended, so no reader waits.
func (l *log) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full, l.page, l.gone = nil, page{}, true
}

// names returns how much its names take, which stay as long as it is known.
func (l *log) names() int64 {
	return int64(len(l.ID) + len(l.Principal) + len(l.Key) + len(l.Model))
}

// info returns what is known of the completion, and whether the pages are gone.
func (l *log) info() (Info, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Info{Completion: l.Completion, Last: l.last, Ended: l.ended}, l.gone
}

// read returns a reader that stands behind the given sequence.
func (l *log) read(after int32) (*reader, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return nil, ErrExpired
	}
	if after > l.last {
		return nil, ErrAhead
	}
	r := &reader{log: l, woken: make(chan struct{}, 1)}
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
	r.place = len(l.readers)
	l.readers = append(l.readers, r)
	return r, nil
}

// reader follows a log. Its cursor is behind the entry with sequence last, at an
// offset of a page.
type reader struct {
	log     *log
	woken   chan struct{}
	waiting bool // guarded by log.mu, as is place
	place   int  // in log.readers; -1: closed

	page, offset int
	last         int32
	entries      []Entry // what Next returned, used again
}

func (r *reader) Next(ctx context.Context) ([]Entry, error) {
	for {
		frames, err := r.look()
		if err != nil {
			return nil, err
		}
		if len(frames) > 0 {
			return r.decode(frames), nil
		}
		select {
		case <-r.woken:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// look returns the frames of the current page that the reader has not had. With
// none there, the reader waits from then on.
func (r *reader) look() ([]byte, error) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended && r.last == l.last: // also when the pages went since
		return nil, io.EOF
	case l.gone:
		return nil, ErrExpired
	case r.last < l.last:
		if r.offset == len(l.at(r.page).data) {
			r.page, r.offset = r.page+1, 0
		}
		return l.at(r.page).data[r.offset:], nil
	}
	// A wake that came while ctx was done, and was not taken, is not for later.
	select {
	case <-r.woken:
	default:
	}
	r.waiting = true
	return nil, nil
}

// decode moves the cursor over frames, or as many as a batch holds.
func (r *reader) decode(frames []byte) []Entry {
	r.entries = r.entries[:0]
	for len(frames) > 0 && len(r.entries) < batch {
		e, n := decodeFrame(frames)
		r.last++
		e.Sequence = r.last
		r.entries = append(r.entries, e)
		r.offset += n
		frames = frames[n:]
	}
	return r.entries
}

// decodeFrame returns the entry at the start of frames, without its sequence,
// and the length of its frame.
func decodeFrame(frames []byte) (Entry, int) {
	header, n := binary.Uvarint(frames)
	end := n + int(header>>2)
	return Entry{Kind: Kind(header & 3), Data: frames[n:end:end]}, end
}

func (r *reader) Close() {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.place < 0 {
		return
	}
	last := len(l.readers) - 1
	l.readers[r.place], l.readers[last].place = l.readers[last], r.place
	l.readers[last] = nil
	l.readers, r.place = l.readers[:last], -1
}
