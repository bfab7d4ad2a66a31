package inproc_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/sluice-sse/sluice/internal/inproc"
)

// What there is in process only.

// encoded is a message that is encoded already.
type encoded []byte

func (e encoded) MarshalBinary() ([]byte, error) { return e, nil }

// batched notes what comes at once.
type batched struct {
	outcome
	sizes []int
}

func (b *batched) Receive(messages [][]byte) error {
	b.sizes = append(b.sizes, len(messages))
	return b.outcome.Receive(messages)
}

func TestSendBatch(t *testing.T) {
	conn := inProcess(&service{stream: func(_ *request, s serverStream) error {
		batch := make([][]byte, 3)
		for i := range batch {
			b, err := proto.Marshal(&response{Payload: body(strings.Repeat("x", i))})
			if err != nil {
				return err
			}
			batch[i] = b
		}
		if err := s.SetHeader(metadata.Pairs("x-a", "1")); err != nil {
			return err
		}
		sender := s.(*grpc.GenericServerStream[request, response]).ServerStream.(interface{ SendBatch([][]byte) error })
		for range 2 {
			if err := sender.SendBatch(batch); err != nil {
				return err
			}
		}
		return s.SendMsg(encoded(batch[1]))
	}})
	got := &batched{}
	got.err = conn.Stream(t.Context(), streamMethod, &request{Payload: body("question")}, got)
	if want := `header[x-a=["1"]] "" "x" "xx" "" "x" "xx" "x" OK`; got.String() != want || !slices.Equal(got.sizes, []int{3, 3, 1}) {
		t.Errorf("got  %s in %v\nwant %s", got, got.sizes, want)
	}
}

// duplex is a service with a method that streams both ways.
type duplex struct{ service }

func (*duplex) FullDuplexCall(testpb.TestService_FullDuplexCallServer) error { return nil }

// A method is called as what it is.
func TestOtherKindsOfMethods(t *testing.T) {
	conn := &inproc.Conn{}
	testpb.RegisterTestServiceServer(conn, &duplex{})
	if _, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, streamMethod); status.Code(err) != codes.Unimplemented {
		t.Errorf("NewStream: %v", err)
	}
	if err := conn.Invoke(t.Context(), streamMethod, &request{}, &response{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a stream by Invoke: %v", err)
	}
	for _, method := range []string{unaryMethod, testpb.TestService_FullDuplexCall_FullMethodName} {
		if err := conn.Stream(t.Context(), method, &testpb.SimpleRequest{}, &outcome{}); status.Code(err) != codes.Unimplemented {
			t.Errorf("%s by Stream: %v", method, err)
		}
	}
}

// TestCaller checks that a handler sees, of a call that is somebody else's, who that is, in
// methods of both kinds and in interceptors; and of another call nothing of it.
func TestCaller(t *testing.T) {
	caller := &peer.Peer{Addr: &net.TCPAddr{Port: 7}, AuthInfo: credentials.TLSInfo{}}
	var seen []*peer.Peer
	see := func(ctx context.Context) {
		p, _ := peer.FromContext(ctx)
		seen = append(seen, p)
	}
	conn := inProcess(&service{
		unary: func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			see(ctx)
			return &testpb.SimpleResponse{}, nil
		},
		stream: func(_ *request, s serverStream) error {
			see(s.Context())
			return nil
		},
	})
	conn.UnaryInterceptors = append(conn.UnaryInterceptors, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		see(ctx)
		return handler(ctx, req)
	})
	for _, tt := range []struct {
		ctx  context.Context
		want bool
	}{
		{inproc.WithCaller(t.Context(), caller), true},
		{t.Context(), false},
		{peer.NewContext(t.Context(), caller), false}, // of a call in which this one is made
	} {
		ctx := tt.ctx
		seen = nil
		if err := conn.Invoke(ctx, unaryMethod, &testpb.SimpleRequest{}, &testpb.SimpleResponse{}); err != nil {
			t.Fatal(err)
		}
		if err := conn.Stream(ctx, streamMethod, &request{}, &outcome{}); err != nil {
			t.Fatal(err)
		}
		for _, got := range seen {
			if got == nil || (got == caller) != tt.want {
				t.Errorf("got %v, want the caller: %v", got, tt.want)
			}
		}
		if len(seen) != 3 {
			t.Errorf("seen %d times", len(seen))
		}
	}
}
