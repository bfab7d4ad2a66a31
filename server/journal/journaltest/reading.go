package journaltest

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// testBursts appends so many entries before anybody reads, who then comes from
// anywhere.
func testBursts(t *testing.T, s Subject) {
	for _, n := range []int{0, 1, 2, 63, 64, 65, 127, 128, 129, 400, 1000, 5000} {
		j := s.Open(t, Limits{})
		all := entries(n)
		w := create(t, j, journal.Completion{ID: "a"})
		add(t, w, all[:n]...)
		places := []int{0, 1, n / 3, n / 2, n - 64, n - 1, n}
		for _, after := range places {
			if after < 0 || after > n {
				continue
			}
			got, err := available(open(t, j, "a", int32(after)))
			if d := differ(got, all[after:n]); d != nil || err != nil {
				t.Errorf("%d entries, after %d: %v, %v", n, after, d, err)
			}
		}
		add(t, w, all[n])
		for _, after := range append(places, n+1) {
			if after >= 0 {
				readsAll(t, soon(t), open(t, j, "a", int32(after)), all[after:])
			}
		}
	}
}

// testLive has readers follow while bursts of all sizes are appended.
func testLive(t *testing.T, s Subject) {
	const n = 5000
	ctx := soon(t)
	j := s.Open(t, Limits{})
	all := entries(n)
	w := create(t, j, journal.Completion{ID: "a"})
	var readers sync.WaitGroup
	defer readers.Wait()
	follow := func(after int) {
		r := open(t, j, "a", int32(after))
		readers.Go(func() { readsAll(t, ctx, r, all[after:]) })
	}
	for range 8 {
		follow(0)
	}
	for i, left := 0, all; len(left) > 0; i++ {
		burst := min(len(left), 1<<(i%11))
		add(t, w, left[:burst]...)
		left = left[burst:]
		follow((len(all) - len(left)) / 2)
		follow(len(all) - len(left))
	}
}

// testCancelledNextLosesNoWake has Next, its cancellation, and the append that it waits
// for meet in all orders. The entry comes then or with the next call.
func testCancelledNextLosesNoWake(t *testing.T, s Subject) {
	ctx := soon(t)
	errLeft := errors.New("left")
	j := s.Open(t, Limits{})
	w := create(t, j, journal.Completion{ID: "a"})
	readers := []journal.Reader{open(t, j, "a", 0), open(t, j, "a", 0), open(t, j, "a", 0)}
	for sequence := int32(1); sequence <= 1000 && !t.Failed(); sequence++ {
		short, cancel := context.WithCancelCause(ctx)
		var all sync.WaitGroup
		for _, r := range readers {
			all.Go(func() {
				got, err := r.Next(short)
				if err == errLeft {
					got, err = r.Next(ctx)
				}
				if err != nil || len(got) != 1 || got[0].Sequence != sequence {
					t.Errorf("entry %d: %v, %v", sequence, got, err)
				}
			})
		}
		if sequence%2 == 0 { // else they wait until there is an entry
			all.Go(func() { cancel(errLeft) })
		}
		for range sequence % 50 {
			runtime.Gosched() // so that they have come to wait, at times
		}
		add(t, w, journal.Entry{Sequence: sequence})
		all.Wait()
		cancel(nil)
	}
}

// testEndWakes has readers wait for nothing but the end.
func testEndWakes(t *testing.T, s Subject) {
	for _, kind := range []journal.Kind{journal.Finished, journal.Failed} {
		s.InTime(t, func(t *testing.T) {
			ctx := soon(t)
			j := s.Open(t, Limits{})
			w := create(t, j, journal.Completion{ID: "a"})
			add(t, w, journal.Entry{Sequence: 1})
			end := journal.Entry{Sequence: 2, Kind: kind, Data: []byte("end")}
			var readers sync.WaitGroup
			defer readers.Wait()
			for range 3 {
				r := open(t, j, "a", 1)
				readers.Go(func() { readsAll(t, ctx, r, []journal.Entry{end}) })
			}
			time.Sleep(time.Second) // so that they wait
			add(t, w, end)
		})
	}
}

