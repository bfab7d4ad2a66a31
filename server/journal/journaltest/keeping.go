package journaltest

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

func testGet(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	if info, err := j.Get(t.Context(), "a"); err != journal.ErrNotFound || info != (journal.Info{}) {
		t.Errorf("of none: %+v, %v", info, err)
	}
	want := journal.Info{Completion: journal.Completion{ID: "a", Principal: "p", Key: "k", Request: [32]byte{1}, Model: "m"}}
	w := create(t, j, want.Completion)
	check := func() {
		t.Helper()
		if info, err := j.Get(t.Context(), "a"); err != nil || info != want {
			t.Errorf("Get = %+v, %v; want %+v", info, err, want)
		}
	}
	check()
	add(t, w, journal.Entry{Sequence: 1}, journal.Entry{Sequence: 2})
	want.Last = 2
	check()
	add(t, w, journal.Entry{Sequence: 3, Kind: journal.Failed})
	want.Last, want.Ended = 3, true
	check()
}

func testAppendIsFenced(t *testing.T, s Subject) {
	event := func(s int32) journal.Entry { return journal.Entry{Sequence: s} }
	end := func(s int32, k journal.Kind) journal.Entry { return journal.Entry{Sequence: s, Kind: k} }
	type list = []journal.Entry
	for _, tt := range []struct {
		name   string
		before list
		entry  journal.Entry
		want   error
	}{
		{"first", nil, event(1), nil},
		{"next", list{event(1)}, event(2), nil},
		{"first is the end", nil, end(1, journal.Failed), nil},
		{"from zero", nil, event(0), journal.ErrFenced},
		{"a gap at the start", nil, event(2), journal.ErrFenced},
		{"a gap", list{event(1)}, event(3), journal.ErrFenced},
		{"the same again", list{event(1), event(2)}, event(2), journal.ErrFenced},
		{"negative", list{event(1)}, event(-1), journal.ErrFenced},
		{"the end after a gap", list{event(1)}, end(3, journal.Finished), journal.ErrFenced},
		{"the end again", list{end(1, journal.Finished)}, end(1, journal.Finished), journal.ErrFenced},
		{"a second end", list{end(1, journal.Finished)}, end(2, journal.Failed), journal.ErrFenced},
		{"after finished", list{event(1), end(2, journal.Finished)}, event(3), journal.ErrFenced},
		{"after failed", list{end(1, journal.Failed)}, event(2), journal.ErrFenced},
	} {
		j := s.Open(t, Limits{})
		w := create(t, j, journal.Completion{ID: "a"})
		add(t, w, tt.before...)
		if _, err := appendOne(t.Context(), w, tt.entry); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", tt.name, err, tt.want)
		}
		want := tt.before
		if tt.want == nil {
			want = append(want, tt.entry)
		}
		got, _ := available(open(t, j, "a", 0))
		if d := differ(got, want); d != nil {
			t.Errorf("%s: %v", tt.name, d)
		}
	}
}

// expect checks what Get, Read and Follow say of a completion.
func expect(t *testing.T, j journal.Journal, id string, want error) {
	t.Helper()
	info, err := j.Get(t.Context(), id)
	if err != want || (info.ID == id) != (want != journal.ErrNotFound) {
		t.Errorf("Get(%q) = %+v, %v; want %v", id, info, err, want)
	}
	for name, read := range readings(j) {
		r, err := read(t.Context(), id, 0)
		if err != want {
			t.Errorf("%s(%q): %v; want %v", name, id, err, want)
		}
		if err == nil {
			r.Close()
		}
	}
}

// testExpiry lets time pass: the entries of what has ended go, then the rest; who
// reads meanwhile learns it; what runs stays.
func testExpiry(t *testing.T, s Subject) {
	s.InTime(t, func(t *testing.T) {
		j := s.Open(t, Limits{Retention: s.Minute})
		running := create(t, j, journal.Completion{ID: "running"})
		add(t, running, journal.Entry{Sequence: 1})
		all := entries(500)
		add(t, create(t, j, journal.Completion{ID: "a", Key: "k"}), all...)
		begun, done := open(t, j, "a", 0), open(t, j, "a", 0)
		got, err := begun.Next(t.Context())
		readsAll(t, t.Context(), done, all)
		time.Sleep(s.Minute * 3 / 4)
		expect(t, j, "a", nil)
		time.Sleep(s.Minute / 2)
		expect(t, j, "a", journal.ErrExpired)
		if got, err := done.Next(t.Context()); err != io.EOF {
			t.Errorf("a reader that has had the end: %v, %v", got, err)
		}
		if d := differ(got, all[:len(got)]); d != nil || err != nil {
			t.Errorf("what was read before: %v, %v", d, err)
		}
		if got, err := begun.Next(t.Context()); err != journal.ErrExpired {
			t.Errorf("a reader that is late: %v, %v", got, err)
		}
		if _, holder, err := j.Create(t.Context(), journal.Completion{ID: "b", Key: "k"}, &owner{}); holder.ID != "a" || err != nil {
			t.Errorf("its key: %+v, %v", holder, err)
		}
		time.Sleep(s.Minute)
		expect(t, j, "a", journal.ErrNotFound)
		create(t, j, journal.Completion{ID: "c", Key: "k"})
		time.Sleep(4 * s.Minute)
		expect(t, j, "running", nil)
		add(t, running, journal.Entry{Sequence: 2, Kind: journal.Finished})
		readsAll(t, t.Context(), open(t, j, "running", 1), []journal.Entry{{Sequence: 2, Kind: journal.Finished}})
	})
}

// testEviction fills the journal with what has ended: what ended first goes first, and
// its key still stands for it; what runs stays.
func testEviction(t *testing.T, s Subject) {
	j := s.Open(t, Limits{Bytes: 128 << 10})
	running := create(t, j, journal.Completion{ID: "running"})
	add(t, running, journal.Entry{Sequence: 1, Data: []byte("x")})
	const n = 40
	for i := range n {
		w := create(t, j, journal.Completion{ID: fmt.Sprint(i), Key: fmt.Sprint("k", i)})
		add(t, w, journal.Entry{Sequence: 1, Data: make([]byte, 8<<10)}, journal.Entry{Sequence: 2, Kind: journal.Finished})
	}
	gone := 0
	for i := range n {
		if _, err := j.Get(t.Context(), fmt.Sprint(i)); err == nil {
			continue
		} else if err != journal.ErrExpired || i != gone {
			t.Errorf("%d: %v, with %d gone before it", i, err, gone)
		}
		gone++
		if info, err := j.Find(t.Context(), "", fmt.Sprint("k", i)); info.ID != fmt.Sprint(i) || err != journal.ErrExpired {
			t.Errorf("the key of %d: %+v, %v", i, info, err)
		}
	}
	if gone == 0 || gone > n-4 {
		t.Errorf("%d of %d are gone", gone, n)
	}
	expect(t, j, "running", nil)
	add(t, running, journal.Entry{Sequence: 2, Kind: journal.Finished})
}
