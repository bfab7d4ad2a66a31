package server

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// faulty is an engine, a journal's writer and an Observer that panic where they are told
// to, the first time they come there.
type faulty struct {
	mu           sync.Mutex // guards all below
	at           string
	began, ended int // completions that it was told of
	journal.Journal
}

func (f *faulty) come(to string) {
	f.mu.Lock()
	there := f.at == to
	if there {
		f.at = ""
	}
	f.mu.Unlock()
	if there {
		panic("a fault, secret words")
	}
}

func (f *faulty) set(at string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = at
}

func (f *faulty) Models(context.Context) ([]string, error) {
	f.come("models")
	return nil, nil
}

func (f *faulty) Generate(context.Context, *completionv1.CompletionRequest) engine.Stream {
	f.come("generate")
	return &faultyStream{faulty: f}
}

type faultyStream struct {
	*faulty
	next int
}

func (s *faultyStream) Next(wait bool) (*engine.Chunk, error) {
	if !wait {
		return nil, nil
	}
	chunks := []*engine.Chunk{text("a"), text("b"), text("c"), stopped}
	s.come([]string{"chunk 1", "chunk 2", "chunk 3", "chunk 4", "end"}[s.next])
	if s.next++; s.next > len(chunks) {
		s.next--
		return nil, io.EOF
	}
	return chunks[s.next-1], nil
}

func (s *faultyStream) Close() { s.come("close") }

func (f *faulty) Create(ctx context.Context, c journal.Completion, o journal.Owner) (journal.Writer, journal.Completion, error) {
	f.come("create")
	w, holder, err := f.Journal.Create(ctx, c, o)
	return &faultyWriter{failingWriter{w, func(e journal.Entry) error {
		f.come([]string{"", "created", "append 1", "append 2", "append 3"}[min(e.Sequence, 4)])
		return nil
	}}, f}, holder, err
}

type faultyWriter struct {
	failingWriter
	faulty *faulty
}

func (w *faultyWriter) Close() {
	w.faulty.come("writer's close")
	w.failingWriter.Close()
}

func (f *faulty) Began(_, generate context.Context, _ Began) context.Context {
	f.tell(&f.began)
	f.come("began")
	return generate
}

func (f *faulty) Ended(context.Context, Ended) {
	f.tell(&f.ended)
	f.come("ended")
}

func (f *faulty) tell(count *int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	*count++
}

func (f *faulty) Reads(context.Context, string) { f.come("reads") }

// recovery has interceptors that recover.
type recovery struct{ log *slog.Logger }

func (r recovery) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
	defer r.recover(ctx, info.FullMethod, &err)
	return handler(ctx, req)
}

func (r recovery) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer r.recover(stream.Context(), info.FullMethod, &err)
	return handler(srv, stream)
}

func (r recovery) recover(ctx context.Context, method string, err *error) {
	if p := recover(); p != nil {
		*err = Recovered(ctx, r.log, method, p)
	}
}

// TestPanic has faults wherever a completion comes by, and checks that they end that one
// alone: whoever reads it gets the same events and the same status, its place is free, its
// end is told, and the next one is as ever.
func TestPanic(t *testing.T) {
	for _, at := range []string{"create", "began", "generate", "chunk 1", "chunk 2", "chunk 4", "end", "close", "created", "append 2", "writer's close", "ended", "reads"} {
		for _, alone := range []bool{true, false} {
			t.Run(at, func(t *testing.T) { testPanic(t, at, alone) })
		}
	}
}

// testPanic has a fault, while the leader reads alone, and generates, or not.
func testPanic(t *testing.T, at string, alone bool) {
	f := &faulty{at: at}
	server := newFixture(t, f, func(c *Config) {
		f.Journal = c.Journal
		c.Journal, c.Observer, c.Limits.Running = f, f, 1
	})
	recovery := recovery{server.server.config.Log}
	server.conn.StreamInterceptors = []grpc.StreamServerInterceptor{recovery.stream}
	server.conn.UnaryInterceptors = []grpc.UnaryServerInterceptor{recovery.unary}
	s, err := server.client.StreamCompletion(t.Context(), prompt("x"))
	if err != nil {
		t.Fatal(err)
	}
	md, _ := s.Header()
	id := strings.Join(md.Get("completion-id"), "")
	if run := server.run(id); run != nil && !alone {
		run.detach()
	}
	events, err := read(s)
	fails := at != "ended" && at != "writer's close" // which are behind the end
	if fails && (status.Code(err) != codes.Internal || reason(err) != failure.UpstreamRejected || strings.Contains(err.Error(), "secret")) || !fails && err != nil {
		t.Errorf("got %s, %v", events, err)
	}
	if id != "" && at != "reads" {
		again, errAgain := read(server.resume(t, t.Context(), id, 0))
		if again != events || status.Code(errAgain) != status.Code(err) {
			t.Errorf("then %s, %v; first %s, %v", again, errAgain, events, err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); server.server.Stats().Running > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	c, err := server.client.CreateCompletion(t.Context(), prompt("x"))
	if err != nil || c.GetText() != "abc" {
		t.Errorf("the next one: %v, %v", c, err)
	}
	server.server.Close() // which waits for all
	if f.began != f.ended || f.ended == 0 {
		t.Errorf("%d have begun, and %d ended", f.began, f.ended)
	}
	if log := server.log.String(); !strings.Contains(log, "recover_test.go") || !strings.Contains(log, "a fault") {
		t.Errorf("the log has no stack: %s", log)
	}
}

// TestPanicOfCall has a fault in a unary call, over gRPC: in the handler, and where its
// request is decoded.
func TestPanicOfCall(t *testing.T) {
	f := &faulty{at: "models"}
	server := newFixture(t, f, func(c *Config) {
		c.DecodeLimit = func(context.Context, int) (func(), error) {
			f.come("decode")
			return func() {}, nil
		}
	})
	recovery := recovery{server.server.config.Log}
	conn, _ := server.listen(t, time.Minute, grpc.ChainUnaryInterceptor(recovery.unary), grpc.ChainStreamInterceptor(recovery.stream))
	client := completionv1.NewCompletionServiceClient(conn)
	for _, at := range []string{"models", "decode"} {
		f.set(at)
		_, err := client.ListModels(t.Context(), &completionv1.ListModelsRequest{})
		if status.Code(err) != codes.Internal || reason(err) != failure.UpstreamRejected {
			t.Errorf("%s: got %v", at, err)
		}
		if _, err := client.ListModels(t.Context(), &completionv1.ListModelsRequest{}); err != nil {
			t.Errorf("after %s: %v", at, err)
		}
	}
	f.set("decode")
	s, err := client.StreamCompletion(t.Context(), prompt("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); reason(err) != failure.UpstreamRejected {
		t.Errorf("a stream: got %v", err)
	}
}