func testNextReturnsTheCause(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	w := create(t, j, journal.Completion{ID: "a"})
	r := open(t, j, "a", 0)
	errLeft := errors.New("left")
	for sequence := int32(1); sequence < 100; sequence++ {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errLeft)
		for range sequence % 3 {
			if got, err := r.Next(ctx); err != errLeft {
				t.Fatalf("Next = %v, %v; want the cause", got, err)
			}
		}
		add(t, w, journal.Entry{Sequence: sequence})
		// What is there comes also to one who will not wait.
		if got, err := r.Next(ctx); err != nil || len(got) != 1 || got[0].Sequence != sequence {
			t.Fatalf("Next = %v, %v; want entry %d", got, err, sequence)
		}
	}
}

// testEntriesHold checks that what Next returned stays as it is until the next call,
// and its data, and what Append returned, for longer.
func testEntriesHold(t *testing.T, s Subject) {
	const n = 1000
	j := s.Open(t, Limits{})
	all := entries(n)
	w := create(t, j, journal.Completion{ID: "a"})
	add(t, w, all[:n/2]...)
	r := open(t, j, "a", 0)
	some, err := r.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kept := append([]journal.Entry(nil), some...)
	for _, e := range all[n/2:] {
		data, err := appendOne(t.Context(), w, e)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, journal.Entry{Sequence: e.Sequence, Kind: e.Kind, Data: data})
	}
	if d := differ(some, all[:len(some)]); d != nil {
		t.Error(d)
	}
	readsAll(t, t.Context(), r, all[len(some):])
	want := append(append([]journal.Entry(nil), all[:len(some)]...), all[n/2:]...)
	if d := differ(kept, want); d != nil {
		t.Errorf("kept: %v", d)
	}
}

// readings are the two ways to read.
func readings(j journal.Journal) map[string]func(ctx context.Context, id string, after int32) (journal.Reader, error) {
	return map[string]func(context.Context, string, int32) (journal.Reader, error){"Read": j.Read, "Follow": j.Follow}
}

func testRead(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	create(t, j, journal.Completion{ID: "empty"})
	add(t, create(t, j, journal.Completion{ID: "running"}), entries(3)[:3]...)
	add(t, create(t, j, journal.Completion{ID: "ended"}), entries(3)...)
	for _, tt := range []struct {
		id    string
		after int32
		want  int // how many entries there are at once
		err   error
		end   error // what comes behind them; nil: one who follows waits
	}{
		{id: "unknown", err: journal.ErrNotFound},
		{id: "", err: journal.ErrNotFound},
		{id: "empty"},
		{id: "empty", after: 1, err: journal.ErrAhead},
		{id: "running", want: 3},
		{id: "running", after: 2, want: 1},
		{id: "running", after: 3},
		{id: "running", after: 4, err: journal.ErrAhead},
		{id: "running", after: 1<<31 - 1, err: journal.ErrAhead},
		{id: "ended", want: 4, end: io.EOF},
		{id: "ended", after: 3, want: 1, end: io.EOF},
		{id: "ended", after: 4, end: io.EOF},
		{id: "ended", after: 5, err: journal.ErrAhead},
	} {
		for name, read := range readings(j) {
			r, err := read(t.Context(), tt.id, tt.after)
			if !errors.Is(err, tt.err) {
				t.Errorf("%s(%q, %d): %v; want %v", name, tt.id, tt.after, err, tt.err)
			}
			if err != nil {
				continue
			}
			end := tt.end
			if name == "Read" {
				end = io.EOF
			}
			for i, want := range []int{tt.want, 0} { // and again
				if got, err := available(r); len(got) != want || err != end {
					t.Errorf("%s after %q, %d, time %d: %d entries and %v; want %d and %v", name, tt.id, tt.after, i, len(got), err, want, end)
				}
			}
			r.Close()
		}
	}
}

func testCloseTwice(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	w := create(t, j, journal.Completion{ID: "a"})
	stays, leaves, last := open(t, j, "a", 0), open(t, j, "a", 0), open(t, j, "a", 0)
	leaves.Close()
	leaves.Close()
	last.Close()
	add(t, w, journal.Entry{Sequence: 1})
	if got, err := available(stays); len(got) != 1 || err != nil {
		t.Errorf("the other reader got %v, %v", got, err)
	}
}
