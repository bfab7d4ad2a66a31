package app

import (
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	const MiB = 1 << 20
	for _, tt := range []struct {
		name           string
		alive, journal int64
		want           int
	}{
		{"nothing yet", 0, 0, 100},
		{"no journal", 500 * MiB, 0, 100},
		{"little in all", 8 * MiB, 4 * MiB, 100},
		{"a full journal", 256 * MiB, 240 * MiB, 12}, // 32 MiB
		{"half of it", 400 * MiB, 200 * MiB, 50},
		{"a journal beyond all", 64 << 30, 64 << 30, 1},
		{"it grew since", 100 * MiB, 120 * MiB, 32},
	} {
		if got := percentFor(tt.alive, tt.journal); got != tt.want {
			t.Errorf("%s: %d %%, want %d", tt.name, got, tt.want)
		}
	}
}

// TestPacer checks that the pacer follows the journal, collection by collection, and
// leaves the collector as it found it.
func TestPacer(t *testing.T) {
	percent := func() int {
		now := debug.SetGCPercent(100)
		debug.SetGCPercent(now)
		return now
	}
	eventually := func(what string, condition func() bool) {
		for deadline := time.Now().Add(10 * time.Second); !condition(); runtime.GC() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within 10 s", what)
			}
			time.Sleep(time.Millisecond)
		}
	}
	var journal atomic.Int64
	journal.Store(128 << 20)
	held := make([]byte, journal.Load())
	p := startPacer(journal.Load)
	defer p.stop()
	eventually("the collector leaves little room", func() bool { return percent() < 100 })
	runtime.KeepAlive(held)
	journal.Store(0)
	eventually("the collector leaves all room", func() bool { return percent() == 100 })
	p.stop()
	if got := percent(); got != 100 {
		t.Errorf("afterwards, it is %d %%", got)
	}
}
