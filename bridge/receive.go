package bridge

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec "proto"
	"google.golang.org/grpc/mem"

	"github.com/sluice-sse/sluice/bridge/sse"
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

// call is a stream to be opened on the server.
type call struct {
	method string
	begun  bool // the client has had events of it: it goes on with a stream
	open   func(context.Context, ...grpc.CallOption) (grpc.ClientStream, error)
}

// feed is what lies between the goroutine that receives events and the one that
// writes them: the blocks that have gathered, and how the stream ended.
//
// It implements encoding.BinaryUnmarshaler, as which the events come from the
// connection: a received event goes from the connection's buffer into the block,
// with no message in between.
type feed struct {
	bridge *Bridge

	// Each holds at most one signal.
	news  chan struct{} // there is something to take
	space chan struct{} // there is room again

	mu       sync.Mutex // guards all below
	id       string     // the completion's, once the server has named it
	blocks   *[]byte    // from the pool, or nil when there is none
	last     int32      // the sequence of the last event received
	begun    bool       // an event was received
	retry    bool       // a drain's retry was sent
	terminal bool       // the last event was the terminal one
	done     bool       // nothing follows
	err      error      // once done: why, if not because of the stream's end
}

// maxGathered is how many bytes of blocks may gather before the receiver waits
// for the writer, and the server's stream with it.
const maxGathered = 64 << 10

// buffers holds the buffers of feeds, so that a stream that waits has none.
var buffers = sync.Pool{New: func() any { return new(make([]byte, 0, 4<<10)) }}

func newFeed(b *Bridge, last int32) *feed {
	return &feed{bridge: b, last: last, news: make(chan struct{}, 1), space: make(chan struct{}, 1)}
}

// receive feeds f with a stream's events until its end. It is a goroutine of its
// own, which the end of ctx ends.
func (f *feed) receive(ctx context.Context, c call) {
	stream, err := c.open(ctx, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		f.finish(err)
		return
	}
	if md, err := stream.Header(); err == nil && len(md) > 0 {
		// The id goes into headers and blocks as it is: not one that breaks them.
		if id := completionID(md); validID(id) {
			f.mu.Lock()
			f.id = id
			f.mu.Unlock()
		}
	}
	for f.wait(ctx) {
		if err := stream.RecvMsg(f); err != nil {
			f.finish(err)
			return
		}
	}
	f.finish(context.Cause(ctx))
}

func validID(id string) bool {
	_, _, err := sse.ParseID(sse.FormatID(id, 0))
	return err == nil
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

var errNoID = errors.New("the server did not name the completion")

// UnmarshalBinary appends the block of an event, in protobuf wire form.
func (f *feed) UnmarshalBinary(wire []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.id == "" {
		return errNoID
	}
	if f.blocks == nil {
		f.blocks = buffers.Get().(*[]byte)
	}
	retry := firstRetry
	if f.begun {
		retry = 0
	}
	if !f.retry && f.bridge.draining.Load() {
		retry, f.retry = drainRetry(), true
	}
	var event sse.Event
	var err error
	if *f.blocks, event, err = sse.AppendEvent(*f.blocks, f.id, wire, retry); err != nil {
		return err // which ends the stream; blocks that came before are still good
	}
	f.begun, f.last, f.terminal = true, event.Sequence, event.Terminal
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

// state is what the writer knows of a feed when it has taken the blocks.
type state struct {
	id       string
	last     int32
	begun    bool
	terminal bool
	done     bool
	err      error
}

// take returns the blocks that have gathered, or nil, and the state. The blocks
// are then the caller's to release.
func (f *feed) take() (*[]byte, state) {
	f.mu.Lock()
	defer f.mu.Unlock()
	blocks := f.blocks
	f.blocks = nil
	if blocks != nil && len(*blocks) == 0 { // of an event that could not be read
		release(blocks)
		blocks = nil
	}
	signal(f.space)
	return blocks, f.state()
}

// look returns the state and leaves the blocks.
func (f *feed) look() state {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state()
}

func (f *feed) state() state {
	return state{f.id, f.last, f.begun, f.terminal, f.done, f.err}
}

// release gives a buffer back, if there is one.
func release(blocks *[]byte) {
	if blocks != nil && cap(*blocks) <= 2*maxGathered {
		*blocks = (*blocks)[:0]
		buffers.Put(blocks)
	}
}

// signal leaves a signal unless there is one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
