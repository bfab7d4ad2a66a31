package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/sluice-sse/sluice/server/journal"
)

// TestWhatRunsComesToItsEnd has far more completions run than the memory holds whole.
// Of those that are admitted, none fails, and the memory is never exceeded.
func TestWhatRunsComesToItsEnd(t *testing.T) {
	for _, size := range []int64{64 << 10, 256 << 10, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			m := newJournal(t, Config{Bytes: size})
			ctx := patience(t)
			var admitted, waited atomic.Int32
			var created, all sync.WaitGroup
			created.Add(200)
			for i := range 200 {
				all.Go(func() {
					w, _, err := m.Create(ctx, journal.Completion{ID: fmt.Sprint(i)}, nobody{})
					created.Done()
					created.Wait() // so that they run at once
					if errors.Is(err, journal.ErrFull) {
						return
					}
					admitted.Add(1)
					if err := fillUp(ctx, m, w, rand.New(rand.NewPCG(uint64(i), 1)), &waited); err != nil {
						t.Errorf("completion %d: %v", i, err)
					}
				})
			}
			all.Wait()
			audit(t, m)
			t.Logf("%d of 200 admitted, waited %d times", admitted.Load(), waited.Load())
			if m.budget.shares != 0 || m.budget.running.Len()+m.budget.waiting.Len() != 0 {
				t.Errorf("%d bytes are still shared out", m.budget.shares)
			}
			if admitted.Load() < 8 || waited.Load() == 0 {
				t.Errorf("the test tests little")
			}
		})
	}
}

// fillUp writes a completion that is as large as is guaranteed, but for what is left
// over in its pages.
func fillUp(ctx context.Context, m *Journal, w journal.Writer, random *rand.Rand, waited *atomic.Int32) error {
	l := w.(*log)
	for l.bytes < m.budget.guaranteed-2*firstPage {
		e := journal.Entry{Sequence: l.last + 1, Data: make([]byte, random.IntN(500))}
		runtime.Gosched() // so that all grow together
		_, err := appendOne(ctx, w, e)
		if errors.Is(err, journal.ErrFull) {
			waited.Add(1)
			if err = w.Wait(ctx, e); err == nil {
				_, err = appendOne(ctx, w, e)
			}
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", l.bytes, err)
		}
		if n := m.Bytes(); n > m.config.Bytes {
			return fmt.Errorf("the memory has %d bytes of %d", n, m.config.Bytes)
		}
	}
	_, err := appendOne(ctx, w, journal.Entry{Sequence: l.last + 1, Kind: journal.Finished, Data: []byte("end")})
	return err
}

// grown appends to a completion until it would have to wait, and returns the entry
// that has no room.
func grown(t *testing.T, m *Journal, w journal.Writer) journal.Entry {
	t.Helper()
	for {
		e := journal.Entry{Sequence: w.(*log).last + 1, Data: make([]byte, 400)}
		if _, err := appendOne(t.Context(), w, e); errors.Is(err, journal.ErrFull) {
			return e
		} else if err != nil {
			t.Fatal(err)
		}
		audit(t, m)
	}
}

// crowd returns running completions of which all but the oldest have to wait.
func crowd(t *testing.T, n int) (*Journal, []journal.Writer, []journal.Entry) {
	t.Helper()
	m := newJournal(t, Config{Bytes: 64 << 10, MaxCompletion: 1 << 20})
	var writers []journal.Writer
	var next []journal.Entry
	for i := range n {
		writers = append(writers, create(t, m, journal.Completion{ID: fmt.Sprint(i)}))
	}
	for _, w := range writers[1:] {
		next = append(next, grown(t, m, w))
	}
	return m, writers, next
}

func TestNewOnesAreRefusedFirst(t *testing.T) {
	m, writers, _ := crowd(t, 4)
	if _, _, err := m.Create(t.Context(), journal.Completion{ID: "new"}, nobody{}); !errors.Is(err, journal.ErrFull) {
		t.Errorf("a new one: %v", err)
	}
	// The oldest goes on, up to what is guaranteed.
	for oldest := writers[0].(*log); oldest.bytes <= m.budget.guaranteed-firstPage; {
		add(t, oldest, journal.Entry{Sequence: oldest.last + 1, Data: make([]byte, 100)})
		audit(t, m)
	}
}

