package bridge

import (
	"context"
	"io"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"  // for the servers that send it
	_ "google.golang.org/grpc/encoding/proto" // registers the codec "proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/http1"
)

// inProcess is a connection that runs a stream's handler on the caller's goroutine and
// gives it all messages that are there at once. Then nothing needs to be handed from one
// goroutine to another between the journal and the socket.
type inProcess interface {
	Stream(ctx context.Context, method string, request any, r interface {
		Header(metadata.MD)
		Receive(messages [][]byte) error
	}, opts ...grpc.CallOption) error
}

// receive writes a stream's messages to a response as they come, until its end, and
// returns why that came: io.EOF for OK. The terminal message may be in rest, not written.
func receive(s *response, conn grpc.ClientConnInterface, c *streamCall) (rest *[]byte, ended error) {
	ctx, cancel := c.context(s.ctx)
	defer cancel()
	if direct, ok := conn.(inProcess); ok {
		growStack()
		if ended = direct.Stream(ctx, c.method, c.takeRequest(), s, grpc.Trailer(&s.trailer)); ended == nil {
			ended = io.EOF
		}
		return nil, ended
	}
	return receiveRemote(ctx, s, conn, c)
}

// context returns the context of the call. It is not that of the response, which says why
// the call has ended.
func (c *streamCall) context(ctx *http1.Context) (context.Context, context.CancelFunc) {
	if c.timeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, c.timeout)
}

// receiveRemote is receive for a connection that is not in this process.
func receiveRemote(ctx context.Context, s *response, conn grpc.ClientConnInterface, c *streamCall) (rest *[]byte, ended error) {
	r := &remote{response: s}
	r.changed.L = &r.mu
	defer r.await() // after a panic
	ended = r.receiveAll(ctx, conn, c)
	r.await()
	return r.pending, ended
}

// await waits for the goroutine that writes what is pending.
func (r *remote) await() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.writing {
		r.changed.Wait()
	}
}

// growStack has the goroutine's stack grow to what the handler will need, as long as
// there is little on it: to move it from within the handler would take longer.
//
//go:noinline
func growStack() {
	var stack [4 << 10]byte
	runtime.KeepAlive(&stack)
}

// remote receives a stream over a connection that only says when there is something,
// not whether more follows at once. The goroutine that receives writes a message
// that it had to wait for: nothing is gained by handing it over. Messages that come
// without a wait are buffered, and another goroutine writes the buffer, and lasts
// as long as there is something in it: when messages come as fast as they can, each
// costs 1.0 µs of the processor's time, and 3.2 when each is written by itself
// (BenchmarkContenders, FlatOut, the hop alone).
type remote struct {
	*response
	waitingSince time.Duration // as timing counts; 0: not known
	refused      error         // why a message could not be encoded, which ends the stream; grpc-go puts words around it

	mu      sync.Mutex // guards all below, and of the response encoder and terminal
	pending *[]byte    // what is encoded and nobody writes yet; nil: nothing
	writing bool       // there is a goroutine that writes what is pending
	changed sync.Cond  // one of these two has
}

// receiveAll receives messages until their end, and returns why that came.
func (r *remote) receiveAll(ctx context.Context, conn grpc.ClientConnInterface, c *streamCall) error {
	// In a goroutine of its own, whose deep stack goes when it ends: this one's would
	// stay as large for as long as the stream lasts.
	var stream grpc.ClientStream
	var err error
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		defer func() {
			if p := recover(); p != nil {
				err = fault(r.log, p)
			}
		}()
		stream, err = open(ctx, conn, c.method, c.takeRequest(), c.options)
	}()
	<-opened
	if err != nil {
		return err
	}
	if md, err := stream.Header(); err == nil {
		r.Header(md)
	}
	for r.waitingSince = r.timing.now(); !r.terminal; {
		if err := stream.RecvMsg(r); err != nil {
			if r.refused != nil { // there may be no trailer yet
				return r.refused
			}
			r.trailer = stream.Trailer()
			return err
		}
	}
	return io.EOF
}

// open sends the request of a stream.
func open(ctx context.Context, conn grpc.ClientConnInterface, method string, request proto.Message, options []grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method, append([]grpc.CallOption{grpc.ForceCodecV2(newCodec())}, options...)...)
	if err != nil {
		return nil, err
	}
	// io.EOF says that the stream is over already; RecvMsg says why.
	if err := stream.SendMsg(request); err != nil && err != io.EOF {
		return nil, err
	}
	return stream, stream.CloseSend()
}

// wireMessage is a message as it came.
type wireMessage []byte

// codec is gRPC's codec for protobuf, and gives a message to a remote as bytes: it goes
// from the connection's buffer into that of the response, with nothing in between.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*remote)
	if whole, is := v.(*wireMessage); is {
		*whole = data.Materialize()
		return nil
	}
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if len(data) == 1 {
		return r.receive(data[0].ReadOnlyData())
	}
	return r.receive(data.Materialize())
}

// receive encodes a message and sees that it will be written, but for the terminal one,
// which is left for the end of the stream. It waits while too much is pending.
func (r *remote) receive(wire []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil {
		r.pending = http1.GetBuffer()
	}
	if err := r.encode(r.pending, wire); err != nil {
		r.refused = err
		return err // which ends the stream; what came before is still good
	}
	if r.hasMore() {
		return r.flushPending()
	}
	switch {
	case r.writing, r.terminal:
		r.waitingSince = 0
	case r.hasWaited():
		buf := r.pending
		r.pending = nil
		err := r.write(*buf)
		http1.PutBuffer(buf)
		r.waitingSince = r.timing.now()
		return err
	default:
		r.writing = true
		go r.writePending()
	}
	for r.writing && r.pending != nil && len(*r.pending) >= maxBuffered {
		r.changed.Wait()
	}
	return nil
}

// flushPending writes what is pending and all that the encoder has more, once the other
// goroutine has written what came before.
func (r *remote) flushPending() error {
	buf := r.pending
	r.pending = nil // the other goroutine is not to take it: a heartbeat could follow
	defer http1.PutBuffer(buf)
	for r.writing {
		r.changed.Wait()
	}
	err := r.flush(buf)
	r.waitingSince = r.timing.now()
	return err
}

// noWait is how long a message is waited for that has been there already, at most: a
// handful of microseconds pass between two that are received one after the other.
const noWait = 20 * time.Microsecond

// hasWaited tells whether the message that has come had to be waited for: then it is all
// there is. The first one behind many does not count: more may follow.
func (r *remote) hasWaited() bool {
	since, now := r.waitingSince, r.timing.now()
	r.waitingSince = now
	return since != 0 && now-since >= noWait
}

// writePending writes what is pending until there is nothing, or nobody takes any more.
func (r *remote) writePending() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.pending != nil {
		buf := r.pending
		r.pending = nil
		r.changed.Signal()
		r.mu.Unlock()
		err := r.writeAlone(*buf)
		http1.PutBuffer(buf)
		r.mu.Lock()
		if err != nil {
			r.ctx.Cancel() // which ends the receiving
			break
		}
	}
	r.writing = false
	r.changed.Signal()
}

// writeAlone is write on a goroutine that nobody else recovers.
func (r *remote) writeAlone(buf []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault(r.log, p)
		}
	}()
	return r.write(buf)
}
