package server

import (
	"context"
	"slices"

	"google.golang.org/grpc"

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

// streamReader sends a completion's events over a stream.
type streamReader struct {
	stream grpc.ServerStream
	id     string
	batch  [][]byte // used again
}

// newStreamReader returns a reader to whom a method with such a request streams.
func newStreamReader[Request any](stream grpc.ServerStreamingServer[completionv1.CompletionEvent], id string) *streamReader {
	r := &streamReader{stream: stream, id: id}
	if wrapped, ok := stream.(*grpc.GenericServerStream[Request, completionv1.CompletionEvent]); ok {
		r.stream = wrapped.ServerStream // generated code hides SendBatch, too
	}
	return r
}

// begin sends the header at once, not with the first event: the reader may want to
// come back, or to cancel, before there is one.
func (r *streamReader) begin(context.Context) error { return r.stream.SendHeader(completionID(r.id)) }

func (r *streamReader) receive(entries []journal.Entry) error {
	if batches, ok := r.stream.(BatchSender); ok {
		return r.sendBatch(batches, entries)
	}
	for i := range entries {
		if err := r.stream.SendMsg((*encodedEvent)(&entries[i])); err != nil {
			return err
		}
	}
	return nil
}

func (r *streamReader) sendBatch(to BatchSender, entries []journal.Entry) error {
	batch := slices.Grow(r.batch[:0], len(entries))
	for _, e := range entries {
		batch = append(batch, e.Data)
	}
	if cap(batch) <= 2*maxAdvance { // the stream may wait for long
		r.batch = batch
	}
	return to.SendBatch(batch)
}
