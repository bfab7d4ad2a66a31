package server

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/journal"
)

// stuckReader is a receiver that takes nothing behind the first event until it is
// let go.
type stuckReader struct {
	id     string
	events int
	letGo  chan struct{}
}

func (s *stuckReader) Header(md metadata.MD) { s.id = completionIDOf(md) }

func (s *stuckReader) Receive(events [][]byte) error {
	s.events += len(events)
	<-s.letGo
	return nil
}

func completionIDOf(md metadata.MD) string { return md.Get("completion-id")[0] }

// A run whose only reader is stuck does not wait for it: not for long, and not at
// all for whoever else wants something of it.
func TestStuckLeader(t *testing.T) {
	// One chunk each ten milliseconds, for ever.
	steady := script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
		for {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := emit(text("a")); err != nil {
				return err
			}
		}
	})
	last := func(t *testing.T, f *fixture, id string) int32 {
		c, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
		if err != nil {
			t.Fatal(err)
		}
		return c.GetLastSequence()
	}
	for _, tc := range []struct {
		name string
		do   func(t *testing.T, f *fixture, id string)
	}{
		{"alone", func(t *testing.T, f *fixture, id string) {
			time.Sleep(stall / 2)
			if n := last(t, f, id); n > 10 {
				t.Errorf("%d events: the reader does not lead", n)
			}
			time.Sleep(5 * stall / 2)
			if n := last(t, f, id); n < 50 {
				t.Errorf("%d events", n)
			}
		}},
		{"a second reader", func(t *testing.T, f *fixture, id string) {
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			s := f.resume(t, ctx, id, 0)
			start := time.Now()
			for range 20 {
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(start); took > stall/2 {
				t.Errorf("20 events after %v", took)
			}
		}},
		{"cancelled", func(t *testing.T, f *fixture, id string) {
			start := time.Now()
			c, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id})
			if err != nil || c.GetState() != completionv1.Completion_CANCELLED || time.Since(start) > 0 {
				t.Errorf("%v, %v after %v", c, err, time.Since(start))
			}
		}},
		{"closed", func(t *testing.T, f *fixture, id string) {
			start := time.Now()
			f.server.Close()
			if time.Since(start) > 0 {
				t.Errorf("after %v", time.Since(start))
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, steady)
				time.Sleep(3 * stall) // with nothing to look after
				reader := &stuckReader{letGo: make(chan struct{})}
				ctx, leave := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					done <- f.conn.Stream(ctx, completionv1.CompletionService_StreamCompletion_FullMethodName, prompt("x"), reader)
				}()
				time.Sleep(15 * time.Millisecond)
				synctest.Wait()
				if reader.events != 2 { // created, and the first delta, come together
					t.Fatalf("%d events before it is stuck", reader.events)
				}
				tc.do(t, f, reader.id)
				leave()
				close(reader.letGo)
				<-done
				synctest.Wait()
				if f.run(reader.id) != nil {
					t.Error("it runs on without readers")
				}
			})
		})
	}
}

// A leader that takes its time, but is not stuck, goes on leading.
func TestLeaderStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, script(func(_ context.Context, emit func(...*engine.Chunk) error) error {
			for range 100 {
				time.Sleep(stall / 20)
				if err := emit(text("a")); err != nil {
					return err
				}
			}
			return emit(stopped)
		}))
		id, s := f.stream(t, t.Context(), prompt("x"))
		run := f.run(id)
		for range 99 {
			event, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			run.mu.Lock()
			leads := run.state != detached && run.state != ended
			run.mu.Unlock()
			if !leads {
				t.Fatalf("after %d events it no longer leads", event.GetSequence())
			}
			time.Sleep(stall / 3)
		}
	})
}

