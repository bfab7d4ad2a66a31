// Package inproc is a gRPC connection between a client and services in the same
// process: no port, no TLS, no HTTP/2, no goroutine and no queue between the two
// sides. A handler runs on its caller's goroutine, within the interceptors that a
// grpc.Server would have.
//
// What a client, a handler and an interceptor can observe is what they would over a
// socket: deadlines, cancellation, metadata, statuses. The package's tests run over
// both. The exceptions are:
//
//   - A call returns when its handler does, not as soon as its context is done.
//   - Messages have no limit of size. One that protobuf could not encode, such as a
//     string that is not UTF-8, may pass.
//   - Call options other than grpc.Header and grpc.Trailer are ignored.
//   - Only unary and server-streaming methods can be called.
package inproc

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Conn is a client connection to the services that are registered on it, before its
// first use, as on a grpc.Server. Its calls are for many goroutines at once. The zero
// value has no services and no interceptors.
type Conn struct {
	// What calls run in, as with grpc.ChainUnaryInterceptor and
	// grpc.ChainStreamInterceptor: the first one is the outermost.
	UnaryInterceptors  []grpc.UnaryServerInterceptor
	StreamInterceptors []grpc.StreamServerInterceptor

	methods map[string]method[grpc.MethodDesc]
	streams map[string]method[grpc.StreamDesc]
}

// method is a method's description and what implements it.
type method[D any] struct {
	desc D
	impl any
}

// RegisterService implements grpc.ServiceRegistrar.
func (c *Conn) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if c.methods == nil {
		c.methods, c.streams = map[string]method[grpc.MethodDesc]{}, map[string]method[grpc.StreamDesc]{}
	}
	for _, m := range desc.Methods {
		c.methods["/"+desc.ServiceName+"/"+m.MethodName] = method[grpc.MethodDesc]{m, impl}
	}
	for _, s := range desc.Streams {
		if !s.ClientStreams {
			c.streams["/"+desc.ServiceName+"/"+s.StreamName] = method[grpc.StreamDesc]{s, impl}
		}
	}
}

// Invoke implements grpc.ClientConnInterface: it calls a unary method. The messages
// are copied.
func (c *Conn) Invoke(ctx context.Context, name string, request, reply any, opts ...grpc.CallOption) error {
	m, ok := c.methods[name]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown unary method %s", name)
	}
	call := &call{}
	if err := call.begin(ctx, name, nil); err != nil {
		return err
	}
	answer, err := c.unary(call, m, request)
	_ = call.report(opts)
	if failed := clientError(ctx, err); failed != nil {
		return failed
	}
	if err != nil {
		return status.Error(codes.Internal, "an error with the status OK, and no answer")
	}
	return copyMessage(reply, answer)
}

// unary runs a method's handler in the interceptors.
func (c *Conn) unary(call *call, m method[grpc.MethodDesc], request any) (any, error) {
	defer call.end()
	decode := func(m any) error { return copyMessage(m, request) }
	if len(c.UnaryInterceptors) == 0 {
		return m.desc.Handler(m.impl, &call.ctx, decode, nil)
	}
	return m.desc.Handler(m.impl, &call.ctx, decode, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		for _, intercept := range slices.Backward(c.UnaryInterceptors) {
			next := handler
			handler = func(ctx context.Context, req any) (any, error) { return intercept(ctx, req, info, next) }
		}
		return handler(ctx, req)
	})
}

// Receiver is what a stream is received by, on the caller's goroutine. It is an alias,
// so that who calls Stream need not import this package.
type Receiver = interface {
	// Header is called with the header when it is sent: once, before the first message,
	// and not at all if the stream ends with neither.
	Header(metadata.MD)

	// Receive is called with all messages that are there at once, in protobuf wire form,
	// which are shared: not to be changed, nor kept. After an error, which the handler
	// gets from its SendMsg, it is not called again.
	Receive(messages [][]byte) error
}

// Stream calls a server-streaming method. It returns nil at the stream's end, the error
// of the receiver if it had one, and else a status. The request is the handler's from
// then on: it may be large, and is not copied.
//
// The handler's stream has a method SendBatch(messages [][]byte) error besides SendMsg:
// it sends messages, in protobuf wire form, that are there at once. SendMsg sends a
// message that implements encoding.BinaryMarshaler as the bytes that this returns.
func (c *Conn) Stream(ctx context.Context, name string, request any, r Receiver, opts ...grpc.CallOption) error {
	s := &serverStream{request: request}
	if err := c.open(s, ctx, name, r); err != nil {
		return err
	}
	err := s.run()
	if failed := s.report(opts); failed != nil {
		return failed
	}
	return clientError(ctx, err)
}

// open begins a stream that is to be run. It is not part of Stream, which would have its
// frame on the stack for as long as the stream lasts.
func (c *Conn) open(s *serverStream, ctx context.Context, name string, r Receiver) error {
	m, ok := c.streams[name]
	if !ok {
		return status.Errorf(codes.Unimplemented, "unknown server-streaming method %s", name)
	}
	s.impl, s.handler = m.impl, m.desc.Handler
	if len(c.StreamInterceptors) > 0 {
		info := &grpc.StreamServerInfo{FullMethod: name, IsServerStream: true}
		for _, intercept := range slices.Backward(c.StreamInterceptors) {
			next := s.handler
			s.handler = func(srv any, ss grpc.ServerStream) error { return intercept(srv, ss, info, next) }
		}
	}
	return s.begin(ctx, name, r)
}

// NewStream implements grpc.ClientConnInterface, for the sake of generated clients,
// whose unary methods work. Streams are called by Stream.
func (c *Conn) NewStream(_ context.Context, _ *grpc.StreamDesc, name string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, status.Errorf(codes.Unimplemented, "call %s by Conn.Stream", name)
}

// clientError returns what a handler's error is on the other side of a connection. To
// a client whose context is done, that is the end.
func clientError(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		err = cause
	}
	if err == nil {
		return nil
	}
	if st, ok := status.FromError(err); ok {
		return st.Err()
	}
	return status.FromContextError(err).Err()
}
