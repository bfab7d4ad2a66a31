package server

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/internal/inproc/inproctest"
)

// service is a CompletionService whose streams are played by a function.
type service struct {
	completionv1.UnimplementedCompletionServiceServer
	stream func(grpc.ServerStreamingServer[completionv1.CompletionEvent]) error
}

func (s *service) StreamCompletion(_ *completionv1.CompletionRequest, stream grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
	return s.stream(stream)
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

// Events that are encoded already, and messages, are the same to a client in this process
// and to one over a socket.
func TestEncodedEvents(t *testing.T) {
	for name, client := range connections(t, &service{stream: func(s grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
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
			event.Data = b
			if err := s.SendMsg(&event); err != nil {
				return err
			}
		}
		if err := s.Send(&completionv1.CompletionEvent{Sequence: 4}); err != nil { // a message works too
			return err
		}
		return status.Error(codes.DataLoss, "over")
	}}) {
		ctx := context.WithValue(metadata.AppendToOutgoingContext(t.Context(), "k", "v"), contextKey{}, 1)
		s, err := client.StreamCompletion(ctx, prompt("x"))
		if id := header(t, s, err); id != "x" {
			t.Errorf("%s: header %q", name, id)
		}
		got, err := read(s)
		if got != "1:nothing 2:nothing 3:nothing 4:nothing" || status.Code(err) != codes.DataLoss || status.Convert(err).Message() != "over" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
		if _, err := s.Recv(); status.Code(err) != codes.DataLoss {
			t.Errorf("%s: after the end: %v", name, err)
		}
	}
}

type contextKey struct{}
