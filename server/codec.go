package server

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec "proto"
	"google.golang.org/grpc/mem"

	"github.com/sluice-sse/sluice/server/journal"
)

// encodedEvent is a CompletionEvent as the journal has it, in protobuf's wire
// form. A stream sends it in place of the message, so that an event is encoded
// once, whoever and however many read it.
//
// It implements encoding.BinaryMarshaler, by which codec and the in-process
// connection know it.
type encodedEvent journal.Entry

// MarshalBinary returns the event's bytes, which are shared: not to be changed.
func (e *encodedEvent) MarshalBinary() ([]byte, error) { return e.Data, nil }

// codec is gRPC's codec for protobuf, but that it sends events that are encoded
// already as they are, and leaves requests as they have come to the decoder.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2("proto")} }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if e, ok := v.(*encodedEvent); ok {
		return mem.BufferSlice{mem.SliceBuffer(e.Data)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if e, ok := v.(*rawRequest); ok {
		data.Ref()
		e.data = data
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}
