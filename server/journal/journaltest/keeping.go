package journaltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
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
		if _, err := w.Append(t.Context(), tt.entry); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; want %v", tt.name, err, tt.want)
		}
		want := tt.before
		if tt.want == nil {
			want = append(want, tt.entry)
		}
		got, _ := have(open(t, j, "a", 0))
		if d := differ(got, want); d != nil {
			t.Errorf("%s: %v", tt.name, d)
		}
	}
}

func testKeys(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	first := journal.Completion{ID: "a", Principal: "p", Key: "k", Request: [32]byte{1}, Model: "m"}
	create(t, j, first)
	for _, tt := range []struct{ name, principal, key, want string }{
		{"same", "p", "k", "a"},
		{"other principal", "q", "k", "other principal"},
		{"other principal again", "q", "k", "other principal"},
		{"other key", "p", "l", "other key"},
		{"no principal", "", "k", "no principal"},
		{"halves swapped", "k", "p", "halves swapped"},
		{"no key", "p", "", "no key"},
		{"no key again", "p", "", "no key again"},
	} {
		w, holder, err := j.Create(t.Context(), journal.Completion{ID: tt.name, Principal: tt.principal, Key: tt.key})
		if err != nil || holder.ID != tt.want || (w != nil) != (tt.want == tt.name) || tt.want == "a" && holder != first {
			t.Errorf("%s: %v, %+v, %v; want %q", tt.name, w, holder, err, tt.want)
		}
		if _, err := j.Get(t.Context(), tt.name); (err == nil) != (w != nil) {
			t.Errorf("%s: created: %v, and Get says %v", tt.name, w != nil, err)
		}
	}
}

func testOneOfManyGetsTheKey(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	var created atomic.Int32
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			w, _, err := j.Create(t.Context(), journal.Completion{ID: fmt.Sprint(i), Key: "k"})
			if err != nil {
				t.Error(err)
			}
			if w != nil {
				created.Add(1)
			}
		})
	}
	all.Wait()
	known := 0
	for i := range 50 {
		if _, err := j.Get(t.Context(), fmt.Sprint(i)); err == nil {
			known++
		}
	}
	if n := created.Load(); n != 1 || known != 1 {
		t.Errorf("%d of 50 created one, %d are known; want 1", n, known)
	}
}

// testFind looks a key up in all states that its completion can be in.
func testFind(t *testing.T, s Subject) {
	s.InTime(t, func(t *testing.T) {
		j := s.Open(t, Limits{Retention: time.Minute})
		c := journal.Completion{ID: "a", Principal: "p", Key: "k", Model: "m"}
		create(t, j, journal.Completion{ID: "no key", Principal: "p"})
		find := func(when string, want journal.Info, wantErr error) {
			t.Helper()
			if got, err := j.Find(t.Context(), "p", "k"); got != want || err != wantErr {
				t.Errorf("%s: got %+v, %v; want %+v, %v", when, got, err, want, wantErr)
			}
			for _, other := range [][2]string{{"q", "k"}, {"", "k"}, {"p", "l"}, {"p", ""}, {"k", "p"}, {"pk", ""}} {
				if got, err := j.Find(t.Context(), other[0], other[1]); got != (journal.Info{}) || err != journal.ErrNotFound {
					t.Errorf("%s: %q has %+v, %v", when, other, got, err)
				}
			}
		}
		find("before", journal.Info{}, journal.ErrNotFound)
		w := create(t, j, c)
		find("begun", journal.Info{Completion: c}, nil)
		add(t, w, journal.Entry{Sequence: 1})
		find("running", journal.Info{Completion: c, Last: 1}, nil)
		add(t, w, journal.Entry{Sequence: 2, Kind: journal.Finished})
		find("ended", journal.Info{Completion: c, Last: 2, Ended: true}, nil)
		time.Sleep(time.Minute)
		find("expired", journal.Info{Completion: c, Last: 2, Ended: true}, journal.ErrExpired)
		time.Sleep(time.Minute)
		find("forgotten", journal.Info{}, journal.ErrNotFound)
	})
}

