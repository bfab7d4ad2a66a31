package journaltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// testReadersAreCounted checks that the owner knows how many follow.
func testReadersAreCounted(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	w, o := createOwned(t, j, journal.Completion{ID: "a"})
	_, other := createOwned(t, j, journal.Completion{ID: "b"})
	want := func(n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("the owner is never told of %d readers", n), func() bool {
			_, readers := o.told()
			return readers == n
		})
	}
	var readers []journal.Reader
	for n := range 3 {
		readers = append(readers, open(t, j, "a", 0))
		want(n + 1)
	}
	if r, err := j.Read(t.Context(), "a", 0); err != nil {
		t.Error(err)
	} else {
		defer r.Close()
	}
	if _, err := j.Follow(t.Context(), "a", 1); err != journal.ErrAhead {
		t.Error(err)
	}
	readers[1].Close()
	readers[1].Close()
	want(2)
	add(t, w, journal.Entry{Sequence: 1})
	readers[0].Close()
	want(1)
	// Many at once.
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if r, err := j.Follow(t.Context(), "a", 1); err != nil {
				t.Error(err)
			} else {
				r.Close()
			}
		})
	}
	all.Wait()
	want(1)
	readers[2].Close()
	want(0)
	add(t, w, journal.Entry{Sequence: 2, Kind: journal.Finished})
	w.Close()
	open(t, j, "a", 0).Close() // of the end nobody needs to know
	if cancels, _ := o.told(); cancels != 0 {
		t.Errorf("cancelled %d times", cancels)
	}
	if cancels, readers := other.told(); cancels != 0 || readers != 0 {
		t.Errorf("another owner: cancelled %d times, %d readers", cancels, readers)
	}
}

// testCancelIsTold has the owner be told by other goroutines, while it appends.
func testCancelIsTold(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	if err := j.Cancel(t.Context(), "a"); err != journal.ErrNotFound {
		t.Errorf("of none: %v", err)
	}
	w, o := createOwned(t, j, journal.Completion{ID: "a"})
	_, other := createOwned(t, j, journal.Completion{ID: "b"})
	var asking sync.WaitGroup
	asking.Go(func() {
		time.Sleep(time.Millisecond)
		for range 3 {
			if err := j.Cancel(t.Context(), "a"); err != nil {
				t.Error(err)
			}
		}
	})
	sequence := int32(1)
	eventually(t, "the owner is never told", func() bool {
		add(t, w, journal.Entry{Sequence: sequence})
		sequence++
		cancels, _ := o.told()
		return cancels > 0
	})
	asking.Wait()
	end(t, w, sequence)
	w.Close()
	eventually(t, "the owner is told for ever", func() bool {
		before, _ := o.told()
		err := j.Cancel(t.Context(), "a")
		after, _ := o.told()
		return err == nil && before == after
	})
	if cancels, _ := other.told(); cancels != 0 {
		t.Errorf("another owner is cancelled %d times", cancels)
	}
}

// testOwnerIsLost has owners give up without an end. Whoever reads, or comes to read,
// learns it, and gets the end that somebody then writes. The owner writes no more.
func testOwnerIsLost(t *testing.T, s Subject) {
	for _, n := range []int{0, 1, 5, 100} {
		ctx := soon(t)
		j := s.Open(t, Limits{})
		all := entries(n)[:n]
		w, o := createOwned(t, j, journal.Completion{ID: "a", Key: "k"})
		add(t, w, all...)
		readers := []journal.Reader{open(t, j, "a", 0), open(t, j, "a", 0)}
		var waiting sync.WaitGroup
		for _, r := range readers {
			waiting.Go(func() { readsAllLost(t, ctx, r, all) })
		}
		time.Sleep(time.Millisecond) // so that they wait
		w.Close()
		waiting.Wait()
		for _, read := range readings(j) { // those that come later
			r, err := read(ctx, "a", 0)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			readsAllLost(t, ctx, r, all)
			readers = append(readers, r)
		}
		isFenced(t, ctx, w, n)
		if info, err := j.Find(ctx, "", "k"); info.ID != "a" || info.Ended || int(info.Last) != n || err != nil {
			t.Errorf("of %d: %+v, %v", n, info, err)
		}
		if err := j.Cancel(ctx, "a"); err != nil {
			t.Errorf("of %d: %v", n, err)
		}
		if err := j.EndLost(ctx, "a", []byte("lost")); err != nil {
			t.Fatalf("of %d: %v", n, err)
		}
		isFenced(t, ctx, w, n)
		end := journal.Entry{Sequence: int32(n + 1), Kind: journal.Failed, Data: []byte("lost")}
		for _, r := range readers {
			readsAll(t, ctx, r, []journal.Entry{end})
		}
		readsAll(t, ctx, open(t, j, "a", 0), append(slices.Clone(all), end))
		if info, err := j.Get(ctx, "a"); !info.Ended || int(info.Last) != n+1 || err != nil {
			t.Errorf("of %d: %+v, %v", n, info, err)
		}
		if cancels, _ := o.told(); cancels != 0 {
			t.Errorf("of %d: the owner that was lost is told to cancel", n)
		}
	}
}

