package server

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

func TestGRPCStatusTellsWhenToTryAgain(t *testing.T) {
	f := newFixture(t, play(failure.New(failure.UpstreamRateLimited, "slow down").WithRetryAfter(7*time.Second)))
	_, s := f.stream(t, t.Context(), prompt("x"))
	_, err := read(s)
	for _, d := range status.Convert(err).Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok && retry.GetRetryDelay().AsDuration() == 7*time.Second {
			return
		}
	}
	t.Errorf("no RetryInfo of 7 s in %v", status.Convert(err).Details())
}

// The timers, each on a clock that stands still while anything runs.
func TestTimeouts(t *testing.T) {
	dots := func(n int, pause time.Duration, then ...*engine.Chunk) script {
		return func(ctx context.Context, emit func(...*engine.Chunk) error) error {
			for range n {
				if err := emit(text(".")); err != nil {
					return err
				}
				select {
				case <-time.After(pause):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			for _, c := range then {
				if err := emit(c); err != nil {
					return err
				}
			}
			return nil
		}
	}
	tests := []struct {
		name   string
		engine script
		reason failure.Reason
		after  time.Duration
	}{
		{"no first chunk", silent(), failure.FirstTokenTimeout, 10 * time.Second},
		{"silence after a chunk", silent(begun), failure.IdleTimeout, 3 * time.Second},
		{"silence after some chunks", dots(3, 4*time.Second), failure.IdleTimeout, 3 * time.Second},
		{"never silent, never done", dots(1000, 2900*time.Millisecond), failure.TotalTimeout, time.Minute},
		{"just in time", dots(4, 2900*time.Millisecond, stopped), noReason, 4 * 2900 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, tt.engine, func(c *Config) {
					c.FirstTokenTimeout, c.IdleTimeout, c.TotalTimeout = 10*time.Second, 3*time.Second, time.Minute
				})
				time.Sleep(time.Hour) // the server is older than the run
				start := time.Now()
				_, s := f.stream(t, t.Context(), prompt("x"))
				_, err := read(s)
				if reason(err) != tt.reason || time.Since(start) != tt.after {
					t.Errorf("%v after %v, want %v after %v", err, time.Since(start), tt.reason, tt.after)
				}
			})
		})
	}
}

func TestLastReaderLeaves(t *testing.T) {
	tests := []struct {
		name         string
		grace, after time.Duration // asked for; when the run ends
	}{
		{"no grace", 0, 0},
		{"a grace", 20 * time.Second, 20 * time.Second},
		{"more grace than is granted", time.Hour, time.Minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ended time.Time
				f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
					defer func() { ended = time.Now() }()
					return silent(begun, text("a"))(ctx, emit)
				}))
				req := prompt("x")
				req.DisconnectGrace = durationpb.New(tt.grace)
				ctx, leave := context.WithCancel(t.Context())
				id, s := f.stream(t, ctx, req)
				for range 2 { // what is still to come then, no engine says
					if _, err := s.Recv(); err != nil {
						t.Fatal(err)
					}
				}
				left := time.Now()
				leave()
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				if ended.IsZero() || ended.Sub(left) != tt.after {
					t.Errorf("ended %v after the reader left, want %v", ended.Sub(left), tt.after)
				}
				got, err := read(f.resume(t, t.Context(), id, 0))
				if want := "1:created 2:a 3:CANCELLED"; got != want || err != nil {
					t.Errorf("got %q and %v, want %q", got, err, want)
				}
			})
		})
	}
}

func TestReaderComesBackWithinTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, silent(begun, text("a")))
		req := prompt("x")
		req.DisconnectGrace = durationpb.New(10 * time.Second)
		ctx, leave := context.WithCancel(t.Context())
		id, _ := f.stream(t, ctx, req)
		leave()
		synctest.Wait()
		time.Sleep(9 * time.Second)
		ctx, leave = context.WithCancel(t.Context())
		s := f.resume(t, ctx, id, 0)
		time.Sleep(time.Minute)
		c, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
		if err != nil || c.GetState() != completionv1.Completion_RUNNING || c.GetText() != "a" || c.GetLastSequence() != 2 {
			t.Fatalf("with a reader: %v, %v", c, err)
		}
		leave()
		if _, err := read(s); status.Code(err) != codes.Canceled {
			t.Errorf("the reader that left: %v", err)
		}
		time.Sleep(11 * time.Second)
		c, err = f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
		if err != nil || c.GetState() != completionv1.Completion_CANCELLED {
			t.Errorf("without one: %v, %v", c, err)
		}
	})
}

func TestIdempotencyKey(t *testing.T) {
	var calls int
	f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
		calls++
		return play(failure.New(failure.UpstreamRejected, "no"), begun, text("a"))(ctx, emit)
	}), func(c *Config) { c.Principal = principal })
	req := func(key, text string) *completionv1.CompletionRequest {
		r := prompt(text)
		r.IdempotencyKey = key
		return r
	}
	id, s := f.stream(t, as(t, "ann"), req("k", "x"))
	got, failed := read(s)
	again, s := f.stream(t, as(t, "ann"), req("k", "x"))
	gotAgain, failedAgain := read(s)
	if again != id || gotAgain != got || reason(failedAgain) != failure.UpstreamRejected || reason(failed) != failure.UpstreamRejected || calls != 1 {
		t.Errorf("the same request: %s %q %v, want %s %q %v, of one call, not %d", again, gotAgain, failedAgain, id, got, failed, calls)
	}
	if _, err := f.client.CreateCompletion(as(t, "ann"), req("k", "y")); reason(err) != failure.IdempotencyKeyReused || status.Code(err) != codes.FailedPrecondition {
		t.Errorf("another request: %v", err)
	}
	if other, _ := f.stream(t, as(t, "bob"), req("k", "x")); other == id {
		t.Error("another caller got the completion")
	}
}

// principal takes the caller from the metadata "as".
func principal(ctx context.Context) string {
	return strings.Join(metadata.ValueFromIncomingContext(ctx, "as"), ",")
}

func as(t *testing.T, name string) context.Context {
	return metadata.AppendToOutgoingContext(t.Context(), "as", name)
}

// Another caller's completion must not be told from one that never was.
func TestAnotherCallersCompletion(t *testing.T) {
	f := newFixture(t, play(nil, begun, stopped), func(c *Config) { c.Principal = principal })
	id, s := f.stream(t, as(t, "ann"), prompt("x"))
	if _, err := read(s); err != nil {
		t.Fatal(err)
	}
	for _, ask := range []struct {
		name string
		call func(id string) error
	}{
		{"get", func(id string) error {
			_, err := f.client.GetCompletion(as(t, "bob"), &completionv1.GetCompletionRequest{Id: id})
			return err
		}},
		{"cancel", func(id string) error {
			_, err := f.client.CancelCompletion(as(t, "bob"), &completionv1.CancelCompletionRequest{Id: id})
			return err
		}},
		{"resume", func(id string) error {
			s, err := f.client.ResumeCompletion(as(t, "bob"), &completionv1.ResumeCompletionRequest{Id: id, AfterSequence: 99})
			if err == nil {
				_, err = read(s)
			}
			return err
		}},
	} {
		another, unknown := status.Convert(ask.call(id)), status.Convert(ask.call("cmpl_nobodys"))
		if another.Code() != codes.NotFound || !proto.Equal(another.Proto(), unknown.Proto()) {
			t.Errorf("%s: %v for another's, %v for nobody's", ask.name, another, unknown)
		}
	}
}

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, silent(begun, text("a")))
		keyed := prompt("x")
		keyed.IdempotencyKey = "key"
		_, s := f.stream(t, t.Context(), keyed)
		drained := make(chan time.Duration)
		start := time.Now()
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			f.server.Drain(ctx)
			drained <- time.Since(start)
		}()
		synctest.Wait()
		if _, err := f.client.CreateCompletion(t.Context(), prompt("x")); reason(err) != failure.Draining {
			t.Errorf("a new one: %v", err)
		}
		_, same := f.stream(t, t.Context(), keyed) // is no new one, and would be paid for elsewhere
		if got, err := read(same); got != "1:created 2:a" || reason(err) != failure.Draining {
			t.Errorf("the running one by its key: %q, %v", got, err)
		}
		if got, err := read(s); got != "1:created 2:a" || reason(err) != failure.Draining {
			t.Errorf("the running one: %q, %v", got, err)
		}
		if d := <-drained; d != 5*time.Second {
			t.Errorf("drained after %v", d)
		}
	})
}

