package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// testBatches appends batches of all sizes, whose buffer is used again at once, and
// reads them while they come and afterwards.
func testBatches(t *testing.T, s Subject) {
	const n = 1000
	for _, size := range []int{1, 2, 3, 63, 64, 65, 300, n + 1} {
		j := s.Open(t, Limits{})
		all := entries(n)
		w := create(t, j, journal.Completion{ID: "a"})
		var live sync.WaitGroup
		for range 3 {
			r := open(t, j, "a", 0)
			live.Go(func() { readsAll(t, soon(t), r, all) })
		}
		var kept []journal.Entry
		buf := make([]byte, 0, 64<<10)
		for some := range slices.Chunk(all, size) {
			buf = buf[:0]
			batch := slices.Clone(some)
			for i, e := range some {
				buf = append(buf, e.Data...)
				batch[i].Data = buf[len(buf)-len(e.Data):]
			}
			if n, err := w.Append(t.Context(), batch); n != len(batch) || err != nil {
				t.Fatalf("batches of %d: %d of %d, %v", size, n, len(batch), err)
			}
			for i := range buf[:cap(buf)] {
				buf[:cap(buf)][i] = '?'
			}
			kept = append(kept, batch...)
		}
		if d := differ(kept, all); d != nil {
			t.Errorf("batches of %d: what Append made of them: %v", size, d)
		}
		live.Wait()
		for _, after := range []int{0, 1, size - 1, size, n, n + 1} {
			readsAll(t, t.Context(), open(t, j, "a", int32(min(after, n+1))), all[min(after, n+1):])
		}
	}
	// None at all.
	w := create(t, s.Open(t, Limits{}), journal.Completion{ID: "a"})
	if n, err := w.Append(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("of no entries: %d, %v", n, err)
	}
}

// testBatchIsFenced has a batch go wrong at each of its places: what stands before is
// there, and nothing behind.
func testBatchIsFenced(t *testing.T, s Subject) {
	const n = 5
	for place := range n {
		for name, spoil := range map[string]func(batch []journal.Entry){
			"a gap":      func(b []journal.Entry) { b[place].Sequence++ },
			"a repeat":   func(b []journal.Entry) { b[place].Sequence-- },
			"the ending": func(b []journal.Entry) { b[place].Kind = journal.Failed },
		} {
			j := s.Open(t, Limits{})
			w := create(t, j, journal.Completion{ID: "a"})
			batch := entries(n)
			spoil(batch)
			want := slices.Clone(batch[:place])
			if name == "the ending" { // is good, and what is behind it is not
				want = append(want, batch[place])
			}
			got, err := w.Append(t.Context(), batch)
			if got != len(want) || err != journal.ErrFenced {
				t.Errorf("%s at %d: %d are appended, %v; want %d", name, place, got, err, len(want))
			}
			there, _ := available(open(t, j, "a", 0))
			if d := differ(there, want); d != nil {
				t.Errorf("%s at %d: %v", name, place, d)
			}
		}
	}
}

// testBatchOutgrowsTheLimit has a batch of which only a part is allowed. The completion
// can still end.
func testBatchOutgrowsTheLimit(t *testing.T, s Subject) {
	const n = 200
	j := s.Open(t, Limits{MaxCompletion: 64 << 10})
	w := create(t, j, journal.Completion{ID: "a"})
	all := make([]journal.Entry, n)
	for i := range all {
		all[i] = journal.Entry{Sequence: int32(i + 1), Data: bytes.Repeat([]byte{byte(i)}, 1000)}
	}
	got, err := w.Append(t.Context(), slices.Clone(all))
	if got == 0 || got >= n || !errors.Is(err, journal.ErrTooLarge) {
		t.Fatalf("%d of %d, %v", got, n, err)
	}
	end := journal.Entry{Sequence: int32(got + 1), Kind: journal.Failed, Data: []byte("end")}
	add(t, w, end)
	readsAll(t, t.Context(), open(t, j, "a", 0), append(all[:got:got], end))
}

