package memory

import (
	"context"

	"github.com/sluice-sse/sluice/server/journal"
)

// Held is the writer of a completion whose entries nobody is shown before Show says so: of
// one that is kept in a store as well, which must have them first. It is for one goroutine
// at a time.
type Held struct{ *log }

// CreateHeld does what Create does, but that the entries are held.
func (j *Journal) CreateHeld(ctx context.Context, c journal.Completion, o journal.Owner) (*Held, journal.Completion, error) {
	w, holder, err := j.Create(ctx, c, o)
	if w == nil {
		return nil, holder, err
	}
	l := w.(*log)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
	return &Held{l}, holder, nil
}

// Show shows the entries up to a sequence to readers.
func (h *Held) Show(sequence int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.show(sequence)
}

// Last returns the sequence of the last entry, shown or not.
func (h *Held) Last() int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Entries returns entries that follow a sequence, shown or not: as many as Reader.Next
// does, and none at the end. It returns journal.ErrExpired when they have been dropped.
func (h *Held) Entries(after int32) ([]journal.Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return nil, journal.ErrExpired
	}
	if after >= h.last {
		return nil, nil
	}
	r := h.position(after)
	if r.offset == len(h.at(r.page).data) {
		r.page, r.offset = r.page+1, 0
	}
	return r.decode(h.at(r.page).data[r.offset:], batch), nil
}

// Lose gives the completion up, which somebody else has ended: what is not shown is not
// part of it. Its readers, and those that come, get journal.ErrOwnerLost here.
func (h *Held) Lose() {
	h.mu.Lock()
	closed := h.closed
	h.last, h.ended = h.shown, false
	h.close()
	h.wake()
	h.mu.Unlock()
	if !closed {
		h.journal.retire(h.log)
	}
}

// Lost tells whether a completion that is known here has no owner and no end.
func (j *Journal) Lost(id string) bool {
	l := j.find(id)
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed && !l.ended
}