func TestOverloaded(t *testing.T) {
	long := strings.Repeat("x", 2000)
	f := newFixture(t, silent(begun, text(long)), func(c *Config) {
		c.Journal = memory.New(memory.Config{Bytes: 8 << 10, MaxCompletion: 5000})
	})
	_, s := f.stream(t, t.Context(), prompt("x"))
	for range 2 {
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	for range 8 {
		_, s := f.stream(t, t.Context(), prompt("x"))
		if _, err = s.Recv(); err != nil {
			break
		}
	}
	if reason(err) != failure.Overloaded || status.Code(err) != codes.ResourceExhausted {
		t.Errorf("got %v", err)
	}
}

func TestCompletionGrowsTooLarge(t *testing.T) {
	f := newFixture(t, play(nil, begun, text(strings.Repeat("x", 3000)), text(strings.Repeat("y", 3000)), stopped), func(c *Config) {
		c.Journal = memory.New(memory.Config{MaxCompletion: 5000})
	})
	id, s := f.stream(t, t.Context(), prompt("x"))
	if _, err := read(s); reason(err) != failure.Overloaded {
		t.Errorf("got %v", err)
	}
	c, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
	if err != nil || c.GetState() != completionv1.Completion_FAILED || len(c.GetText()) != 3000 {
		t.Errorf("completion %v with %d bytes, %v", c.GetState(), len(c.GetText()), err)
	}
}

func TestLogSaysNothingOfTheText(t *testing.T) {
	f := newFixture(t, play(nil, begun, text("an answer"), stopped))
	req := prompt("a question")
	req.IdempotencyKey = "a key"
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "r-1")
	_, s := f.stream(t, ctx, req)
	if _, err := read(s); err != nil {
		t.Fatal(err)
	}
	f.server.Close()
	line := f.log.String()
	for _, part := range []string{"id=cmpl_", "model=m", "outcome=finished", "events=3", "first_token=", "duration=", "request_id=r-1"} {
		if !strings.Contains(line, part) {
			t.Errorf("no %s in %q", part, line)
		}
	}
	for _, part := range []string{"answer", "question", "key"} {
		if strings.Contains(line, part) {
			t.Errorf("%s in %q", part, line)
		}
	}
	if n := strings.Count(line, "\n"); n != 1 {
		t.Errorf("%d lines", n)
	}
}

func TestModels(t *testing.T) {
	f := newFixture(t, silent())
	resp, err := f.client.ListModels(t.Context(), &completionv1.ListModelsRequest{})
	if err != nil || len(resp.GetModels()) != 2 || resp.GetModels()[0].GetId() != "m" || resp.GetModels()[1].GetId() != "echo" {
		t.Errorf("got %v, %v", resp, err)
	}
	f = newFixture(t, nil, func(c *Config) { c.OpenAI, c.DefaultModel = nil, "" })
	if c, err := f.client.CreateCompletion(t.Context(), prompt("a b")); err != nil || c.GetModel() != "echo" || c.GetText() != "a b" {
		t.Errorf("no upstream, no model: %v, %v", c, err)
	}
	req := prompt("a b")
	req.Model = "m"
	if _, err := f.client.CreateCompletion(t.Context(), req); reason(err) != failure.ModelNotFound {
		t.Errorf("no upstream, another model: %v", err)
	}
}
