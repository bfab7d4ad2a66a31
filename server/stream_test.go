package server

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
)

// batches is a receiver that counts.
type batches struct {
	sizes []int
	last  *completionv1.CompletionEvent
}

func (b *batches) Header(metadata.MD) {}

func (b *batches) Receive(messages [][]byte) error {
	b.sizes = append(b.sizes, len(messages))
	b.last = &completionv1.CompletionEvent{}
	return proto.Unmarshal(messages[len(messages)-1], b.last)
}

// Events that are there at once are sent at once, also within an interceptor that changes
// the context; within one that wraps the stream otherwise, they are sent one by one.
func TestBatches(t *testing.T) {
	type principal struct{}
	as := func(ctx context.Context, name string) context.Context {
		return context.WithValue(ctx, principal{}, name)
	}
	for _, tt := range []struct {
		name, principal string
		intercept       grpc.StreamServerInterceptor
		receives        int
	}{
		{"none", "", nil, 2},
		{"with a context", "me", func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, WithContext(as(ss.Context(), "me"), ss))
		}, 2},
		{"with two", "me", func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			ss = WithContext(as(ss.Context(), "another"), ss)
			return handler(srv, WithContext(as(ss.Context(), "me"), ss))
		}, 2},
		{"wrapped", "", func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, struct{ grpc.ServerStream }{ss})
		}, 12},
		{"wrapped, with a context", "me", func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, WithContext(as(ss.Context(), "me"), struct{ grpc.ServerStream }{ss}))
		}, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			chunks, _ := numbered(10)
			var caller string
			f := newFixture(t, atOnce(nil, chunks...), func(c *Config) {
				c.Principal = func(ctx context.Context) string {
					caller, _ = ctx.Value(principal{}).(string)
					return caller
				}
			})
			conn := &inproc.Conn{}
			if tt.intercept != nil {
				conn.StreamInterceptors = []grpc.StreamServerInterceptor{tt.intercept}
			}
			completionv1.RegisterCompletionServiceServer(conn, f.server)
			var got batches
			if err := conn.Stream(t.Context(), completionv1.CompletionService_StreamCompletion_FullMethodName, prompt("x"), &got); err != nil {
				t.Fatal(err)
			}
			total := 0
			for _, n := range got.sizes {
				total += n
			}
			if total != 12 || len(got.sizes) != tt.receives || got.last.GetFinished() == nil || caller != tt.principal {
				t.Errorf("got %v to %v, by %q; want %d batches by %q", got.sizes, got.last, caller, tt.receives, tt.principal)
			}
		})
	}
}

// An interceptor over gRPC sees the request as a message.
func TestInterceptorSeesRequest(t *testing.T) {
	f := newFixture(t, play(nil, text("a"), stopped))
	seen := make(chan string, 1)
	conn, _ := f.listen(t, time.Minute, grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return handler(srv, &requestReader{ss, seen})
	}))
	_, s := f.streamFrom(t, completionv1.NewCompletionServiceClient(conn))
	if got, err := read(s); got != "1:created 2:a 3:STOP" || err != nil {
		t.Errorf("got %s, %v", got, err)
	}
	select {
	case got := <-seen:
		if got != "x" {
			t.Errorf("seen: %q", got)
		}
	default:
		t.Error("no request seen")
	}
}

// requestReader is a stream that tells of its request.
type requestReader struct {
	grpc.ServerStream
	seen chan string
}

func (r *requestReader) RecvMsg(m any) error {
	err := r.ServerStream.RecvMsg(m)
	if req, ok := m.(*completionv1.CompletionRequest); ok {
		r.seen <- req.GetPrompt()
	}
	return err
}

// The header of who resumes says how far the completion has come: to its end, or to what is
// there while it runs.
func TestResumeSaysHowFar(t *testing.T) {
	f := newFixture(t, silent(begun, text("a"), text("b")))
	_, running := f.stream(t, t.Context(), prompt("x"))
	for range 3 { // created and two deltas
		if _, err := running.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	md, err := running.Header()
	if err != nil {
		t.Fatal(err)
	}
	id := completionIDOf(md)
	last := func() string {
		t.Helper()
		md, err := f.resume(t, t.Context(), id, 0).Header()
		if err != nil || completionIDOf(md) != id {
			t.Fatalf("got %v, %v", md, err)
		}
		return strings.Join(md.Get("last-sequence"), ",")
	}
	if got := last(); got != "3" {
		t.Errorf("while it runs, it is %s", got)
	}
	if _, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id}); err != nil {
		t.Fatal(err)
	}
	if got := last(); got != "4" {
		t.Errorf("in the end, it is %s", got)
	}
}
