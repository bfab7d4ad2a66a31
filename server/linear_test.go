package server

import (
	"runtime"
	"testing"
	"time"
)

// checkLinear checks that what prepare returns takes about 16 times as long, and
// allocates about 16 times as much, for 16 times as much to do. What is quadratic
// takes 256 times as long. The best of some rounds count, so that a busy machine does
// not.
func checkLinear(t *testing.T, name string, prepare func(n int) func()) {
	t.Helper()
	const n, times, slack, rounds = 2000, 16, 5, 7
	cost := func(do func()) (best time.Duration, bytes uint64) {
		best = time.Hour
		for range rounds {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			do()
			best = min(best, time.Since(start))
			runtime.ReadMemStats(&after)
			bytes = after.TotalAlloc - before.TotalAlloc
		}
		return best, bytes
	}
	short, few := cost(prepare(n))
	long, many := cost(prepare(times * n))
	t.Logf("%s: %v and %d KiB for %d, %v and %d KiB for %d", name, short, few>>10, n, long, many>>10, times*n)
	if long > slack*times*short {
		t.Errorf("%s: %v for %d, but %v for %d", name, short, n, long, times*n)
	}
	if many > 3*times*few {
		t.Errorf("%s: %d bytes for %d, but %d for %d", name, few, n, many, times*n)
	}
}
