package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/engine/echo"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// script is an engine that plays a function, the fake of package engine.
type script func(ctx context.Context, emit func(*engine.Chunk) error) error

func (s script) Models(context.Context) ([]string, error) { return []string{"m"}, nil }

func (s script) Generate(ctx context.Context, _ *completionv1.CompletionRequest) engine.Stream {
	played := &played{}
	played.next, played.stop = iter.Pull2(func(yield func(*engine.Chunk, error) bool) {
		err := s(ctx, func(c *engine.Chunk) error {
			if !yield(c, nil) {
				return errors.New("closed")
			}
			return nil
		})
		yield(nil, cmp.Or(err, io.EOF))
	})
	return played
}

// played is the stream of a script, which never has a chunk without waiting.
type played struct {
	next func() (*engine.Chunk, error, bool)
	stop func()
}

func (p *played) Next(wait bool) (*engine.Chunk, error) {
	if !wait {
		return nil, nil
	}
	c, err, _ := p.next()
	return c, err
}

func (p *played) Close() { p.stop() }

// text is a chunk of text.
func text(s string) *engine.Chunk { return &engine.Chunk{Delta: &completionv1.Delta{Text: s}} }

var (
	begun   = &engine.Chunk{Model: "m-1"}
	stopped = &engine.Chunk{FinishReason: completionv1.Finished_STOP, Usage: &completionv1.Usage{TotalTokens: 3}}
)

// silent emits chunks and then nothing until it is told to end.
func silent(chunks ...*engine.Chunk) script {
	return func(ctx context.Context, emit func(*engine.Chunk) error) error {
		for _, c := range chunks {
			if err := emit(c); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
}

// fixture is a server and a client on an in-process connection to it.
type fixture struct {
	server  *Server
	client  completionv1.CompletionServiceClient
	journal *journal.Memory
	log     *strings.Builder
}

func newFixture(t *testing.T, eng engine.Engine, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{journal: journal.NewMemory(journal.MemoryConfig{}), log: &strings.Builder{}}
	config := Config{
		Echo:               &echo.Engine{},
		OpenAI:             eng,
		DefaultModel:       "m",
		Journal:            f.journal,
		Log:                slog.New(slog.NewTextHandler(f.log, nil)),
		MaxDisconnectGrace: time.Minute,
	}
	for _, c := range change {
		c(&config)
	}
	f.server = New(config)
	conn := &InProcess{}
	completionv1.RegisterCompletionServiceServer(conn, f.server)
	f.client = completionv1.NewCompletionServiceClient(conn)
	t.Cleanup(func() {
		f.server.Close()
		f.journal.Close()
	})
	return f
}

func prompt(s string) *completionv1.CompletionRequest {
	return &completionv1.CompletionRequest{Prompt: proto.String(s)}
}

type eventStream = grpc.ServerStreamingClient[completionv1.CompletionEvent]

func (f *fixture) stream(t *testing.T, ctx context.Context, req *completionv1.CompletionRequest) (string, eventStream) {
	t.Helper()
	s, err := f.client.StreamCompletion(ctx, req)
	return header(t, s, err), s
}

func (f *fixture) resume(t *testing.T, ctx context.Context, id string, after int32) eventStream {
	t.Helper()
	s, err := f.client.ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: id, AfterSequence: after})
	header(t, s, err)
	return s
}

// header returns the id that a stream's header names.
func header(t *testing.T, s eventStream, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	md, err := s.Header()
	if err != nil {
		t.Fatal(err)
	}
	if v := md.Get("completion-id"); len(v) == 1 {
		return v[0]
	}
	return ""
}

// read reads a stream to its end and says what came, an event a word.
func read(s eventStream) (string, error) {
	var words []string
	for {
		e, err := s.Recv()
		if err == io.EOF {
			return strings.Join(words, " "), nil
		}
		if err != nil {
			return strings.Join(words, " "), err
		}
		words = append(words, fmt.Sprintf("%d:%s", e.GetSequence(), word(e)))
	}
}

func word(e *completionv1.CompletionEvent) string {
	switch event := e.GetEvent().(type) {
	case *completionv1.CompletionEvent_Created:
		return "created"
	case *completionv1.CompletionEvent_Delta:
		return event.Delta.GetText()
	case *completionv1.CompletionEvent_Finished:
		return event.Finished.GetFinishReason().String()
	}
	return "nothing"
}

// reason returns the reason in an error's ErrorInfo.
func reason(err error) failure.Reason {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == failure.Domain {
			return failure.Reason(info.GetReason())
		}
	}
	return ""
}

