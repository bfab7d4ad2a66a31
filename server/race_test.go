package server

import (
	"context"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// Readers that resume, again and again and from anywhere, while completions are
// appended to, finish, fail, are cancelled, expire and are evicted. Each reading
// is without a gap or a repeat, and ends: with the terminal event, with the
// failure, or because the events are gone.
func TestResumeRaces(t *testing.T) {
	const completions, readers, readings = 60, 4, 15
	word := strings.Repeat("x", 100)
	f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
		for range rand.IntN(300) {
			if err := emit(text(word)); err != nil {
				return err
			}
			if rand.IntN(10) == 0 {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
			}
		}
		if rand.IntN(3) == 0 {
			return failure.New(failure.UpstreamTruncated, "cut")
		}
		return emit(stopped)
	}), func(c *Config) {
		c.Journal = memory.New(memory.Config{Retention: 20 * time.Millisecond, Bytes: 1 << 20})
	})
	var all sync.WaitGroup
	for range completions {
		req := prompt("x")
		req.DisconnectGrace = durationpb.New(time.Minute)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		id, _ := f.stream(t, ctx, req)
		all.Go(func() {
			if rand.IntN(3) == 0 {
				_, _ = f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id})
			}
		})
		for range readers {
			all.Go(func() { resumeOften(t, f, id, readings) })
		}
	}
	all.Wait()
}

func resumeOften(t *testing.T, f *fixture, id string, readings int) {
	var last int32
	for range readings {
		s, err := f.client.ResumeCompletion(t.Context(), &completionv1.ResumeCompletionRequest{Id: id, AfterSequence: rand.Int32N(last + 1)})
		if err != nil {
			t.Error(err)
			return
		}
		var at int32
		for err == nil {
			var e *completionv1.CompletionEvent
			if e, err = s.Recv(); err != nil {
				break
			}
			if at > 0 && e.GetSequence() != at+1 {
				t.Errorf("%d came after %d", e.GetSequence(), at)
			}
			at = e.GetSequence()
			last = max(last, at)
		}
		switch why := reason(err); {
		case err == io.EOF, why == failure.UpstreamTruncated:
		case why == failure.EventsExpired, status.Code(err) == codes.NotFound:
			return
		default:
			t.Errorf("after event %d: %v", at, err)
			return
		}
	}
}