// TestWait checks that those that wait come in turn, each as soon as it fits, and the
// oldest at once.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, writers, next := crowd(t, 6)
		waits := make([]chan error, len(next))
		for i := range waits {
			next[i].Data = make([]byte, 4000)
			waits[i] = make(chan error, 1)
			go func() { waits[i] <- writers[i+1].Wait(t.Context(), next[i]) }()
			synctest.Wait() // so that they come in this order
		}
		got := 0 // so many have their room
		for i := range writers {
			add(t, writers[i], journal.Entry{Sequence: writers[i].(*log).last + 1, Kind: journal.Finished})
			synctest.Wait()
			before := got
			for got < len(waits) && len(waits[got]) > 0 {
				if err := <-waits[got]; err != nil {
					t.Fatalf("%d: %v", got+1, err)
				}
				add(t, writers[got+1], next[got])
				got++
			}
			for j := got; j < len(waits); j++ {
				if len(waits[j]) > 0 {
					t.Errorf("%d has its room before %d", j+1, got+1)
				}
			}
			if i < len(waits) && got <= i {
				t.Errorf("%d is the oldest, and waits", i+1)
			}
			if i == 0 && (before != 0 || got == len(waits)) {
				t.Errorf("%d wait at first, %d when the first one has ended", len(waits)-before, len(waits)-got)
			}
			audit(t, m)
		}
	})
}

// TestWaitIsGivenUp checks that who waits can leave, and end, and is in nobody's way.
func TestWaitIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, writers, next := crowd(t, 3)
		errLeft := errors.New("left")
		ctx, cancel := context.WithCancelCause(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- writers[1].Wait(ctx, next[0]) }()
		synctest.Wait()
		go func() { second <- writers[2].Wait(t.Context(), next[1]) }()
		synctest.Wait()
		cancel(errLeft)
		if err := <-first; err != errLeft {
			t.Errorf("got %v, want the cause", err)
		}
		audit(t, m)
		add(t, writers[1], journal.Entry{Sequence: next[0].Sequence, Kind: journal.Failed})
		if err := <-second; err != nil {
			t.Errorf("the next one: %v", err)
		}
		// It ends, though it has room for an event.
		add(t, writers[2], journal.Entry{Sequence: next[1].Sequence, Kind: journal.Failed})
		audit(t, m)
	})
}

// TestOldestDoesNotWaitForNothing: it has what is guaranteed, and all that is free; it
// fails, rather than wait for those that wait for it.
func TestOldestDoesNotWaitForNothing(t *testing.T) {
	m, writers, _ := crowd(t, 4)
	e := grown(t, m, writers[0])
	if err := writers[0].Wait(t.Context(), e); !errors.Is(err, journal.ErrFull) {
		t.Errorf("got %v", err)
	}
	if l := writers[0].(*log); l.bytes < m.budget.guaranteed-firstPage {
		t.Errorf("it was refused with %d bytes of %d", l.bytes, m.budget.guaranteed)
	}
	add(t, writers[0], journal.Entry{Sequence: e.Sequence, Kind: journal.Failed})
	audit(t, m)
}

// TestEndedOnesGoFirst checks that a running completion takes the place of all that
// have ended before it has to wait.
func TestEndedOnesGoFirst(t *testing.T) {
	m := newJournal(t, Config{Bytes: 64 << 10})
	for i := range 20 {
		complete(t, m, fmt.Sprint("ended", i), 100)
	}
	e := grown(t, m, create(t, m, journal.Completion{ID: "running"}))
	for i := range 20 {
		if _, err := m.Get(t.Context(), fmt.Sprint("ended", i)); err == nil {
			t.Errorf("the %dth is kept while the running one has no room for its entry %d", i, e.Sequence)
		}
	}
}
