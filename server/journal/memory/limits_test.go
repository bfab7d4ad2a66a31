package memory

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/sluice-sse/sluice/server/journal"
)

// fill appends events of a size until one is refused, and returns how many were
// taken and the error.
func fill(t *testing.T, w journal.Writer, size int) (int32, error) {
	t.Helper()
	for s := int32(1); s < 1<<20; s++ {
		if _, err := appendOne(t.Context(), w, journal.Entry{Sequence: s, Data: make([]byte, size)}); err != nil {
			return s - 1, err
		}
	}
	t.Fatal("no limit")
	return 0, nil
}

func TestLimits(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		want   error
	}{
		{"too large", Config{MaxCompletion: 100 << 10}, journal.ErrTooLarge},
		{"full", Config{Bytes: 100 << 10}, journal.ErrFull},
	}
	for _, tt := range tests {
		for _, size := range []int{0, 14, 1000, 90 << 10, 101 << 10} {
			t.Run(fmt.Sprint(tt.name, "/", size), func(t *testing.T) {
				m := newJournal(t, tt.config)
				w := create(t, m, journal.Completion{ID: "a"})
				n, err := fill(t, w, size)
				if !errors.Is(err, tt.want) {
					t.Fatalf("after %d: %v; want %v", n, err, tt.want)
				}
				if stored := int(n) * (size + 1); stored < 100<<10-fullPage-logCost-2*size {
					t.Errorf("refused after %d bytes of 100 KiB", stored)
				}
				// Again, and no harm done.
				if _, err := appendOne(t.Context(), w, journal.Entry{Sequence: n + 1, Data: make([]byte, size)}); !errors.Is(err, tt.want) {
					t.Errorf("again: %v; want %v", err, tt.want)
				}
				add(t, w, journal.Entry{Sequence: n + 1, Kind: journal.Failed, Data: make([]byte, 600)})
				audit(t, m)
				got, err := drain(t.Context(), open(t, m, "a", 0))
				if len(got) != int(n)+1 || err != io.EOF {
					t.Errorf("%d entries, %v; want %d and EOF", len(got), err, n+1)
				}
			})
		}
	}
}

func TestFullOfRunningOnes(t *testing.T) {
	m := newJournal(t, Config{Bytes: 16 << 10})
	var running []journal.Writer
	for {
		w, _, err := m.Create(t.Context(), journal.Completion{ID: fmt.Sprint(len(running))}, nobody{})
		if err != nil {
			if !errors.Is(err, journal.ErrFull) {
				t.Fatal(err)
			}
			break
		}
		running = append(running, w)
	}
	if len(running) < 8 {
		t.Fatalf("full with %d completions", len(running))
	}
	for i, w := range running {
		add(t, w, journal.Entry{Sequence: 1, Kind: journal.Failed, Data: []byte("full")})
		audit(t, m)
		if info, err := m.Get(t.Context(), fmt.Sprint(i)); err != nil || !info.Ended {
			t.Errorf("completion %d: %+v, %v", i, info, err)
		}
	}
	create(t, m, journal.Completion{ID: "one more"})
}