// testWait fills the journal with what runs, entry by entry and all at once. Of those that
// find no room for a batch, each goes on where it had to wait, when others have ended;
// nothing is lost or comes twice, and all can end.
func testWait(t *testing.T, s Subject) {
	const n = 60 // 6 KB: there is room for 20
	ctx := soon(t)
	for _, size := range []int{1, n + 1} {
		j := s.Open(t, Limits{Bytes: 128 << 10})
		var all sync.WaitGroup
		for i, w := range createMany(t, j) {
			all.Go(func() {
				batch := make([]journal.Entry, n, n+1)
				for k := range batch {
					batch[k] = journal.Entry{Sequence: int32(k + 1), Data: bytes.Repeat([]byte{byte(k)}, 100)}
				}
				batch = append(batch, journal.Entry{Sequence: n + 1, Kind: journal.Finished})
				want := slices.Clone(batch)
				r, err := j.Follow(ctx, fmt.Sprint(i), 0)
				if err != nil {
					t.Error(err)
					return
				}
				all.Go(func() {
					defer r.Close()
					got, err := drain(ctx, r)
					if err == journal.ErrExpired { // others needed the room
						want = want[:len(got)]
					} else if err != io.EOF {
						t.Errorf("%d: read: %v", i, err)
					}
					if d := differ(got, want); d != nil {
						t.Errorf("%d: read: %v", i, d)
					}
				})
				for len(batch) > 0 {
					runtime.Gosched() // so that all grow together
					got, err := w.Append(ctx, batch[:min(size, len(batch))])
					if batch = batch[got:]; errors.Is(err, journal.ErrFull) {
						err = w.Wait(ctx, batch[0])
					}
					if err != nil {
						t.Errorf("%d, %d at a time: with %d left: %v", i, size, len(batch), err)
						break
					}
				}
				w.Close()
			})
		}
		all.Wait()
	}
}

// testNobodyWaitsForEver has owners end their completions, or not, at any time, while
// readers come and go and others cancel. Each reader comes to an end.
func testNobodyWaitsForEver(t *testing.T, s Subject) {
	ctx := soon(t)
	j := s.Open(t, Limits{})
	var all sync.WaitGroup
	for i := range 60 {
		id := fmt.Sprint(i)
		want := entries(i)
		w := create(t, j, journal.Completion{ID: id})
		for k := range 4 {
			all.Go(func() {
				time.Sleep(time.Duration(k) * time.Millisecond)
				r, err := j.Follow(ctx, id, 0)
				if err != nil {
					t.Error(err)
					return
				}
				defer r.Close()
				if k == 3 { // leaves
					return
				}
				got, err := toTheEnd(ctx, j, r, id)
				if err != nil || len(got) == 0 || got[len(got)-1].Kind == journal.Event {
					t.Errorf("%s: %v after %d entries", id, err, len(got))
					return
				}
				if d := differ(got[:len(got)-1], want[:len(got)-1]); d != nil {
					t.Error(d)
				}
			})
		}
		all.Go(func() { _ = j.Cancel(ctx, id) })
		all.Go(func() {
			for some := range slices.Chunk(want[:len(want)-i%2], 1+i%7) { // every second one lacks its end
				if _, err := w.Append(ctx, slices.Clone(some)); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Duration(i%3) * time.Millisecond / 4)
			}
			w.Close()
		})
	}
	all.Wait()
}

// toTheEnd reads to the end, which it writes itself if the owner is lost.
func toTheEnd(ctx context.Context, j journal.Journal, r journal.Reader, id string) ([]journal.Entry, error) {
	all, err := drain(ctx, r)
	if err == journal.ErrOwnerLost {
		if err := j.EndLost(ctx, id, []byte("lost")); err != nil && err != journal.ErrFenced {
			return all, err
		}
		var rest []journal.Entry
		rest, err = drain(ctx, r)
		all = append(all, rest...)
	}
	if err == io.EOF {
		err = nil
	}
	return all, err
}
