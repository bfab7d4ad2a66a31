package memory

import (
	"errors"
	"io"
	"testing/synctest"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// madeRoom follows the evictions of an operation that needed room and may have
// failed: the first ones first, tombstones last, and not one more than needed.
func (d *model) madeRoom(err error) {
	m, freed := d.memory, int64(0)
	for len(d.ended) > 0 && d.get(d.ended[0]) != nil {
		freed = d.ended[0].freed
		d.expire(time.Now())
		d.evicted++
	}
	for len(d.gone) > 0 && d.get(d.gone[0]) == journal.ErrNotFound {
		if len(d.ended) > 0 {
			d.t.Fatalf("%s is forgotten while %s still has entries", d.gone[0].ID, d.ended[0].ID)
		}
		freed = d.gone[0].freed
		d.forget()
	}
	switch {
	case err == nil:
		if freed > 0 && m.Bytes()+freed <= m.config.Bytes {
			d.t.Fatalf("%d bytes of %d, but what gave %d had to go", m.Bytes(), m.config.Bytes, freed)
		}
	case errors.Is(err, journal.ErrFull):
		d.refused++
	case errors.Is(err, journal.ErrTooLarge):
		d.refused++
	default:
		d.t.Fatal(err)
	}
}

// expire lets the entries of the one that ended first go.
func (d *model) expire(at time.Time) {
	r := d.ended[0]
	r.state, r.until = journal.ErrExpired, at.Add(d.memory.config.Retention)
	r.freed = goneCost + r.writer.(*log).names()
	d.ended, d.gone = d.ended[1:], append(d.gone, r)
}

func (d *model) forget() {
	r := d.gone[0]
	r.state = journal.ErrNotFound
	d.gone = d.gone[1:]
	delete(d.keys, claim{r.Principal, r.Key})
	for i, k := range d.known {
		if k == r {
			d.known = append(d.known[:i:i], d.known[i+1:]...)
		}
	}
	if err := d.get(r); err != journal.ErrNotFound {
		d.t.Fatalf("Get(%s): %v; want it forgotten", r.ID, err)
	}
}

// sleep lets time pass, and with it what was due at each moment.
func (d *model) sleep(t time.Duration) {
	time.Sleep(t)
	synctest.Wait()
	now := time.Now()
	for len(d.ended) > 0 && !d.ended[0].until.After(now) {
		d.expire(d.ended[0].until)
	}
	for len(d.gone) > 0 && !d.gone[0].until.After(now) {
		d.forget()
	}
}

// read reads from a cursor what is there.
func (d *model) read(r *modelRun, after int32) {
	reader, err := d.memory.Follow(d.t.Context(), r.ID, after)
	want := r.state
	if want == nil && int(after) > len(r.entries) {
		want = journal.ErrAhead
	}
	if err != want {
		d.t.Fatalf("Read(%s, %d): %v; want %v", r.ID, after, err, want)
	}
	if err == nil {
		d.drain(reader, r, after)
		reader.Close()
	}
}

// follow reads on with a reader that stays, or opens one.
func (d *model) follow(r *modelRun, b int) {
	if r.reader == nil {
		if r.state != nil {
			return
		}
		r.seen = int32(b % (len(r.entries) + 1))
		r.reader, _ = d.memory.Follow(d.t.Context(), r.ID, r.seen)
		return
	}
	r.seen = d.drain(r.reader, r, r.seen)
	if b%16 == 0 {
		r.reader.Close()
		r.reader = nil
	}
}

func (d *model) drain(reader journal.Reader, r *modelRun, seen int32) int32 {
	d.t.Helper()
	got, err := available(reader)
	want, end := r.entries[seen:], error(nil)
	switch {
	case r.ended && (r.state == nil || len(want) == 0):
		end = io.EOF
	case r.state != nil:
		want, end = nil, journal.ErrExpired
	case r.closed:
		end = journal.ErrOwnerLost
	}
	same(d.t, got, want)
	if err != end || d.t.Failed() {
		d.t.Fatalf("%s after %d: %v; want %v", r.ID, seen, err, end)
	}
	return seen + int32(len(got))
}

func (d *model) get(r *modelRun) error {
	info, err := d.memory.Get(d.t.Context(), r.ID)
	if err != journal.ErrNotFound && (info.Completion != r.Completion || int(info.Last) != len(r.entries) || info.Ended != r.ended) {
		d.t.Fatalf("Get = %+v; want %+v, %d entries, ended: %v", info, r.Completion, len(r.entries), r.ended)
	}
	return err
}

// compare checks that Memory and model agree.
func (d *model) compare() {
	d.t.Helper()
	for _, r := range d.known {
		if err := d.get(r); err != r.state {
			d.t.Fatalf("Get(%s): %v; want %v", r.ID, err, r.state)
		}
	}
	if d.memory.Len() != len(d.known) || len(d.memory.keys) != len(d.keys) {
		d.t.Fatalf("%d known and %d keys; want %d and %d", d.memory.Len(), len(d.memory.keys), len(d.known), len(d.keys))
	}
	audit(d.t, d.memory)
}
