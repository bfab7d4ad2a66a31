package bridge

import (
	"context"
	"errors"
	"io"
	"math"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/native"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// follower reads the events of a completion for another purpose than to write them as they
// come.
type follower struct {
	event func(*completionv1.CompletionEvent) error // nil: only the header is read
	until func(md metadata.MD) (last int32)         // given the header, returns the sequence of the last event that is wanted; nil: all are
	leave context.CancelFunc
	id    string // of the completion, once the server has named it
	last  int32
	left  bool // there is all that is wanted
}

// Header takes the server's header.
func (f *follower) Header(md metadata.MD) {
	f.id, f.last = native.CompletionID(md), math.MaxInt32
	if f.until != nil {
		f.last = f.until(md)
	}
	if f.event == nil || f.last == 0 {
		f.leave()
		f.left = f.id != ""
	}
}

// errEnough ends the reading of a stream.
var errEnough = errors.New("there is all that is wanted")

// take takes an event.
func (f *follower) take(event *completionv1.CompletionEvent) error {
	if f.left || f.event == nil {
		return errEnough
	}
	if err := f.event(event); err != nil {
		return err
	}
	if f.left = event.GetSequence() >= f.last; f.left {
		f.leave()
		return errEnough
	}
	return nil
}

// Receive takes messages that are there at once.
func (f *follower) Receive(messages [][]byte) error {
	for _, wire := range messages {
		event := &completionv1.CompletionEvent{}
		if err := proto.Unmarshal(wire, event); err != nil {
			return err
		}
		if err := f.take(event); err != nil {
			return err
		}
	}
	return nil
}

// follow reads a stream of events to its end, or as far as the follower wants. It returns
// nil if that was all well.
func follow(ctx context.Context, conn grpc.ClientConnInterface, method string, request proto.Message, f *follower) error {
	ctx, f.leave = context.WithCancel(ctx)
	defer f.leave()
	err := f.call(ctx, conn, method, request)
	if err == io.EOF || f.left {
		return nil
	}
	return err
}

// call returns why the stream has ended: io.EOF for OK.
func (f *follower) call(ctx context.Context, conn grpc.ClientConnInterface, method string, request proto.Message) error {
	if direct, ok := conn.(inProcess); ok {
		if err := direct.Stream(ctx, method, request, f); err != nil {
			return err
		}
		return io.EOF
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	// io.EOF says that the stream is over already; RecvMsg says why.
	if err := stream.SendMsg(request); err != nil && err != io.EOF {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if md, err := stream.Header(); err == nil {
		f.Header(md)
	}
	for {
		event := &completionv1.CompletionEvent{}
		if err := stream.RecvMsg(event); err != nil {
			return err
		}
		if err := f.take(event); err != nil {
			return err
		}
	}
}
