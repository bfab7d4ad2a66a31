package server

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/server/engine"
)

// TestEndedRunIsNotHeld: the journal keeps what was generated, not what generated it.
func TestEndedRunIsNotHeld(t *testing.T) {
	proceed := make(chan struct{})
	f := newFixture(t, script(func(_ context.Context, emit func(...*engine.Chunk) error) error {
		<-proceed
		return emit(begun, text("a"), stopped)
	}))
	id, s := f.stream(t, t.Context(), prompt("x"))
	run := weak.Make(f.run(id))
	late := f.resume(t, t.Context(), id, 0)
	close(proceed)
	for _, s := range []eventStream{s, late} {
		if got, err := read(s); got != "1:created 2:a 3:STOP" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); run.Value() != nil; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the run is still held")
		}
	}
	if c, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id}); err != nil || c.GetText() != "a" {
		t.Errorf("%v, %v", c, err)
	}
}

// TestIdleStreamsHoldNoBatches has many streams wait, each after a burst, led or read by
// a second reader: what they have had is the journal's, and nobody else's.
func TestIdleStreamsHoldNoBatches(t *testing.T) {
	const streams, most = 200, 6 << 10
	word := strings.Repeat("x", 100)
	burst := make([]*engine.Chunk, 500)
	for i := range burst {
		burst[i] = text(word)
	}
	for _, second := range []bool{false, true} {
		f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
			if err := emit(burst...); err != nil {
				return err
			}
			<-ctx.Done()
			return context.Cause(ctx)
		}))
		conn := &inproc.Conn{}
		completionv1.RegisterCompletionServiceServer(conn, f.server)
		ctx, leave := context.WithCancel(t.Context())
		before := int64(heap()) - f.journal.Bytes()
		var had, ended sync.WaitGroup
		for range streams {
			had.Add(1)
			counter := &counting{want: len(burst) + 1, had: had.Done}
			ended.Go(func() {
				req := prompt("x")
				req.DisconnectGrace = durationpb.New(time.Second)
				_ = conn.Stream(ctx, completionv1.CompletionService_StreamCompletion_FullMethodName, req, counter)
			})
			had.Wait()
			if second {
				had.Add(1)
				again := &counting{want: len(burst) + 1, had: had.Done}
				req := &completionv1.ResumeCompletionRequest{Id: counter.id}
				ended.Go(func() {
					_ = conn.Stream(ctx, completionv1.CompletionService_ResumeCompletion_FullMethodName, req, again)
				})
				had.Wait()
			}
		}
		each := (int64(heap()) - f.journal.Bytes() - before) / streams
		t.Logf("with a second reader: %v; %d bytes for each stream besides the journal's", second, each)
		if each > most {
			t.Errorf("with a second reader: %v; %d bytes for each stream besides the journal's", second, each)
		}
		leave()
		ended.Wait()
	}
}

// heap returns how much is allocated and in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // what the pools have kept
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// counting is a receiver that says when it has had so many events.
type counting struct {
	id   string
	want int
	had  func()
}

func (c *counting) Header(md metadata.MD) { c.id = completionIDOf(md) }

func (c *counting) Receive(messages [][]byte) error {
	if c.want -= len(messages); c.want == 0 {
		c.had()
	}
	return nil
}
