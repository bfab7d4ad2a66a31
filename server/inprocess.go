package server

import (
	"context"
	stdencoding "encoding"
	"fmt"
	"io"
	"iter"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// InProcess is a client connection to services in this process: no port, no
// TLS, no HTTP/2. Services are registered on it as on a grpc.Server, before its
// first use. It serves unary and server-streaming methods, and carries deadlines,
// cancellation, metadata and statuses as a connection between processes would.
// Call options other than grpc.Header are ignored, as there is nothing that they
// would change. The zero value has no services; calls are for many goroutines at
// once.
//
// There is no goroutine and no queue between the two sides: Invoke and CallStream
// run their handler on the caller's goroutine, and the handler of a stream that
// NewStream opened is a coroutine that runs while its client waits in RecvMsg or
// Header. A message that implements encoding.BinaryMarshaler is handed over as
// its bytes, which are shared, not copied: a receiver that implements
// encoding.BinaryUnmarshaler takes them as they are, any other message is decoded
// from them.
type InProcess struct {
	methods map[string]method[grpc.MethodDesc]
	streams map[string]method[grpc.StreamDesc]
}

// method is a method's description and what implements it.
type method[D any] struct {
	desc D
	impl any
}

// RegisterService implements grpc.ServiceRegistrar.
func (c *InProcess) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if c.methods == nil {
		c.methods, c.streams = map[string]method[grpc.MethodDesc]{}, map[string]method[grpc.StreamDesc]{}
	}
	for _, m := range desc.Methods {
		c.methods["/"+desc.ServiceName+"/"+m.MethodName] = method[grpc.MethodDesc]{m, impl}
	}
	for _, s := range desc.Streams {
		c.streams["/"+desc.ServiceName+"/"+s.StreamName] = method[grpc.StreamDesc]{s, impl}
	}
}

// Invoke implements grpc.ClientConnInterface.
func (c *InProcess) Invoke(ctx context.Context, name string, req, reply any, opts ...grpc.CallOption) error {
	m, ok := c.methods[name]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown method %s", name)
	}
	transport := &transportStream{method: name}
	answer, err := m.desc.Handler(m.impl, serverContext(ctx, transport), func(in any) error { return transfer(in, req) }, nil)
	for _, opt := range opts {
		if h, ok := opt.(grpc.HeaderCallOption); ok {
			*h.HeaderAddr = transport.header
		}
	}
	if err != nil {
		return clientError(err)
	}
	return transfer(reply, answer)
}

// NewStream implements grpc.ClientConnInterface.
func (c *InProcess) NewStream(ctx context.Context, _ *grpc.StreamDesc, name string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	m, ok := c.streams[name]
	if !ok || m.desc.ClientStreams {
		return nil, status.Errorf(codes.Unimplemented, "unknown method %s", name)
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &coroutine{clientContext: ctx}
	s.context = serverContext(ctx, &s.transport)
	s.transport = transportStream{method: name, sent: s.sendHeader}
	s.resume, s.stop = iter.Pull(func(yield func(any) bool) {
		s.yield = yield
		s.err = m.desc.Handler(m.impl, s)
		cancel()
	})
	// A client may drop a stream by its context alone: the handler must end then
	// too, even if it never runs again by RecvMsg.
	context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stop()
	})
	return &clientStream{coroutine: s}, nil
}

// CallStream calls a server-streaming method and returns its error. The request is the
// handler's from then on: it may be large, and is not copied. The receiver gets, on the caller's goroutine, the header when it is sent, the bytes of each
// message, and Flush when no other message follows at once. An error that it
// returns is what the handler's SendMsg returns.
func (c *InProcess) CallStream(ctx context.Context, name string, request any, r interface {
	Header(metadata.MD)
	UnmarshalBinary(message []byte) error
	Flush() error
}) error {
	m, ok := c.streams[name]
	if !ok || m.desc.ClientStreams {
		return status.Errorf(codes.Unimplemented, "unknown method %s", name)
	}
	s := &pushStream{receiver: r}
	s.request, s.given = request, true
	s.transport = transportStream{method: name, sent: func() error { r.Header(s.transport.header); return nil }}
	s.context = serverContext(ctx, &s.transport)
	if err := m.desc.Handler(m.impl, s); err != nil {
		return clientError(err)
	}
	return nil
}

// pushStream is the handler's side of a stream that is pushed.
type pushStream struct {
	handlerSide
	receiver interface {
		stdencoding.BinaryUnmarshaler
		Header(metadata.MD)
		Flush() error
	}
}

func (s *pushStream) SendMsg(m any) error {
	encoded, ok := m.(interface {
		stdencoding.BinaryMarshaler
		More() bool
	})
	if !ok {
		if err := transfer(s.receiver, m); err != nil {
			return err
		}
		return s.receiver.Flush()
	}
	b, err := encoded.MarshalBinary()
	if err == nil {
		err = s.receiver.UnmarshalBinary(b)
	}
	if err != nil || encoded.More() {
		return err
	}
	return s.receiver.Flush()
}

