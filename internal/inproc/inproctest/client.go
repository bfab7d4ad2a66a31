// Package inproctest lets generated clients stream over an in-process connection, in
// tests.
package inproctest

import (
	"bytes"
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec "proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/internal/inproc"
)

// Client is a connection whose server-streaming methods can be called by generated
// clients: each stream's handler has a goroutine, and waits with each message until
// the client has received it. That goroutine ends with the stream's context at the
// latest.
type Client struct{ *inproc.Conn }

// NewStream implements grpc.ClientConnInterface.
func (c Client) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s := &stream{conn: c.Conn, method: method, codec: encoding.GetCodecV2("proto"),
		begun: make(chan struct{}), messages: make(chan []byte), ended: make(chan struct{}), trailer: &metadata.MD{}}
	s.ctx, s.cancel = context.WithCancel(ctx)
	for _, opt := range opts {
		switch o := opt.(type) {
		case grpc.ForceCodecV2CallOption:
			s.codec = o.CodecV2
		case grpc.TrailerCallOption:
			s.trailer = o.TrailerAddr
		}
	}
	return s, nil
}

// stream is a grpc.ClientStream, and the receiver of its messages.
type stream struct {
	conn    *inproc.Conn
	method  string
	codec   encoding.CodecV2
	ctx     context.Context
	cancel  context.CancelFunc
	request proto.Message

	begun    chan struct{} // closed when there is a header
	header   metadata.MD
	messages chan []byte
	ended    chan struct{} // closed when there are an error and a trailer
	trailer  *metadata.MD
	err      error
}

func (s *stream) SendMsg(m any) error {
	s.request = proto.Clone(m.(proto.Message))
	return nil
}

func (s *stream) CloseSend() error {
	go func() {
		request := s.request
		s.request = nil
		s.err = s.conn.Stream(s.ctx, s.method, request, receiver{s}, grpc.Trailer(s.trailer))
		if s.err == nil {
			s.err = io.EOF
		}
		s.cancel()
		close(s.ended)
	}()
	return nil
}

func (s *stream) Header() (metadata.MD, error) {
	select {
	case <-s.begun:
	case <-s.ended: // RecvMsg tells why
	}
	select {
	case <-s.begun:
		return s.header, nil
	default:
		return nil, nil
	}
}

func (s *stream) RecvMsg(m any) error {
	select {
	case b := <-s.messages:
		if err := s.codec.Unmarshal(mem.BufferSlice{mem.SliceBuffer(b)}, m); err != nil {
			s.cancel()
			return status.Errorf(codes.Internal, "unmarshal a message: %v", err)
		}
		return nil
	case <-s.ended:
		return s.err
	}
}

func (s *stream) Context() context.Context { return s.ctx }

// Trailer waits for the end, which follows where RecvMsg has failed of itself.
func (s *stream) Trailer() metadata.MD {
	<-s.ended
	return *s.trailer
}

type receiver struct{ *stream }

func (r receiver) Header(md metadata.MD) {
	r.header = md
	close(r.begun)
}

func (r receiver) Receive(messages [][]byte) error {
	for _, m := range messages {
		select {
		case r.messages <- bytes.Clone(m):
		case <-r.ctx.Done():
			return status.FromContextError(r.ctx.Err()).Err()
		}
	}
	return nil
}