func TestOutcomes(t *testing.T) {
	slow := failure.New(failure.UpstreamRateLimited, "slow down").WithCause(errors.New("secret words")).WithRetryAfter(7 * time.Second)
	tests := []struct {
		name   string
		engine script
		want   string
		reason failure.Reason
		code   codes.Code
		state  completionv1.Completion_State
	}{
		{name: "finished", engine: play(nil, begun, text("a"), text("b"), stopped), want: "1:created 2:a 3:b 4:STOP", state: completionv1.Completion_FINISHED},
		{name: "finish reason beside text", engine: play(nil, &engine.Chunk{Delta: &completionv1.Delta{Text: "a"}, FinishReason: completionv1.Finished_LENGTH}), want: "1:created 2:a 3:LENGTH", state: completionv1.Completion_FINISHED},
		{name: "usage after the finish reason", engine: play(nil, stopped, begun), want: "1:created 2:STOP", state: completionv1.Completion_FINISHED},
		{name: "truncated", engine: play(nil, begun, text("a")), want: "1:created 2:a", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "nothing at all", engine: play(nil), want: "", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "refused", engine: play(slow), want: "", reason: failure.UpstreamRateLimited, code: codes.ResourceExhausted, state: completionv1.Completion_FAILED},
		{name: "fails after text", engine: play(slow, begun, text("a")), want: "1:created 2:a", reason: failure.UpstreamRateLimited, code: codes.ResourceExhausted, state: completionv1.Completion_FAILED},
		{name: "an error that is no failure", engine: play(io.ErrUnexpectedEOF, begun), want: "1:created", reason: failure.UpstreamUnavailable, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "what cannot be encoded", engine: play(nil, begun, text("\xff"), stopped), want: "1:created", reason: failure.UpstreamUnavailable, code: codes.Unavailable, state: completionv1.Completion_FAILED},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, tt.engine)
			id, s := f.stream(t, t.Context(), prompt("x"))
			got, err := read(s)
			if got != tt.want || reason(err) != tt.reason || status.Code(err) != tt.code {
				t.Fatalf("got %q and %v, want %q and %v", got, err, tt.want, tt.reason)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the cause is in the error: %v", err)
			}
			again, errAgain := read(f.resume(t, t.Context(), id, 0))
			if again != got || !proto.Equal(status.Convert(errAgain).Proto(), status.Convert(err).Proto()) {
				t.Errorf("read again: %q and %v, want %q and %v", again, errAgain, got, err)
			}
			c, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
			if err != nil || c.GetState() != tt.state || (c.GetError() != nil) != (tt.reason != "") {
				t.Errorf("completion %v, %v", c, err)
			}
			_, errWhole := f.client.CreateCompletion(t.Context(), prompt("x"))
			if reason(errWhole) != tt.reason {
				t.Errorf("the whole: %v, want %v", errWhole, tt.reason)
			}
		})
	}
}

// play emits chunks and returns err.
func play(err error, chunks ...*engine.Chunk) script {
	return func(_ context.Context, emit func(*engine.Chunk) error) error {
		for _, c := range chunks {
			if err := emit(c); err != nil {
				return err
			}
		}
		return err
	}
}

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
		return func(ctx context.Context, emit func(*engine.Chunk) error) error {
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
		{"just in time", dots(4, 2900*time.Millisecond, stopped), "", 4 * 2900 * time.Millisecond},
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
				f := newFixture(t, script(func(ctx context.Context, emit func(*engine.Chunk) error) error {
					defer func() { ended = time.Now() }()
					return silent(begun, text("a"))(ctx, emit)
				}))
				req := prompt("x")
				req.DisconnectGrace = durationpb.New(tt.grace)
				ctx, leave := context.WithCancel(t.Context())
				id, s := f.stream(t, ctx, req)
				if _, err := s.Recv(); err != nil {
					t.Fatal(err)
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

func TestCancel(t *testing.T) {
	f := newFixture(t, silent(begun, text("a"), &engine.Chunk{Usage: &completionv1.Usage{TotalTokens: 2}}))
	id, s := f.stream(t, t.Context(), prompt("x"))
	for range 2 { // created and the delta; the usage comes with neither
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	first, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id})
	if err != nil || first.GetState() != completionv1.Completion_CANCELLED || first.GetText() != "a" {
		t.Fatalf("cancel: %v, %v", first, err)
	}
	second, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id})
	if err != nil || !proto.Equal(first, second) {
		t.Errorf("cancel again: %v, %v", second, err)
	}
	if got, err := read(s); got != "3:CANCELLED" || err != nil {
		t.Errorf("the reader: %q, %v", got, err)
	}
}

func TestCancelBeforeTheFirstChunk(t *testing.T) {
	f := newFixture(t, silent())
	id, s := f.stream(t, t.Context(), prompt("x"))
	if _, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	if got, err := read(s); got != "1:created 2:CANCELLED" || err != nil {
		t.Errorf("the reader: %q, %v", got, err)
	}
}

