// Package journaltest holds what every journal.Journal promises against one: Run.
package journaltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// A Subject is a journal that is tested.
type Subject struct {
	// Open returns an empty journal with these limits. What it opens it closes with
	// the test.
	Open func(t testing.TB, limits Limits) journal.Journal

	// InTime runs a test in which many times Minute may pass, in time.Sleep.
	InTime func(t *testing.T, test func(t *testing.T))

	// Minute is what stands for a minute there: less, where time is real.
	Minute time.Duration

	// KeepsEnded says that what has ended stays for the retention, however much there is:
	// Limits.Bytes are only of what runs, as where a store has the rest.
	KeepsEnded bool
}

// Limits are those of a journal. Of those that are zero, a subject chooses ones that
// 256 KiB of entries are within.
type Limits struct {
	Retention     time.Duration // how long what has ended, and then what is left of it, stays
	Bytes         int64         // of all completions
	MaxCompletion int64         // of one
}

// patience is how long a test waits for what must happen at once.
const patience = 20 * time.Second

// Run tests a journal.
func Run(t *testing.T, s Subject) {
	for _, part := range []struct {
		name string
		test func(*testing.T, Subject)
	}{
		{"Bursts", testBursts},
		{"Live", testLive},
		{"CancelledNextLosesNoWake", testCancelledNextLosesNoWake},
		{"EndWakes", testEndWakes},
		{"NextReturnsTheCause", testNextReturnsTheCause},
		{"EntriesHold", testEntriesHold},
		{"Read", testRead},
		{"Get", testGet},
		{"AppendIsFenced", testAppendIsFenced},
		{"Batches", testBatches},
		{"BatchIsFenced", testBatchIsFenced},
		{"BatchOutgrowsTheLimit", testBatchOutgrowsTheLimit},
		{"ReadersAreCounted", testReadersAreCounted},
		{"CancelIsTold", testCancelIsTold},
		{"OwnerIsLost", testOwnerIsLost},
		{"LostIsEndedOnce", testLostIsEndedOnce},
		{"EndLostRefuses", testEndLostRefuses},
		{"LostMakesRoom", testLostMakesRoom},
		{"NobodyWaitsForEver", testNobodyWaitsForEver},
		{"CloseTwice", testCloseTwice},
		{"Keys", testKeys},
		{"OneOfManyGetsTheKey", testOneOfManyGetsTheKey},
		{"Find", testFind},
		{"Expiry", testExpiry},
		{"Eviction", testEviction},
		{"EveryOneCanEnd", testEveryOneCanEnd},
		{"Wait", testWait},
		{"WaitInAHurry", testWaitInAHurry},
		{"WaitIsGivenUp", testWaitIsGivenUp},
	} {
		if s.KeepsEnded && part.name == "Eviction" {
			continue
		}
		t.Run(part.name, func(t *testing.T) { part.test(t, s) })
	}
}

// create opens a completion's journal, which must have room and the key be free.
func create(t testing.TB, j journal.Journal, c journal.Completion) journal.Writer {
	t.Helper()
	w, _ := createOwned(t, j, c)
	return w
}

// createOwned returns the owner besides.
func createOwned(t testing.TB, j journal.Journal, c journal.Completion) (journal.Writer, *owner) {
	t.Helper()
	o := &owner{}
	w, got, err := j.Create(t.Context(), c, o)
	if err != nil || w == nil || got != c {
		t.Fatalf("Create(%q) = %v, %+v, %v", c.ID, w, got, err)
	}
	return w, o
}

// owner is the fake of package journal. It keeps what it is told.
type owner struct {
	mu               sync.Mutex
	cancels, readers int
}

func (o *owner) Cancel() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cancels++
}

func (o *owner) Readers(change int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.readers += change
}

// told returns how often it was asked to cancel, and how many readers there are.
func (o *owner) told() (cancels, readers int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cancels, o.readers
}

// add appends entries, which must be taken, as one batch.
func add(t testing.TB, w journal.Writer, entries ...journal.Entry) {
	t.Helper()
	batch := slices.Clone(entries)
	n, err := w.Append(t.Context(), batch)
	if n != len(entries) || err != nil {
		t.Fatalf("%d of %d are appended: %v", n, len(entries), err)
	}
	if d := differ(batch, entries); d != nil {
		t.Fatalf("the journal's copies: %v", d)
	}
}

// appendOne appends an entry, and returns the journal's copy of its data.
func appendOne(ctx context.Context, w journal.Writer, e journal.Entry) ([]byte, error) {
	batch := []journal.Entry{e}
	n, err := w.Append(ctx, batch)
	if (n == 1) != (err == nil) {
		return nil, fmt.Errorf("%d of 1 is appended: %w", n, err)
	}
	return batch[0].Data, err
}

// entries returns n events, of sizes that differ, and an end.
func entries(n int) []journal.Entry {
	all := make([]journal.Entry, 0, n+1)
	for s := range int32(n) {
		data := bytes.Repeat([]byte{byte(s), byte(s >> 8), 'x'}, int(s*s)%17)
		all = append(all, journal.Entry{Sequence: s + 1, Kind: journal.Event, Data: data})
	}
	return append(all, journal.Entry{Sequence: int32(n) + 1, Kind: journal.Finished, Data: []byte("end")})
}

// open returns a reader that follows, which must be had, and is closed with the test.
func open(t testing.TB, j journal.Journal, id string, after int32) journal.Reader {
	t.Helper()
	r, err := j.Follow(t.Context(), id, after)
	if err != nil {
		t.Fatalf("Follow(%q, %d): %v", id, after, err)
	}
	t.Cleanup(r.Close)
	return r
}

// drain returns copies of what a reader still gives, and why it stopped.
func drain(ctx context.Context, r journal.Reader) (all []journal.Entry, err error) {
	for {
		some, err := r.Next(ctx)
		if err == nil && len(some) == 0 {
			err = errors.New("nothing was returned by Next")
		}
		if err != nil {
			return all, err
		}
		for _, e := range some {
			e.Data = bytes.Clone(e.Data)
			all = append(all, e)
		}
	}
}

// available returns what a reader gives without waiting. The error is nil when more will
// come.
func available(r journal.Reader) ([]journal.Entry, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	errWait := errors.New("nothing there")
	cancel(errWait)
	all, err := drain(ctx, r)
	if err == errWait {
		err = nil
	}
	return all, err
}

// differ says where got is not want, or nothing.
func differ(got, want []journal.Entry) error {
	for i, e := range got[:min(len(got), len(want))] {
		if w := want[i]; e.Sequence != w.Sequence || e.Kind != w.Kind || !bytes.Equal(e.Data, w.Data) {
			return fmt.Errorf("entry %d, kind %d, %d bytes; want entry %d, kind %d, %d bytes",
				e.Sequence, e.Kind, len(e.Data), w.Sequence, w.Kind, len(w.Data))
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d entries, want %d", len(got), len(want))
	}
	return nil
}

// readsAll checks that a reader gives these entries, and then the end.
func readsAll(t testing.TB, ctx context.Context, r journal.Reader, want []journal.Entry) {
	t.Helper()
	got, err := drain(ctx, r)
	if d := differ(got, want); d != nil || !errors.Is(err, io.EOF) {
		t.Errorf("%v, and at the end %v", d, err)
	}
}

// soon is a context that ends long after what the test waits for.
func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until what must become true is.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for ctx := soon(t); !is(); time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatal(what)
		}
	}
}
