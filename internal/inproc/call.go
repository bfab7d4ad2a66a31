package inproc

import (
	"cmp"
	"context"
	"io"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// call is a call as its handler sees it, messages aside. It implements
// grpc.ServerTransportStream, as which grpc.SetHeader and the like find it.
type call struct {
	method string
	ctx    handlerContext
	cancel context.CancelFunc // ends ctx

	mu              sync.Mutex // guards all below; held while the receiver is called
	receiver        Receiver   // nil: the call is unary
	header, trailer metadata.MD
	headerSent      bool
	failed          error // what ends the call, whatever the handler returns
}

// begin makes the handler's context of the client's. It fails for a call that would not
// reach a server.
func (c *call) begin(client context.Context, method string, r Receiver) error {
	if client.Err() != nil {
		return clientError(client, nil)
	}
	md, err := outgoing(client)
	if err != nil {
		return err
	}
	c.method, c.receiver = method, r
	c.ctx.Context, c.cancel = context.WithCancel(client)
	values := metadata.NewIncomingContext(peerOf(client), md)
	c.ctx.values = grpc.NewContextWithServerTransportStream(values, c)
	return nil
}

func (c *call) Method() string { return c.method }

func (c *call) SetHeader(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.setHeader(md)
}

func (c *call) setHeader(md metadata.MD) error {
	if c.headerSent {
		return status.Error(codes.Internal, "the header is sent already")
	}
	if err := validate(md); err != nil {
		return err
	}
	c.header = metadata.Join(c.header, md)
	return nil
}

func (c *call) SendHeader(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.over(); err != nil {
		return err
	}
	if err := c.setHeader(md); err != nil {
		return err
	}
	c.sendHeader()
	return nil
}

// sendHeader sends the header, unless it is sent.
func (c *call) sendHeader() {
	if !c.headerSent {
		c.headerSent = true
		if c.receiver != nil {
			c.receiver.Header(c.header)
			c.header = nil // for as long as the stream lasts
		}
	}
}

func (c *call) SetTrailer(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trailer = metadata.Join(c.trailer, md)
	return nil
}

// send gives messages to the receiver.
func (c *call) send(messages [][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.over(); err != nil {
		return err
	}
	if !c.headerSent {
		c.sendHeader()
	}
	c.failed = c.receiver.Receive(messages)
	return c.failed
}

// over returns why nothing can be sent any more, or nil.
func (c *call) over() error {
	if c.failed != nil {
		return c.failed
	}
	if err := c.ctx.Context.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	return nil
}

// fail ends a call.
func (c *call) fail(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = cmp.Or(c.failed, err)
	return c.failed
}

// end is called when the handler has returned. From then on the receiver gets nothing,
// even of a goroutine that the handler has left behind.
func (c *call) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.header.Len() > 0 && c.ctx.Context.Err() == nil {
		c.sendHeader()
	}
	c.headerSent = true
	c.cancel()
}

// report fills in what call options ask for, and returns what has ended the call.
func (c *call) report(opts []grpc.CallOption) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, opt := range opts {
		switch o := opt.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = c.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = c.trailer
		}
	}
	return c.failed
}

// serverStream is the handler's side of a stream.
type serverStream struct {
	call
	handler grpc.StreamHandler // in the interceptors
	impl    any                // whose handler it is
	request any                // until the handler has taken it
}

// run runs the handler.
func (s *serverStream) run() error {
	defer s.end()
	return s.handler(s.impl, s)
}

func (s *serverStream) Context() context.Context { return &s.ctx }

func (s *serverStream) SetTrailer(md metadata.MD) { _ = s.call.SetTrailer(md) }

func (s *serverStream) RecvMsg(m any) error {
	request := s.request
	s.request = nil
	switch {
	case request == nil:
		return io.EOF
	case move(m, request):
		return nil
	}
	return copyMessage(m, request)
}

func (s *serverStream) SendMsg(m any) error {
	b, err := marshal(m)
	if err != nil {
		return s.fail(err)
	}
	return s.send([][]byte{b})
}

// SendBatch sends messages in protobuf wire form. They may be used again when it has
// returned.
func (s *serverStream) SendBatch(messages [][]byte) error { return s.send(messages) }

// addr is the address of both sides.
type addr struct{}

func (addr) Network() string { return "inproc" }
func (addr) String() string  { return "in-process" }

// callerKey is the key of a peer in a client's context.
type callerKey struct{}

// WithCaller returns a context for a client whose calls are somebody else's, who came by
// a connection of their own: that is the peer which handlers and interceptors see.
func WithCaller(ctx context.Context, caller *peer.Peer) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// peerOf returns a context with the peer of a client.
func peerOf(client context.Context) context.Context {
	if caller, ok := client.Value(callerKey{}).(*peer.Peer); ok {
		return peer.NewContext(context.Background(), caller)
	}
	return withPeer
}

// withPeer is what is the same in the contexts of all others.
var withPeer = peer.NewContext(context.Background(), &peer.Peer{Addr: addr{}, LocalAddr: addr{}})

// handlerContext is the context that a handler gets. It ends with the client's, or when
// the handler returns, and has none of its values: only the metadata comes over.
type handlerContext struct {
	context.Context
	values context.Context
}

// Value implements context.Context. Package context looks for its own kind of context by
// a key that is a *int. It finds the one below in a context that an interceptor has made
// of this one, too: else each context.AfterFunc there would need a goroutine.
func (c *handlerContext) Value(key any) any {
	if _, own := key.(*int); own {
		return c.Context.Value(key)
	}
	return c.values.Value(key)
}

// IsInProcess tells whether a handler's context is that of a call in this process.
func IsInProcess(ctx context.Context) bool {
	_, ok := grpc.ServerTransportStreamFromContext(ctx).(*call)
	return ok
}
