package memory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// patience is a context that ends before the test does, should a reader hang.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestManyReadersRaceTheWriter(t *testing.T) {
	const n = 2000
	all := entries(n)
	ctx := patience(t)
	m := newJournal(t, Config{})
	w := create(t, m, journal.Completion{ID: "a"})
	var readers sync.WaitGroup
	follow := func(after int32) {
		r := open(t, m, "a", after)
		readers.Go(func() {
			got, err := drain(ctx, r)
			same(t, got, all[after:])
			if err != io.EOF {
				t.Errorf("after %d: %v", after, err)
			}
		})
	}
	for range 8 {
		follow(0)
	}
	for i, e := range all {
		if i%100 == 50 {
			follow(int32(i / 2))
			follow(int32(i))
		}
		add(t, w, e)
	}
	readers.Wait()
}

// TestReadersRaceTheEnd has entries vanish under readers in all ways in which
// they can. Each reader gets to the end, or learns that it is late.
func TestReadersRaceTheEnd(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		late   bool // whether readers may be
	}{
		{"ends only", Config{}, false},
		{"expires at once", Config{Retention: 1}, true},
		{"expires soon", Config{Retention: 50 * time.Microsecond}, true},
		{"evicted", Config{Bytes: 24 << 10}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newJournal(t, tt.config)
			ctx := patience(t)
			var ended, late atomic.Int32
			var wg sync.WaitGroup
			for p := range 4 {
				wg.Go(func() {
					for i := range 100 {
						race(ctx, t, m, fmt.Sprint(p, "_", i), &ended, &late)
					}
				})
			}
			wg.Wait()
			audit(t, m)
			t.Logf("%d readers came to the end, %d were late", ended.Load(), late.Load())
			if late.Load() > 0 && !tt.late {
				t.Errorf("%d readers were late", late.Load())
			}
		})
	}
}

// race has four readers follow one short completion.
func race(ctx context.Context, t *testing.T, m *Journal, id string, ended, late *atomic.Int32) {
	const n = 40
	all := entries(n)
	w, _, err := m.Create(ctx, journal.Completion{ID: id}, nobody{})
	if err != nil {
		t.Errorf("Create: %v", err)
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for i, e := range all {
		if i%10 == 5 {
			wg.Go(func() {
				after := int32(i / 2)
				r, err := m.Follow(ctx, id, after)
				if err == nil {
					defer r.Close()
					var got []journal.Entry
					got, err = drain(ctx, r)
					want := all[after:]
					if err != io.EOF {
						want = want[:min(len(got), len(want))]
					}
					same(t, got, want)
				}
				switch {
				case err == io.EOF:
					ended.Add(1)
				case err == journal.ErrExpired, err == journal.ErrNotFound:
					late.Add(1)
				default:
					t.Errorf("after %d: %v", after, err)
				}
			})
		}
		if _, err := appendOne(ctx, w, e); err != nil {
			t.Errorf("Append: %v", err)
			// Readers must be let go all the same.
			_, _ = appendOne(ctx, w, journal.Entry{Sequence: e.Sequence, Kind: journal.Failed})
			return
		}
	}
}

// TestCancelledNextLosesNoWake has Next, its cancellation, and the append that it
// waits for meet in all orders. The entry must come then or with the next call.
func TestCancelledNextLosesNoWake(t *testing.T) {
	ctx := patience(t)
	errLeft := errors.New("left")
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint("readers=", n), func(t *testing.T) {
			m := newJournal(t, Config{})
			w := create(t, m, journal.Completion{ID: "a"})
			var readers []journal.Reader
			for range n {
				readers = append(readers, open(t, m, "a", 0))
			}
			left := 0
			for s := int32(1); s <= 5000; s++ {
				left += meet(ctx, t, w, readers, s, errLeft)
			}
			t.Logf("%d of %d calls were cancelled first", left, n*5000)
		})
	}
}

