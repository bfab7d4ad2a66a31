package server

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// checkLinear checks that what prepare returns takes about 32 times as long, and
// allocates about 32 times as much, for 32 times as much to do. What is quadratic takes
// 1,024 times as long. What lies between is for caches that are small. The best of some
// rounds counts, and only the time that the processor spent here, for machines that are
// busy.
func checkLinear(t *testing.T, name string, prepare func(n int) func()) {
	t.Helper()
	const n, times, slack, rounds = 1000, 32, 8, 3
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cost := func(do func()) (best time.Duration, bytes uint64) {
		best = time.Hour
		for range rounds {
			var before, after runtime.MemStats
			runtime.GC() // which none of the following is to pay for
			runtime.ReadMemStats(&before)
			start := threadTime(t)
			do()
			best = min(best, threadTime(t)-start)
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

// threadTime returns how long the processor has worked for the calling thread.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now); err != nil {
		t.Fatal(err)
	}
	return time.Duration(now.Nano())
}