// expect checks what Get and Read say of a completion.
func expect(t *testing.T, j journal.Journal, id string, want error) {
	t.Helper()
	info, err := j.Get(t.Context(), id)
	if err != want || (info.ID == id) != (want != journal.ErrNotFound) {
		t.Errorf("Get(%q) = %+v, %v; want %v", id, info, err, want)
	}
	r, err := j.Read(t.Context(), id, 0)
	if err != want {
		t.Errorf("Read(%q): %v; want %v", id, err, want)
	}
	if err == nil {
		r.Close()
	}
}

// testExpiry lets time pass: the entries of what has ended go, then the rest; who
// reads meanwhile learns it; what runs stays.
func testExpiry(t *testing.T, s Subject) {
	s.InTime(t, func(t *testing.T) {
		j := s.Open(t, Limits{Retention: time.Minute})
		running := create(t, j, journal.Completion{ID: "running"})
		add(t, running, journal.Entry{Sequence: 1})
		all := entries(500)
		add(t, create(t, j, journal.Completion{ID: "a", Key: "k"}), all...)
		begun, done := open(t, j, "a", 0), open(t, j, "a", 0)
		got, err := begun.Next(t.Context())
		ended(t, t.Context(), done, all)
		time.Sleep(59 * time.Second)
		expect(t, j, "a", nil)
		time.Sleep(2 * time.Second)
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
		if _, holder, err := j.Create(t.Context(), journal.Completion{ID: "b", Key: "k"}); holder.ID != "a" || err != nil {
			t.Errorf("its key: %+v, %v", holder, err)
		}
		time.Sleep(time.Minute)
		expect(t, j, "a", journal.ErrNotFound)
		create(t, j, journal.Completion{ID: "c", Key: "k"})
		time.Sleep(time.Hour)
		expect(t, j, "running", nil)
		add(t, running, journal.Entry{Sequence: 2, Kind: journal.Finished})
		ended(t, t.Context(), open(t, j, "running", 1), []journal.Entry{{Sequence: 2, Kind: journal.Finished}})
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

// testEveryOneCanEnd appends until a completion is too large, or the journal full, and
// then the end.
func testEveryOneCanEnd(t *testing.T, s Subject) {
	for _, limits := range []Limits{{MaxCompletion: 64 << 10}, {Bytes: 64 << 10}} {
		for _, size := range []int{0, 14, 1000, 20 << 10, 100 << 10} {
			for _, kind := range []journal.Kind{journal.Finished, journal.Failed} {
				j := s.Open(t, limits)
				w := create(t, j, journal.Completion{ID: "a"})
				sequence, err := int32(0), error(nil)
				for err == nil {
					sequence++
					_, err = w.Append(t.Context(), journal.Entry{Sequence: sequence, Data: make([]byte, size)})
				}
				if !errors.Is(err, journal.ErrTooLarge) && (limits.Bytes == 0 || !errors.Is(err, journal.ErrFull)) {
					t.Fatalf("%+v, entry %d of %d bytes: %v", limits, sequence, size, err)
				}
				if errors.Is(err, journal.ErrFull) { // and nobody else's end will make room
					if err := w.Wait(soon(t), journal.Entry{Sequence: sequence, Data: make([]byte, size)}); !errors.Is(err, journal.ErrFull) {
						t.Errorf("%+v, waiting for %d bytes: %v", limits, size, err)
					}
				}
				if all := int64(sequence-1) * int64(size); all > max(limits.Bytes, limits.MaxCompletion) {
					t.Errorf("%+v: %d bytes are taken", limits, all)
				}
				add(t, w, journal.Entry{Sequence: sequence, Kind: kind, Data: []byte(strings.Repeat("e", 300))})
				got, _ := have(open(t, j, "a", sequence-1))
				if len(got) != 1 || got[0].Kind != kind || len(got[0].Data) != 300 {
					t.Errorf("%+v, %d bytes: the end is %v", limits, size, got)
				}
			}
		}
	}
}

// createMany creates as many completions as a journal has room for, up to a thousand.
func createMany(t testing.TB, j journal.Journal) (writers []journal.Writer) {
	t.Helper()
	for len(writers) < 1000 {
		w, _, err := j.Create(t.Context(), journal.Completion{ID: fmt.Sprint(len(writers))})
		if errors.Is(err, journal.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	return writers
}

// testWait fills the journal with what runs. Of those that find no room, each gets it
// when others end, and none before; and all can end.
func testWait(t *testing.T, s Subject) {
	ctx := soon(t)
	j := s.Open(t, Limits{Bytes: 128 << 10})
	writers := createMany(t, j)
	var all sync.WaitGroup
	for i, w := range writers {
		all.Go(func() {
			sequence := int32(1)
			for ; sequence <= 60; sequence++ { // 6 KB each: there is room for 20
				runtime.Gosched() // so that all grow together
				e := journal.Entry{Sequence: sequence, Data: make([]byte, 100)}
				_, err := w.Append(ctx, e)
				for errors.Is(err, journal.ErrFull) {
					if err = w.Wait(ctx, e); err == nil {
						_, err = w.Append(ctx, e)
					}
				}
				if err != nil {
					t.Errorf("%d of %d, entry %d: %v", i, len(writers), sequence, err)
					break
				}
			}
			if _, err := w.Append(ctx, journal.Entry{Sequence: sequence, Kind: journal.Finished}); err != nil {
				t.Errorf("the end of %d: %v", i, err)
			}
		})
	}
	all.Wait()
	// Who is in a hurry does not wait.
	late, cancel := context.WithCancelCause(ctx)
	errLeft := errors.New("left")
	cancel(errLeft)
	w := create(t, j, journal.Completion{ID: "late"})
	if err := w.Wait(late, journal.Entry{Sequence: 1}); err != nil && err != errLeft {
		t.Errorf("with room, and a context that is done: %v", err)
	}
}

// testWaitIsGivenUp has many wait for room. One of them stops waiting, and learns why;
// when that has ended, and the first one has, the others get what they wait for.
func testWaitIsGivenUp(t *testing.T, s Subject) {
	s.InTime(t, func(t *testing.T) {
		j := s.Open(t, Limits{Bytes: 128 << 10})
		writers := createMany(t, j)
		next := make([]journal.Entry, len(writers)) // of each
		for i := range next {
			next[i] = journal.Entry{Sequence: 1, Data: make([]byte, 400)}
		}
		left := len(writers) - 1
		for full := make([]bool, len(writers)); left > 0; {
			for i := 1; i < len(writers); i++ { // the first one could not wait
				_, err := writers[i].Append(t.Context(), next[i])
				switch {
				case err == nil:
					next[i].Sequence++
				case !errors.Is(err, journal.ErrFull):
					t.Fatal(err)
				case !full[i]:
					full[i] = true
					left--
				}
			}
		}
		ctx := soon(t)
		short, cancel := context.WithCancelCause(ctx)
		errLeft := errors.New("left")
		gone := make(chan error, 1)
		go func() { gone <- writers[1].Wait(short, next[1]) }()
		var stay sync.WaitGroup
		for i := 2; i < len(writers); i++ {
			stay.Go(func() {
				if err := writers[i].Wait(ctx, next[i]); err != nil {
					t.Errorf("%d waits: %v", i, err)
				} else if _, err := writers[i].Append(ctx, next[i]); err != nil {
					t.Errorf("%d has waited: %v", i, err)
				} else {
					next[i].Sequence++
				}
				end(t, writers[i], next[i].Sequence)
			})
		}
		time.Sleep(time.Second) // so that they wait
		if len(gone) > 0 {
			t.Errorf("nobody has ended, and one has room: %v", <-gone)
		}
		cancel(errLeft)
		if err := <-gone; err != errLeft {
			t.Errorf("it waits no more: %v; want the cause", err)
		}
		end(t, writers[1], next[1].Sequence)
		end(t, writers[0], next[0].Sequence)
		stay.Wait()
	})
}

// end appends the last entry.
func end(t testing.TB, w journal.Writer, sequence int32) {
	t.Helper()
	if _, err := w.Append(t.Context(), journal.Entry{Sequence: sequence, Kind: journal.Failed}); err != nil {
		t.Errorf("the end: %v", err)
	}
}
