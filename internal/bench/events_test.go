package bench

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/encoding/protowire"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// serveEvents is a gRPC server with one method, ResumeCompletion. Its events are
// made in wire form, so that it does not hold up the bridge that it feeds.
func serveEvents(g *testbed.Gate, _ []string) error {
	s := grpc.NewServer(grpc.ForceServerCodecV2(wireCodec{encoding.GetCodecV2("proto")}))
	completionv1.RegisterCompletionServiceServer(s, &eventServer{gate: g})
	reflection.Register(s)
	return testbed.Serve(s.Serve)
}

type eventServer struct {
	completionv1.UnimplementedCompletionServiceServer
	gate *testbed.Gate
}

// wireEvent is a CompletionEvent in protobuf's wire form.
type wireEvent []byte

// wireCodec sends a *wireEvent as it is.
type wireCodec struct{ encoding.CodecV2 }

func (c wireCodec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*wireEvent); ok {
		return mem.BufferSlice{mem.SliceBuffer(*e)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// The fields of a CompletionEvent.
const (
	fieldSequence = 1
	fieldDelta    = 3
	fieldFinished = 4
	fieldText     = 1 // of a delta
	fieldReason   = 1 // of finished
)

func (s *eventServer) ResumeCompletion(req *completionv1.ResumeCompletionRequest, stream grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
	p, err := testbed.ParsePace(req.GetId())
	if err != nil {
		return err
	}
	if err := stream.SendHeader(metadata.Pairs("completion-id", req.GetId())); err != nil {
		return err
	}
	sequence := uint64(0)
	send := func(field protowire.Number, message []byte) error {
		sequence++
		// The connection keeps the bytes until it has written them.
		e := make(wireEvent, 0, len(message)+16)
		e = protowire.AppendVarint(protowire.AppendTag(e, fieldSequence, protowire.VarintType), sequence)
		e = protowire.AppendBytes(protowire.AppendTag(e, field, protowire.BytesType), message)
		return stream.SendMsg(&e)
	}
	var text, delta []byte
	err = p.Play(stream.Context(), s.gate, func(number int) error {
		text = testbed.AppendToken(append(text[:0], ' '), number)
		delta = protowire.AppendBytes(protowire.AppendTag(delta[:0], fieldText, protowire.BytesType), text)
		return send(fieldDelta, delta)
	})
	if err != nil {
		return err
	}
	return send(fieldFinished, protowire.AppendVarint(protowire.AppendTag(nil, fieldReason, protowire.VarintType), uint64(completionv1.Finished_STOP)))
}
