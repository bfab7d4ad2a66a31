package inproc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/internal/inproc/inproctest"
)

// The suite: what clients, handlers and interceptors can observe, over a socket, which
// says what is right, and in process. (After fullstorydev/grpchan's
// grpchantesting/channel_test_cases.go.)

type (
	request      = testpb.StreamingOutputCallRequest
	response     = testpb.StreamingOutputCallResponse
	serverStream = grpc.ServerStreamingServer[response]
)

const (
	unaryMethod  = testpb.TestService_UnaryCall_FullMethodName
	streamMethod = testpb.TestService_StreamingOutputCall_FullMethodName
)

// service is a TestService whose methods are played by functions, and what it runs in.
type service struct {
	testpb.UnimplementedTestServiceServer
	unary  func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
	stream func(*request, serverStream) error

	unaryInterceptors  []grpc.UnaryServerInterceptor
	streamInterceptors []grpc.StreamServerInterceptor
}

func (s *service) UnaryCall(ctx context.Context, req *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return s.unary(ctx, req)
}

func (s *service) StreamingOutputCall(req *request, stream serverStream) error {
	return s.stream(req, stream)
}

// client is a connection to a service, and how its streams are received.
type client struct {
	grpc.ClientConnInterface
	stream func(ctx context.Context, method string, request any, r inproc.Receiver, opts ...grpc.CallOption) error
}

var transports = []struct {
	name string
	open func(*testing.T, *service) client
}{
	{"over a socket", func(t *testing.T, s *service) client {
		g := grpc.NewServer(grpc.ChainUnaryInterceptor(s.unaryInterceptors...), grpc.ChainStreamInterceptor(s.streamInterceptors...))
		testpb.RegisterTestServiceServer(g, s)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- g.Serve(l) }()
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = conn.Close()
			g.Stop()
			<-served
		})
		return client{conn, receiveOver(conn)}
	}},
	{"in process", func(t *testing.T, s *service) client {
		conn := inProcess(s)
		return client{conn, conn.Stream}
	}},
	{"in process, by generated clients", func(t *testing.T, s *service) client {
		conn := inproctest.Client{Conn: inProcess(s)}
		return client{conn, receiveOver(conn)}
	}},
}

func inProcess(s *service) *inproc.Conn {
	conn := &inproc.Conn{UnaryInterceptors: s.unaryInterceptors, StreamInterceptors: s.streamInterceptors}
	testpb.RegisterTestServiceServer(conn, s)
	return conn
}

// everywhere runs a test on all transports.
func everywhere(t *testing.T, s *service, test func(*testing.T, client)) {
	t.Helper()
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) { test(t, transport.open(t, s)) })
	}
}

// receiveOver receives the streams of a connection that has only NewStream.
func receiveOver(conn grpc.ClientConnInterface) func(context.Context, string, any, inproc.Receiver, ...grpc.CallOption) error {
	return func(ctx context.Context, method string, request any, r inproc.Receiver, opts ...grpc.CallOption) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, append(opts, grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")}))...)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(request); err != nil && err != io.EOF {
			return err
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		if md, err := stream.Header(); err == nil && md != nil {
			r.Header(md)
		}
		for {
			var b []byte
			if err := stream.RecvMsg(&b); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			if err := r.Receive([][]byte{b}); err != nil {
				return err
			}
		}
	}
}

// rawCodec leaves messages as they come.
type rawCodec struct{ encoding.CodecV2 }

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = bytes.Clone(data.Materialize())
	return nil
}

// outcome is all that a client gets of a call.
type outcome struct {
	header, trailer metadata.MD
	messages        []string // their bodies
	err             error
	receive         func(message string) error // called with each; nil: they are only kept
	begin           func()                     // called with the header, if there is one
}

func (o *outcome) Header(md metadata.MD) {
	if len(o.messages) > 0 || o.header != nil {
		o.messages = append(o.messages, "a header too late")
	}
	o.header = metadata.Join(metadata.MD{}, md)
	if o.begin != nil {
		o.begin()
	}
}

func (o *outcome) Receive(messages [][]byte) error {
	for _, b := range messages {
		m := &response{}
		if err := encoding.GetCodecV2("proto").Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, m); err != nil {
			return err
		}
		o.messages = append(o.messages, string(m.GetPayload().GetBody()))
		if o.receive != nil {
			if err := o.receive(string(m.GetPayload().GetBody())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *outcome) String() string {
	var b strings.Builder
	b.WriteString(mine("header", o.header))
	for _, m := range o.messages {
		fmt.Fprintf(&b, "%.80q ", m)
	}
	b.WriteString(mine("trailer", o.trailer))
	st := status.Convert(o.err)
	fmt.Fprintf(&b, "%v", st.Code())
	if st.Message() != "" && st.Code() != codes.Internal { // whose messages are the transport's own
		fmt.Fprintf(&b, ": %s", st.Message())
	}
	if n := len(st.Details()); n > 0 {
		fmt.Fprintf(&b, " (%v)", st.Details()...)
	}
	return b.String()
}

// mine says what there is in metadata by keys that begin with x-: a socket has others.
func mine(name string, md metadata.MD) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(md)) {
		if strings.HasPrefix(k, "x-") {
			pairs = append(pairs, fmt.Sprintf("%s=%q", k, md[k]))
		}
	}
	if pairs == nil {
		return ""
	}
	return fmt.Sprintf("%s%v ", name, pairs)
}

// callStream receives a stream to its end.
func (c client) callStream(ctx context.Context, o *outcome) *outcome {
	o.err = c.stream(ctx, streamMethod, &request{Payload: body("question")}, o, grpc.Trailer(&o.trailer))
	return o
}

func (c client) callUnary(ctx context.Context) *outcome {
	o, reply := &outcome{}, &testpb.SimpleResponse{}
	o.err = c.Invoke(ctx, unaryMethod, &testpb.SimpleRequest{Payload: body("question")}, reply, grpc.Header(&o.header), grpc.Trailer(&o.trailer))
	if o.err == nil {
		o.messages = []string{string(reply.GetPayload().GetBody())}
	}
	return o
}

func body(s string) *testpb.Payload { return &testpb.Payload{Body: []byte(s)} }

func answer(s string) *testpb.SimpleResponse { return &testpb.SimpleResponse{Payload: body(s)} }

func send(s grpc.ServerStream, messages ...string) error {
	for _, m := range messages {
		if err := s.SendMsg(&response{Payload: body(m)}); err != nil {
			return err
		}
	}
	return nil
}