// meet appends one entry, which each reader must get, and returns how many of
// them were cancelled before.
func meet(ctx context.Context, t *testing.T, w journal.Writer, readers []journal.Reader, s int32, cause error) int {
	t.Helper()
	short, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var left atomic.Int32
	var wg sync.WaitGroup
	if s%2 == 0 {
		wg.Go(func() { cancel(cause) })
	}
	for _, r := range readers {
		wg.Go(func() {
			got, err := r.Next(short)
			if err == cause {
				left.Add(1)
				got, err = r.Next(ctx)
			}
			if err != nil || len(got) != 1 || got[0].Sequence != s {
				t.Errorf("entry %d: %v, %v", s, got, err)
			}
		})
	}
	if s%2 == 1 {
		wg.Go(func() { cancel(cause) })
	}
	appended := make(chan error, 1)
	go func() {
		_, err := appendOne(ctx, w, journal.Entry{Sequence: s})
		appended <- err
	}()
	select {
	case err := <-appended:
		if err != nil {
			t.Fatal(err)
		}
	case <-ctx.Done():
		t.Fatalf("Append(%d) hangs", s)
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return int(left.Load())
}

func TestNextIsBounded(t *testing.T) {
	m := newJournal(t, Config{})
	w := create(t, m, journal.Completion{ID: "a"})
	for s := int32(1); s <= 10_000; s++ {
		add(t, w, journal.Entry{Sequence: s})
	}
	r := open(t, m, "a", 0)
	for seen := 0; seen < 10_000; {
		got, err := r.Next(t.Context())
		if err != nil || len(got) == 0 || len(got) > batch {
			t.Fatalf("after %d: %d entries, %v; want at most %d", seen, len(got), err, batch)
		}
		seen += len(got)
	}
}

func TestCloseWhileOthersRead(t *testing.T) {
	const n = 500
	ctx := patience(t)
	all := entries(n)
	m := newJournal(t, Config{})
	w := create(t, m, journal.Completion{ID: "a"})
	var wg sync.WaitGroup
	for i := range 30 {
		r, err := m.Follow(ctx, "a", 0)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer r.Close()
			var got []journal.Entry
			for i%3 == 0 || len(got) < 10*i { // two in three leave early
				some, err := r.Next(ctx)
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Error(err)
					return
				}
				got = append(got, some...)
			}
			if i%3 == 0 {
				same(t, got, all)
				return
			}
			same(t, got, all[:min(len(got), len(all))])
		})
	}
	add(t, w, all...)
	wg.Wait()
	if l := w.(*log); len(l.readers) != 0 {
		t.Errorf("%d readers left behind", len(l.readers))
	}
}

// TestEntriesAreShared: readers get the same bytes, not copies, and these stay as
// they are whatever happens to the log.
func TestEntriesAreShared(t *testing.T) {
	all := varied()
	n := len(all) - 1
	m := newJournal(t, Config{Bytes: 1 << 20})
	w := create(t, m, journal.Completion{ID: "a"})
	add(t, w, all[:n/2]...)
	one, _ := available(open(t, m, "a", 0))
	two, _ := available(open(t, m, "a", 3))
	for i, e := range two {
		if o := one[i+3]; len(e.Data) > 0 && &e.Data[0] != &o.Data[0] {
			t.Fatalf("entry %d: two readers have copies", e.Sequence)
		}
	}
	for _, e := range one {
		// A reader that appends to its slice must not reach the next entry.
		if cap(e.Data) != len(e.Data) {
			t.Fatalf("entry %d: capacity %d of %d bytes", e.Sequence, cap(e.Data), len(e.Data))
		}
	}
	add(t, w, all[n/2:]...)
	same(t, one, all[:n/2])
	for i := 0; ; i++ { // until it has been evicted
		if _, err := m.Get(t.Context(), "a"); err == journal.ErrExpired {
			break
		}
		add(t, create(t, m, journal.Completion{ID: fmt.Sprint(i)}), journal.Entry{Sequence: 1, Data: make([]byte, 64<<10)})
	}
	same(t, one, all[:n/2])
}

// TestReaderOfWhatIsGone: one that has had the end is at the end; one that has
// not is late.
func TestReaderOfWhatIsGone(t *testing.T) {
	m := newJournal(t, Config{Bytes: 32 << 10})
	all := complete(t, m, "a", 100)
	done, behind, begun := open(t, m, "a", 0), open(t, m, "a", 0), open(t, m, "a", 0)
	for seen := 0; seen < len(all); {
		got, err := done.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen += len(got)
	}
	got, err := begun.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	add(t, create(t, m, journal.Completion{ID: "large"}), journal.Entry{Sequence: 1, Data: make([]byte, 28<<10)})
	expect(t, m, "a", journal.ErrExpired)
	same(t, got, all[:len(got)])
	for _, tt := range []struct {
		name string
		r    journal.Reader
		want error
	}{{"done", done, io.EOF}, {"behind", behind, journal.ErrExpired}, {"begun", begun, journal.ErrExpired}} {
		if got, err := tt.r.Next(t.Context()); err != tt.want {
			t.Errorf("%s: Next = %v, %v; want %v", tt.name, got, err, tt.want)
		}
	}
}
