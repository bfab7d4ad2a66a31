package bridge

import (
	"context"
	"io"
	"net/http"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec "proto"
	"google.golang.org/grpc/mem"
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
		return f.UnmarshalBinary(data[0].ReadOnlyData())
	}
	return f.UnmarshalBinary(data.Materialize())
}

// feed receives a stream over a connection that only says when there is something,
// not whether more follows at once. So one goroutine receives, and what gathers
// while another writes goes out with the next write.
//
// It implements encoding.BinaryUnmarshaler, as which the events come from the
// connection: a received event goes from the connection's buffer into the block,
// with no message in between.
type feed struct {
	// Each holds at most one signal.
	news  chan struct{} // there is something to take
	space chan struct{} // there is room again

	mu      sync.Mutex // guards all below
	encoder encoder
	blocks  *[]byte // from the pool, or nil when there is none
	done    bool    // nothing follows
	err     error   // once done: why; io.EOF for the stream's end
}

// gather writes a stream's events as they come, until its end. It returns why that
// came, and what has not been written by then.
func (s *response) gather(ctx context.Context, conn grpc.ClientConnInterface, c call, e encoder) (encoder, *[]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := &feed{encoder: e, news: make(chan struct{}, 1), space: make(chan struct{}, 1)}
	var receiving sync.WaitGroup
	receiving.Go(func() { f.receive(ctx, conn, c) })
	defer receiving.Wait()
	defer cancel()
	for {
		select {
		case <-f.news:
		case <-ctx.Done():
			panic(http.ErrAbortHandler)
		}
		blocks, e, done, err := f.take()
		if done || e.terminal {
			return e, blocks, err
		}
		s.name(e.id)
		if blocks != nil {
			err := s.write(*blocks)
			release(blocks)
			if err != nil {
				return e, nil, err
			}
		}
	}
}

// receive feeds f with a stream's events until its end. It is a goroutine of its
// own, which the end of ctx ends.
func (f *feed) receive(ctx context.Context, conn grpc.ClientConnInterface, c call) {
	stream, err := open(ctx, conn, c)
	if err != nil {
		f.finish(err)
		return
	}
	if md, err := stream.Header(); err == nil {
		f.mu.Lock()
		f.encoder.header(md)
		f.mu.Unlock()
		signal(f.news)
	}
	for f.wait(ctx) {
		if err := stream.RecvMsg(f); err != nil {
			f.finish(err)
			return
		}
	}
	f.finish(context.Cause(ctx))
}

// open sends the request of a stream.
func open(ctx context.Context, conn grpc.ClientConnInterface, c call) (grpc.ClientStream, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, c.method, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		return nil, err
	}
	// io.EOF says that the stream is over already; RecvMsg says why.
	if err := stream.SendMsg(c.request); err != nil && err != io.EOF {
		return nil, err
	}
	return stream, stream.CloseSend()
}

// wait waits until there is room for more, and reports false when ctx is done.
func (f *feed) wait(ctx context.Context) bool {
	for {
		f.mu.Lock()
		full := f.blocks != nil && len(*f.blocks) >= maxGathered
		f.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-f.space:
		case <-ctx.Done():
			return false
		}
	}
}

// UnmarshalBinary appends the block of an event, in protobuf wire form.
func (f *feed) UnmarshalBinary(wire []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.blocks == nil {
		f.blocks = buffers.Get().(*[]byte)
	}
	var err error
	if *f.blocks, err = f.encoder.append(*f.blocks, wire); err != nil {
		return err // which ends the stream; blocks that came before are still good
	}
	signal(f.news)
	return nil
}

// finish notes that nothing follows.
func (f *feed) finish(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done, f.err = true, err
	signal(f.news)
}

// take returns the blocks that have gathered, or nil, and how the stream stands.
// The blocks are then the caller's to release.
func (f *feed) take() (blocks *[]byte, e encoder, done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	blocks, f.blocks = f.blocks, nil
	signal(f.space)
	return blocks, f.encoder, f.done, f.err
}

// signal leaves a signal unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
