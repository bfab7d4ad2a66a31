package ratelimit

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// callerKey has in a context who calls.
type callerKey struct{}

func newLimiter(perSecond float64, burst int) *Limiter {
	return New(Config{PerSecond: perSecond, Burst: burst, Principal: func(ctx context.Context) string {
		return ctx.Value(callerKey{}).(string)
	}})
}

// wait calls a method, and returns for how long the caller is to wait: 0 if the call was
// taken.
func (l *Limiter) wait(as, method string) time.Duration {
	err := l.Admit(context.WithValue(context.Background(), callerKey{}, as), method)
	for _, d := range status.Convert(err).Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

const get = completionv1.CompletionService_GetCompletion_FullMethodName

// A caller who is refused is told the true wait, and refusals cost nobody anything.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(2, 3)
		for i := range 3 {
			if d := l.wait("ann", get); d != 0 {
				t.Errorf("call %d: wait %v", i, d)
			}
		}
		var d time.Duration
		for range 1000 {
			d = l.wait("ann", get)
		}
		if d <= 500*time.Millisecond || d > 502*time.Millisecond {
			t.Errorf("wait %v", d)
		}
		if d := l.wait("bob", get); d != 0 {
			t.Errorf("another caller: wait %v", d)
		}
		time.Sleep(d - 5*time.Millisecond)
		if d := l.wait("ann", get); d == 0 || d > 6*time.Millisecond {
			t.Errorf("too soon: wait %v", d)
		}
		time.Sleep(5 * time.Millisecond)
		if d := l.wait("ann", get); d != 0 {
			t.Errorf("in time: wait %v", d)
		}
	})
}

// Who may not call may still cancel, though not without end; health is anybody's to ask.
func TestMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		l.wait("ann", get)
		for method, taken := range map[string]int{
			get: 0,
			completionv1.CompletionService_StreamCompletion_FullMethodName: 0,
			completionv1.CompletionService_CancelCompletion_FullMethodName: 1,
			healthpb.Health_Check_FullMethodName:                           10,
			"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo":    10,
		} {
			n := 0
			for range 10 {
				if l.wait("ann", method) == 0 {
					n++
				}
			}
			if n != taken {
				t.Errorf("%s: %d of 10 were taken, want %d", method, n, taken)
			}
		}
	})
}

// Of calls at the same instant, the first of a caller's, the burst is taken.
func TestAtOnce(t *testing.T) {
	const burst = 10
	for i := range 50 {
		l := newLimiter(1e-6, burst)
		var taken atomic.Int64
		var all sync.WaitGroup
		for range 3 * burst {
			all.Go(func() {
				if l.wait(fmt.Sprint(i), get) == 0 {
					taken.Add(1)
				}
			})
		}
		all.Wait()
		if n := taken.Load(); n != burst {
			t.Fatalf("%d were taken, want %d", n, burst)
		}
	}
}

// A million callers, with names as long as tokens, take the memory of some ten thousand.
func TestMemory(t *testing.T) {
	const callers, most = 1_000_000, 64 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := newLimiter(1, 1)
	name := make([]byte, 1<<10)
	for i := range callers {
		name := fmt.Appendf(name[:0], "%d", i)
		l.wait(string(name[:1<<10]), get)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	grown := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	fmt.Printf("%d callers: %d are kept, in %d MiB\n", callers, l.callers.Len(), grown>>20)
	if grown > most {
		t.Errorf("the memory grew by %d MiB", grown>>20)
	}
	runtime.KeepAlive(l)
}