func TestCancelByKey(t *testing.T) {
	f := newFixture(t, silent(begun, text("a")), func(c *Config) { c.Principal = principal })
	cancel := func(name, id, key string) (*completionv1.Completion, error) {
		return f.client.CancelCompletion(as(t, name), &completionv1.CancelCompletionRequest{Id: id, IdempotencyKey: key})
	}
	req := prompt("x")
	req.IdempotencyKey = "k"
	id, s := f.stream(t, as(t, "ann"), req)
	for _, tt := range []struct{ name, id, key, field string }{
		{"neither", "", "", "id"},
		{"both", id, "k", "idempotency_key"},
	} {
		_, err := cancel("ann", tt.id, tt.key)
		if reason(err) != failure.InvalidRequest || !strings.Contains(fmt.Sprint(status.Convert(err).Details()), `"`+tt.field+`"`) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	_, another := cancel("bob", "", "k")
	_, unknown := cancel("bob", "", "nobody's")
	if reason(another) != failure.CompletionNotFound || !proto.Equal(status.Convert(another).Proto(), status.Convert(unknown).Proto()) {
		t.Errorf("%v for another's, %v for nobody's", another, unknown)
	}
	c, err := f.client.GetCompletion(as(t, "ann"), &completionv1.GetCompletionRequest{Id: id})
	if err != nil || c.GetState() != completionv1.Completion_RUNNING {
		t.Fatalf("before its key is named: %v, %v", c, err)
	}
	for range 2 {
		c, err = cancel("ann", "", "k")
		if err != nil || c.GetId() != id || c.GetState() != completionv1.Completion_CANCELLED {
			t.Errorf("got %v, %v", c, err)
		}
	}
	if got, err := read(s); err != nil || !strings.HasSuffix(got, ":CANCELLED") {
		t.Errorf("the reader: %q, %v", got, err)
	}
}

// A key that is used is found, from then on, in whatever state its completion is.
func TestCancelByKeyBeforeStart(t *testing.T) {
	h := &hesitant{created: make(chan struct{}), goOn: make(chan struct{})}
	f := newFixture(t, silent(begun), func(c *Config) {
		h.Journal = c.Journal
		c.Journal = h
	})
	end := make(chan string, 1)
	go func() {
		req := prompt("x")
		req.IdempotencyKey = "k"
		s, err := f.client.StreamCompletion(t.Context(), req)
		if err == nil {
			var got string
			got, err = read(s)
			end <- got
			return
		}
		end <- err.Error()
	}()
	<-h.created
	cancelled := make(chan error, 1)
	go func() {
		c, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{IdempotencyKey: "k"})
		if err == nil && c.GetState() != completionv1.Completion_CANCELLED {
			err = fmt.Errorf("it is %v", c)
		}
		cancelled <- err
	}()
	for asked := false; !asked; runtime.Gosched() {
		f.server.mu.Lock()
		for _, r := range f.server.runs {
			asked = r.ctx.Err() != nil
		}
		f.server.mu.Unlock()
	}
	close(h.goOn)
	if err := <-cancelled; err != nil {
		t.Error(err)
	}
	if got := <-end; got != "1:created 2:CANCELLED" {
		t.Errorf("the reader got %s", got)
	}
}

func TestIdempotencyKey(t *testing.T) {
	var calls int
	f := newFixture(t, script(func(ctx context.Context, emit func(*engine.Chunk) error) error {
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
		_, s := f.stream(t, t.Context(), prompt("x"))
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
		c.Journal = journal.NewMemory(journal.MemoryConfig{Bytes: 8 << 10, MaxCompletion: 5000})
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
		c.Journal = journal.NewMemory(journal.MemoryConfig{MaxCompletion: 5000})
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

func TestAssembly(t *testing.T) {
	call := func(index int32, id, name, arguments string) *engine.Chunk {
		return &engine.Chunk{Delta: &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{
			{Index: proto.Int32(index), Id: id, Name: name, Arguments: arguments},
		}}}
	}
	f := newFixture(t, play(nil, begun,
		&engine.Chunk{Delta: &completionv1.Delta{Reasoning: "hm"}}, &engine.Chunk{Delta: &completionv1.Delta{Reasoning: "m", Refusal: "n"}},
		text("a"), text("b"), call(0, "c0", "f", `{"x"`), call(1, "c1", "g", "{}"), call(0, "", "", ":1}"),
		&engine.Chunk{FinishReason: completionv1.Finished_TOOL_CALLS, Usage: &completionv1.Usage{TotalTokens: 9}}))
	got, err := f.client.CreateCompletion(t.Context(), prompt("x"))
	if err != nil {
		t.Fatal(err)
	}
	want := &completionv1.Completion{
		Id: got.GetId(), Model: "m-1", State: completionv1.Completion_FINISHED, CreateTime: got.GetCreateTime(), LastSequence: 9,
		Text: "ab", Reasoning: "hmm", Refusal: "n",
		ToolCalls: []*completionv1.ToolCall{
			{Index: proto.Int32(0), Id: "c0", Name: "f", Arguments: `{"x":1}`},
			{Index: proto.Int32(1), Id: "c1", Name: "g", Arguments: "{}"},
		},
		FinishReason: completionv1.Finished_TOOL_CALLS, Usage: &completionv1.Usage{TotalTokens: 9},
	}
	if !proto.Equal(got, want) || got.GetCreateTime().AsTime().IsZero() {
		t.Errorf("got %v, want %v", got, want)
	}
	again, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: got.GetId()})
	if err != nil || !proto.Equal(again, want) {
		t.Errorf("got %v, %v", again, err)
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
