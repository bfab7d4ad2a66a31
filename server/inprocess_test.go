package server

import (
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/internal/inproc/inproctest"
)

// service is a CompletionService that does one of the things that a handler can.
type service struct {
	completionv1.UnimplementedCompletionServiceServer
	stream func(grpc.ServerStreamingServer[completionv1.CompletionEvent]) error
	unary  func(context.Context, *completionv1.CompletionRequest) (*completionv1.Completion, error)
}

func (s *service) StreamCompletion(_ *completionv1.CompletionRequest, stream grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
	return s.stream(stream)
}

func (s *service) CreateCompletion(ctx context.Context, req *completionv1.CompletionRequest) (*completionv1.Completion, error) {
	return s.unary(ctx, req)
}

// connections returns a client in this process and one over a socket: what a
// client can observe must be the same.
func connections(t *testing.T, s *service) map[string]completionv1.CompletionServiceClient {
	t.Helper()
	inProcess := &inproc.Conn{}
	completionv1.RegisterCompletionServiceServer(inProcess, s)
	g := grpc.NewServer(grpc.ForceServerCodecV2(newCodec()))
	completionv1.RegisterCompletionServiceServer(g, s)
	return map[string]completionv1.CompletionServiceClient{
		"in process": completionv1.NewCompletionServiceClient(inproctest.Client{Conn: inProcess}),
		"socket":     completionv1.NewCompletionServiceClient(dial(t, g)),
	}
}

// both runs a test on both kinds of connection.
func both(t *testing.T, s *service, test func(*testing.T, completionv1.CompletionServiceClient)) {
	t.Helper()
	for name, client := range connections(t, s) {
		t.Run(name, func(t *testing.T) { test(t, client) })
	}
}

func TestConnectionStreams(t *testing.T) {
	both(t, &service{stream: func(s grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
		if got := metadata.ValueFromIncomingContext(s.Context(), "k"); len(got) != 1 || got[0] != "v" {
			return status.Errorf(codes.Internal, "metadata %v", got)
		}
		if s.Context().Value(contextKey{}) != nil {
			return status.Error(codes.Internal, "the client's values are there")
		}
		if err := s.SendHeader(metadata.Pairs("completion-id", "x")); err != nil {
			return err
		}
		event := encodedEvent{}
		for i := range int32(3) {
			b, err := proto.Marshal(&completionv1.CompletionEvent{Sequence: i + 1})
			if err != nil {
				return err
			}
			event.data = b
			if err := s.SendMsg(&event); err != nil {
				return err
			}
		}
		if err := s.Send(&completionv1.CompletionEvent{Sequence: 4}); err != nil { // a message works too
			return err
		}
		return status.Error(codes.DataLoss, "over")
	}}, func(t *testing.T, client completionv1.CompletionServiceClient) {
		ctx := context.WithValue(metadata.AppendToOutgoingContext(t.Context(), "k", "v"), contextKey{}, 1)
		s, err := client.StreamCompletion(ctx, prompt("x"))
		if id := header(t, s, err); id != "x" {
			t.Errorf("header %q", id)
		}
		got, err := read(s)
		if got != "1:nothing 2:nothing 3:nothing 4:nothing" || status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "over" {
			t.Errorf("got %q, %v", got, err)
		}
		if _, err := s.Recv(); status.Code(err) != codes.DataLoss {
			t.Errorf("after the end: %v", err)
		}
	})
}

type contextKey struct{}

func TestConnectionStreamEnds(t *testing.T) {
	both(t, &service{stream: func(grpc.ServerStreamingServer[completionv1.CompletionEvent]) error { return nil }},
		func(t *testing.T, client completionv1.CompletionServiceClient) {
			s, err := client.StreamCompletion(t.Context(), prompt("x"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != io.EOF {
				t.Errorf("got %v", err)
			}
		})
}

// A client that drops a stream by its context alone, and never receives again,
// must not keep the handler.
func TestConnectionStreamIsDropped(t *testing.T) {
	ended := make(chan error, 1)
	both(t, &service{stream: func(s grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
		for {
			if err := s.Send(&completionv1.CompletionEvent{Sequence: 1}); err != nil {
				ended <- err
				return err
			}
		}
	}}, func(t *testing.T, client completionv1.CompletionServiceClient) {
		_, _ = client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{}) // the connection has goroutines of its own
		before := runtime.NumGoroutine()
		ctx, cancel := context.WithCancel(t.Context())
		s, err := client.StreamCompletion(ctx, prompt("x"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-ended; err == nil {
			t.Error("the handler could send on")
		}
		for {
			_, err := s.Recv() // what had gathered on the socket, and then the end
			if err == nil {
				continue
			}
			if status.Code(err) != codes.Canceled {
				t.Errorf("the client got %v", err)
			}
			break
		}
		for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+1; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
			}
		}
	})
}

func TestConnectionUnary(t *testing.T) {
	both(t, &service{unary: func(ctx context.Context, req *completionv1.CompletionRequest) (*completionv1.Completion, error) {
		if req.GetPrompt() == "fail" {
			return nil, status.Error(codes.DataLoss, "over")
		}
		if req.GetPrompt() == "wait" {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		if err := grpc.SetHeader(ctx, metadata.Pairs("completion-id", "x")); err != nil {
			return nil, err
		}
		req.Prompt = proto.String("changed")
		return &completionv1.Completion{Text: "y"}, nil
	}}, func(t *testing.T, client completionv1.CompletionServiceClient) {
		var md metadata.MD
		req := prompt("x")
		c, err := client.CreateCompletion(t.Context(), req, grpc.Header(&md))
		if err != nil || c.GetText() != "y" || len(md.Get("completion-id")) != 1 || req.GetPrompt() != "x" {
			t.Errorf("got %v, %v, header %v; the request is %v", c, err, md, req)
		}
		if _, err := client.CreateCompletion(t.Context(), prompt("fail")); status.Code(err) != codes.DataLoss {
			t.Errorf("got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := client.CreateCompletion(ctx, prompt("wait")); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		if _, err := client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("got %v", err)
		}
	})
}

func TestConnectionUnknownMethod(t *testing.T) {
	conn := &inproc.Conn{}
	if err := conn.Invoke(t.Context(), "/a/b", prompt("x"), &completionv1.Completion{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
	if _, err := conn.NewStream(t.Context(), &grpc.StreamDesc{}, "/a/b"); status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v", err)
	}
}