// readsAllLost checks that a reader gives these entries, and then, as often as it is
// asked, that the owner is lost.
func readsAllLost(t *testing.T, ctx context.Context, r journal.Reader, want []journal.Entry) {
	t.Helper()
	got, err := drain(ctx, r)
	if d := differ(got, want); d != nil || err != journal.ErrOwnerLost {
		t.Errorf("of %d: %v, and then %v", len(want), d, err)
	}
	if got, err := r.Next(ctx); err != journal.ErrOwnerLost {
		t.Errorf("of %d, again: %v, %v", len(want), got, err)
	}
}

// isFenced checks that a writer that was lost behind n entries writes no more.
func isFenced(t *testing.T, ctx context.Context, w journal.Writer, n int) {
	t.Helper()
	if _, err := appendOne(ctx, w, journal.Entry{Sequence: int32(n + 1), Kind: journal.Finished}); err != journal.ErrFenced {
		t.Errorf("of %d: the owner that was lost writes: %v", n, err)
	}
}

// testLostIsEndedOnce has many write the end of a completion whose owner is lost.
func testLostIsEndedOnce(t *testing.T, s Subject) {
	ctx := soon(t)
	j := s.Open(t, Limits{})
	w := create(t, j, journal.Completion{ID: "a"})
	add(t, w, journal.Entry{Sequence: 1})
	r := open(t, j, "a", 1)
	w.Close()
	var done atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			switch err := j.EndLost(ctx, "a", []byte("lost")); {
			case err == nil:
				done.Add(1)
			case !errors.Is(err, journal.ErrFenced):
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := done.Load(); n != 1 {
		t.Errorf("%d have written the end", n)
	}
	readsAll(t, ctx, r, []journal.Entry{{Sequence: 2, Kind: journal.Failed, Data: []byte("lost")}})
}

// testEndLostRefuses ends nothing that has an owner, has ended, or is gone.
func testEndLostRefuses(t *testing.T, s Subject) {
	s.InTime(t, func(t *testing.T) {
		j := s.Open(t, Limits{Retention: s.Minute})
		refuses := func(id string, want error) {
			t.Helper()
			if err := j.EndLost(t.Context(), id, []byte("lost")); err != want {
				t.Errorf("EndLost(%q) = %v; want %v", id, err, want)
			}
		}
		refuses("none", journal.ErrNotFound)
		running := create(t, j, journal.Completion{ID: "running"})
		refuses("running", journal.ErrFenced)
		add(t, running, entries(3)[:2]...)
		refuses("running", journal.ErrFenced)
		add(t, running, entries(3)[2:]...)
		refuses("running", journal.ErrFenced)
		running.Close()
		refuses("running", journal.ErrFenced)
		readsAll(t, t.Context(), open(t, j, "running", 0), entries(3))

		lost := create(t, j, journal.Completion{ID: "lost"})
		add(t, lost, journal.Entry{Sequence: 1})
		r := open(t, j, "lost", 1)
		lost.Close()
		time.Sleep(s.Minute * 5 / 4)
		expect(t, j, "lost", journal.ErrExpired)
		refuses("lost", journal.ErrExpired)
		if got, err := r.Next(t.Context()); err != journal.ErrExpired {
			t.Errorf("a reader that is late: %v, %v", got, err)
		}
		time.Sleep(s.Minute)
		expect(t, j, "lost", journal.ErrNotFound)
		refuses("lost", journal.ErrNotFound)
	})
}

// testLostMakesRoom has many more owners give up than there is room for at once.
func testLostMakesRoom(t *testing.T, s Subject) {
	j := s.Open(t, Limits{Bytes: 128 << 10})
	for i := range 200 {
		id := fmt.Sprint(i)
		w := create(t, j, journal.Completion{ID: id})
		add(t, w, journal.Entry{Sequence: 1, Data: make([]byte, 4<<10)})
		w.Close()
		if i%2 == 0 {
			continue // this one nobody ends
		}
		r := open(t, j, id, 1)
		if got, err := toTheEnd(soon(t), j, r, id); len(got) != 1 || got[0].Sequence != 2 || err != nil {
			t.Errorf("%d: %v, %v", i, got, err)
		}
		if got, err := r.Next(t.Context()); err != io.EOF {
			t.Errorf("%d: behind the end: %v, %v", i, got, err)
		}
	}
}