// A leader that leaves while it waits for the upstream leaves at once: the grace
// begins, and another reader finds the run going on.
func TestLeaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		more := make(chan struct{})
		f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
			err := emit(text("a"))
			select {
			case <-more:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			return errors.Join(err, emit(text("b")), emit(stopped))
		}))
		for _, tc := range []struct {
			name  string
			grace time.Duration
			early bool          // the upstream goes on before a reader comes back
			back  time.Duration // when that is
			want  string
		}{
			{"within the grace", time.Second, false, time.Second / 2, "1:created 2:a 3:b 4:STOP"},
			{"to nobody", time.Second, true, time.Second / 2, "1:created 2:a 3:b 4:STOP"},
			{"after it", time.Second, false, 2 * time.Second, "1:created 2:a 3:CANCELLED"},
			{"without grace", 0, false, time.Nanosecond, "1:created 2:a 3:CANCELLED"},
		} {
			reader := &stuckReader{letGo: make(chan struct{})}
			close(reader.letGo)
			ctx, leave := context.WithCancel(t.Context())
			done := make(chan error, 1)
			req := prompt("x")
			req.DisconnectGrace = durationpb.New(tc.grace)
			go func() {
				done <- f.conn.Stream(ctx, completionv1.CompletionService_StreamCompletion_FullMethodName, req, reader)
			}()
			synctest.Wait()
			leave()
			if tc.early {
				more <- struct{}{}
			}
			time.Sleep(tc.back)
			if tc.early && f.run(reader.id) != nil {
				t.Errorf("%s: it does not go on", tc.name)
			}
			s := f.resume(t, t.Context(), reader.id, 0)
			select {
			case more <- struct{}{}:
			case <-time.After(time.Millisecond):
			}
			if got, err := read(s); got != tc.want || err != nil {
				t.Errorf("%s: got %s, %v; want %s", tc.name, got, err, tc.want)
			}
			<-done
		}
	})
}

// forgetful is a silent engine that knows a request only as long as others do.
type forgetful struct {
	script
	request chan weak.Pointer[completionv1.CompletionRequest]
}

func (f forgetful) Generate(ctx context.Context, req *completionv1.CompletionRequest) engine.Stream {
	f.request <- weak.Make(req)
	return f.script.Generate(ctx, nil)
}

// A run does not hold its request, which may be large, once it is sent.
func TestRequestIsNotHeld(t *testing.T) {
	eng := forgetful{silent(begun), make(chan weak.Pointer[completionv1.CompletionRequest], 1)}
	f := newFixture(t, eng)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	f.stream(t, ctx, prompt("x"))
	request := <-eng.request
	for deadline := time.Now().Add(10 * time.Second); request.Value() != nil; runtime.GC() {
		if time.Now().After(deadline) {
			t.Fatal("the request is still held")
		}
	}
}

// hesitant is a journal that takes its time with the first completion after it can be
// found.
type hesitant struct {
	journal.Journal
	first   atomic.Bool
	created chan struct{}
	goOn    chan struct{}
}

func (h *hesitant) Create(ctx context.Context, c journal.Completion, o journal.Owner) (journal.Writer, journal.Completion, error) {
	w, holder, err := h.Journal.Create(ctx, c, o)
	if h.first.CompareAndSwap(false, true) {
		close(h.created)
		<-h.goOn
	}
	return w, holder, err
}

// A reader may find a run by its idempotency key before it has started.
func TestJoinBeforeStart(t *testing.T) {
	h := &hesitant{created: make(chan struct{}), goOn: make(chan struct{})}
	f := newFixture(t, script(func(_ context.Context, emit func(...*engine.Chunk) error) error {
		return errors.Join(emit(text("a")), emit(stopped))
	}), func(c *Config) {
		h.Journal = c.Journal
		c.Journal = h
	})
	got := make(chan string, 2)
	begin := func() {
		req := prompt("x")
		req.IdempotencyKey = "k"
		s, err := f.client.StreamCompletion(t.Context(), req)
		if err != nil {
			t.Error(err)
		}
		words, err := read(s)
		if err != nil {
			t.Error(err)
		}
		got <- words
	}
	go begin()
	<-h.created
	go begin()
	for joined := false; !joined; runtime.Gosched() {
		f.server.mu.Lock()
		for _, r := range f.server.runs {
			r.mu.Lock()
			joined = joined || r.detaching
			r.mu.Unlock()
		}
		f.server.mu.Unlock()
	}
	close(h.goOn)
	for range 2 {
		if words := <-got; words != "1:created 2:a 3:STOP" {
			t.Errorf("got %s", words)
		}
	}
}
