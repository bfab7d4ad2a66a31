package journaltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// testEveryOneCanEnd appends until a completion is too large, or the journal full, and
// then the end.
func testEveryOneCanEnd(t *testing.T, s Subject) {
	for _, limits := range []Limits{{MaxCompletion: 64 << 10}, {Bytes: 64 << 10}} {
		for _, size := range []int{0, 14, 1000, 20 << 10, 100 << 10} {
			for _, kind := range []journal.Kind{journal.Finished, journal.Failed} {
				j := s.Open(t, limits)
				w := create(t, j, journal.Completion{ID: "a"})
				sequence, n, err := int32(1), 0, error(nil) // of the entry that is refused
				for batch := make([]journal.Entry, 1+200/(size+1)); err == nil; sequence += int32(n) {
					for i := range batch {
						batch[i] = journal.Entry{Sequence: sequence + int32(i), Data: make([]byte, size)}
					}
					n, err = w.Append(t.Context(), batch)
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
				got, _ := available(open(t, j, "a", sequence-1))
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
		w, _, err := j.Create(t.Context(), journal.Completion{ID: fmt.Sprint(len(writers))}, &owner{})
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

// testWaitInAHurry waits with a context that is done: who is in a hurry does not wait.
func testWaitInAHurry(t *testing.T, s Subject) {
	late, cancel := context.WithCancelCause(t.Context())
	errLeft := errors.New("left")
	cancel(errLeft)
	w := create(t, s.Open(t, Limits{Bytes: 128 << 10}), journal.Completion{ID: "late"})
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
				_, err := appendOne(t.Context(), writers[i], next[i])
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
				} else if _, err := appendOne(ctx, writers[i], next[i]); err != nil {
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
	if _, err := appendOne(t.Context(), w, journal.Entry{Sequence: sequence, Kind: journal.Failed}); err != nil {
		t.Errorf("the end: %v", err)
	}
}
