package bridge

import (
	"context"
	"io"
	"runtime"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge/http1"
)

// A directConn is a connection that runs a stream's handler on the caller's
// goroutine and pushes the events, all that are there at once: the in-process one.
// Then nothing needs to be handed from one goroutine to another between the journal and
// the socket.
type directConn interface {
	Stream(ctx context.Context, method string, request any, r interface {
		Header(metadata.MD)
		Receive(messages [][]byte) error
	}, opts ...grpc.CallOption) error
}

// pushed receives the events of a direct stream.
type pushed struct{ *response }

// push writes a stream's events as they come, until its end, and returns why that
// came.
func (s *response) push(ctx context.Context, conn directConn, c *call) error {
	growStack()
	if err := conn.Stream(ctx, c.method, c.take(), pushed{s}); err != nil {
		return err
	}
	return io.EOF
}

// growStack has the goroutine's stack grow to what the handler will need, as long as
// there is little on it: to move it from within the handler would take longer.
//
//go:noinline
func growStack() {
	var stack [4 << 10]byte
	runtime.KeepAlive(&stack)
}

// Header takes the completion's name.
func (p pushed) Header(md metadata.MD) { p.name(md) }

// Receive writes the blocks of events, in protobuf wire form, at once. Blocks before one
// that cannot be made are left for the end of the stream.
func (p pushed) Receive(events [][]byte) error {
	for _, wire := range events {
		if p.blocks == nil {
			p.blocks = http1.GetBuffer()
		}
		var err error
		if *p.blocks, err = p.encoder.append(*p.blocks, wire); err != nil {
			return err
		}
		if len(*p.blocks) >= maxGathered {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return p.flush()
}

// flush writes what has gathered.
func (p pushed) flush() error {
	if p.blocks == nil {
		return nil
	}
	err := p.write(*p.blocks)
	http1.PutBuffer(p.blocks)
	p.blocks = nil
	return err
}
