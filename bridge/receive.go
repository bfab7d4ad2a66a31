package bridge

import (
	"context"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec "proto"
	"google.golang.org/grpc/mem"

	"github.com/sluice-sse/sluice/bridge/http1"
)

// codec is gRPC's codec for protobuf, and gives a received event to a feed as
// bytes.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*feed)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if len(data) == 1 {
		return f.append(data[0].ReadOnlyData())
	}
	return f.append(data.Materialize())
}

// waited is how long an event must have been waited for to be the only one there is.
const waited = 20 * time.Microsecond

// feed receives a stream over a connection that only says when there is something,
// not whether more follows at once. The goroutine that receives writes an event
// that it had to wait for: nothing is gained by handing it over. Events that come
// without a wait gather, and another goroutine writes what has gathered, and lasts
// as long as there is something.
//
// The events come to it from the codec: a received event goes from the connection's
// buffer into the block, with no message in between.
type feed struct {
	*response
	since time.Duration // when the waiting for an event began, since the bridge's start; 0: not known
	alone *[]byte       // what holds the event that came last, if it is alone

	mu      sync.Mutex // guards all below, and of the response encoder and blocks
	writing bool       // there is a goroutine that writes what gathers
	taken   sync.Cond  // it has taken that, or has ended
}

// gather writes a stream's events as they come, until its end, and returns why that
// came.
func (s *response) gather(ctx context.Context, conn grpc.ClientConnInterface, c *call) error {
	f := &feed{response: s}
	f.taken.L = &f.mu
	err := f.receive(ctx, conn, c)
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.writing {
		f.taken.Wait()
	}
	return err
}

// receive receives events until their end, and returns why that came.
func (f *feed) receive(ctx context.Context, conn grpc.ClientConnInterface, c *call) error {
	// In a goroutine of its own, whose deep stack goes when it ends: this one's would
	// stay as large for as long as the stream lasts.
	var stream grpc.ClientStream
	var err error
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		stream, err = open(ctx, conn, c)
	}()
	<-opened
	if err != nil {
		return err
	}
	if md, err := stream.Header(); err == nil {
		f.name(md)
	}
	for f.since = time.Since(f.bridge.start); !f.encoder.terminal; {
		if err := stream.RecvMsg(f); err != nil {
			return err
		}
		if f.alone == nil {
			continue
		}
		err := f.write(*f.alone)
		http1.PutBuffer(f.alone)
		f.alone = nil
		if err != nil {
			return err
		}
		f.since = time.Since(f.bridge.start)
	}
	return io.EOF
}

// open sends the request of a stream.
func open(ctx context.Context, conn grpc.ClientConnInterface, c *call) (grpc.ClientStream, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, c.method, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		return nil, err
	}
	// io.EOF says that the stream is over already; RecvMsg says why.
	if err := stream.SendMsg(c.take()); err != nil && err != io.EOF {
		return nil, err
	}
	return stream, stream.CloseSend()
}

// append appends the block of an event, in protobuf wire form. It sees that
// it will be written, but for the terminal one, which is left for the end of the
// stream, and waits while there is too much.
func (f *feed) append(wire []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blocks == nil {
		f.blocks = http1.GetBuffer()
	}
	var err error
	if *f.blocks, err = f.encoder.append(*f.blocks, wire); err != nil {
		return err // which ends the stream; blocks that came before are still good
	}
	switch {
	case f.writing, f.encoder.terminal:
		f.since = 0
	case f.waited():
		f.alone, f.blocks = f.blocks, nil
	default:
		f.writing = true
		go f.writeGathered()
	}
	for f.writing && f.blocks != nil && len(*f.blocks) >= maxGathered {
		f.taken.Wait()
	}
	return nil
}

// waited tells whether the event that has come had to be waited for. The first one
// behind many does not count: more may follow.
func (f *feed) waited() bool {
	since, now := f.since, time.Since(f.bridge.start)
	f.since = now
	return since != 0 && now-since >= waited
}

// writeGathered writes what has gathered until there is nothing, or nobody takes
// any more.
func (f *feed) writeGathered() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.blocks != nil {
		blocks := f.blocks
		f.blocks = nil
		f.taken.Signal()
		f.mu.Unlock()
		err := f.write(*blocks)
		http1.PutBuffer(blocks)
		f.mu.Lock()
		if err != nil {
			f.ctx.Cancel() // which ends the receiving
			break
		}
	}
	f.writing = false
	f.taken.Signal()
}
