package server

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/journal"
)

// BatchSender is a grpc.ServerStream that can send messages together which are there at
// once, in protobuf wire form: that of an in-process connection. The slice is the
// caller's again when SendBatch returns. An interceptor that wraps a stream, to change
// the context or to see the messages, hides it. Then each event is sent by SendMsg, as
// over any other connection: 50 ns more, and a write to the socket each.
type BatchSender interface {
	SendBatch(messages [][]byte) error
}

// WithContext returns a stream with another context, for an interceptor to hand on. It
// is a BatchSender if the given one is.
func WithContext(ctx context.Context, stream grpc.ServerStream) grpc.ServerStream {
	changed := &contextStream{stream, ctx}
	if batches, ok := stream.(BatchSender); ok {
		return &struct {
			*contextStream
			BatchSender
		}{changed, batches}
	}
	return changed
}

// contextStream is a stream with another context.
type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *contextStream) Context() context.Context { return s.ctx }

// streamReceiver sends a completion's events over a stream.
type streamReceiver struct {
	stream grpc.ServerStream
	header metadata.MD
	single [1][]byte // used again, as most batches are of one
}

// newStreamReceiver returns one for a method that has such a request.
func newStreamReceiver[Request any](stream grpc.ServerStreamingServer[completionv1.CompletionEvent], id string) *streamReceiver {
	r := &streamReceiver{stream: stream, header: completionID(id)}
	if wrapped, ok := stream.(*grpc.GenericServerStream[Request, completionv1.CompletionEvent]); ok {
		r.stream = wrapped.ServerStream // generated code hides SendBatch, too
	}
	return r
}

// begin sends the header at once, not with the first event: the reader may want to
// come back, or to cancel, before there is one.
func (r *streamReceiver) begin(context.Context) error {
	header := r.header
	r.header = nil // which is not needed for as long as the stream lasts
	return r.stream.SendHeader(header)
}

// receive sends events. The failure in which a completion ended is the stream's.
func (r *streamReceiver) receive(entries []journal.Entry) error {
	last := entries[len(entries)-1]
	if last.Kind != journal.Failed {
		return r.send(entries)
	}
	if err := r.send(entries[:len(entries)-1]); err != nil {
		return err
	}
	st, err := failedStatus(last)
	if err != nil {
		return err
	}
	return status.FromProto(st).Err()
}

func (r *streamReceiver) send(entries []journal.Entry) error {
	if batches, ok := r.stream.(BatchSender); ok && len(entries) > 0 {
		return r.sendBatch(batches, entries)
	}
	for i := range entries {
		if err := r.stream.SendMsg((*encodedEvent)(&entries[i])); err != nil {
			return err
		}
	}
	return nil
}

// messagePool has batches of more than one, which a stream that waits does not keep.
var messagePool = sync.Pool{New: func() any { return new([][]byte) }}

func (r *streamReceiver) sendBatch(to BatchSender, entries []journal.Entry) error {
	if len(entries) == 1 {
		r.single[0] = entries[0].Data
		return to.SendBatch(r.single[:])
	}
	batch := messagePool.Get().(*[][]byte)
	*batch = (*batch)[:0]
	for _, e := range entries {
		*batch = append(*batch, e.Data)
	}
	err := to.SendBatch(*batch)
	clear(*batch)
	messagePool.Put(batch)
	return err
}