// handlerSide is what a handler sees of a stream besides SendMsg.
type handlerSide struct {
	context   context.Context
	transport transportStream
	request   any  // until the handler has taken it
	given     bool // the request is the handler's
}

func (s *handlerSide) RecvMsg(m any) error {
	if s.request == nil {
		return io.EOF
	}
	defer func() { s.request = nil }()
	if s.given && move(m, s.request) {
		return nil
	}
	return transfer(m, s.request)
}

func (s *handlerSide) Context() context.Context        { return s.context }
func (s *handlerSide) SetHeader(md metadata.MD) error  { return s.transport.SetHeader(md) }
func (s *handlerSide) SendHeader(md metadata.MD) error { return s.transport.SendHeader(md) }
func (s *handlerSide) SetTrailer(md metadata.MD)       { _ = s.transport.SetTrailer(md) }

// coroutine is a stream that NewStream opened, and its handler's side: resume runs
// the handler up to its next message, or nil for its header, which it yields.
type coroutine struct {
	handlerSide
	clientContext context.Context

	mu     sync.Mutex // held while the handler runs
	resume func() (any, bool)
	stop   func()
	yield  func(any) bool
	err    error // what the handler returned
}

// next runs the handler until it yields or returns; then it returns the status.
func (s *coroutine) next() (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.clientContext.Err(); err != nil && s.yield == nil { // too late to begin
		return nil, status.FromContextError(err).Err()
	}
	m, ok := s.resume()
	switch {
	case ok:
		return m, nil
	case s.err != nil:
		return nil, clientError(s.err)
	}
	return nil, io.EOF
}

// sendHeader hands over to a client that waits for the header.
func (s *coroutine) sendHeader() error { return s.SendMsg(nil) }

func (s *coroutine) SendMsg(m any) error {
	if !s.yield(m) {
		return context.Cause(s.context)
	}
	return nil
}

// clientStream is the client's side of a stream that NewStream opened.
type clientStream struct {
	*coroutine
	pending any // a message that came while the header was waited for
}

func (s *clientStream) Header() (metadata.MD, error) {
	for s.pending == nil && !s.transport.headerSent {
		m, err := s.next()
		if err != nil {
			break // RecvMsg tells
		}
		s.pending = m
	}
	return s.transport.header, nil
}

func (s *clientStream) RecvMsg(m any) error {
	for s.pending == nil {
		var err error
		if s.pending, err = s.next(); err != nil {
			return err
		}
	}
	defer func() { s.pending = nil }()
	return transfer(m, s.pending)
}

func (s *clientStream) SendMsg(m any) error      { s.request = m; return nil }
func (s *clientStream) CloseSend() error         { return nil }
func (s *clientStream) Context() context.Context { return s.clientContext }
func (s *clientStream) Trailer() metadata.MD     { return s.transport.trailer }

// transportStream holds what a handler says besides its messages. It implements
// grpc.ServerTransportStream, through which grpc.SetHeader finds it.
type transportStream struct {
	method          string
	sent            func() error // called when the header is sent; nil: nobody waits for it
	header, trailer metadata.MD
	headerSent      bool
}

func (t *transportStream) Method() string { return t.method }

func (t *transportStream) SetHeader(md metadata.MD) error {
	if t.headerSent {
		return fmt.Errorf("the header is sent already")
	}
	t.header = metadata.Join(t.header, md)
	return nil
}

func (t *transportStream) SendHeader(md metadata.MD) error {
	if err := t.SetHeader(md); err != nil {
		return err
	}
	t.headerSent = true
	if t.sent != nil {
		return t.sent()
	}
	return nil
}

func (t *transportStream) SetTrailer(md metadata.MD) error {
	t.trailer = metadata.Join(t.trailer, md)
	return nil
}

// serverContext is the context that a handler gets: the client's deadline and
// cancellation, its metadata, and none of its values.
func serverContext(ctx context.Context, transport grpc.ServerTransportStream) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	values := metadata.NewIncomingContext(context.Background(), md)
	return &handlerContext{ctx, grpc.NewContextWithServerTransportStream(values, transport)}
}

// handlerContext ends with the client's context and has values of its own.
type handlerContext struct {
	context.Context
	values context.Context
}

func (c *handlerContext) Value(key any) any { return c.values.Value(key) }

// AfterFunc is what package context would need a goroutine for, as it does not
// find its own kind of context here.
func (c *handlerContext) AfterFunc(f func()) (stop func() bool) {
	return context.AfterFunc(c.Context, f)
}

// clientError is the status that err is on the other side of a connection.
func clientError(err error) error {
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	return status.FromContextError(err).Err()
}
