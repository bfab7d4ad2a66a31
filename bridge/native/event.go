// Package native is what a completion looks like over HTTP in this API's own words: its
// events as server-sent events, its errors as JSON.
//
// AppendEvent is the bridge's hot path: it turns an event in protobuf wire form
// into one whole block, without decoding it into a message and without
// allocating. It understands the encoding that Go's protobuf writes; whatever
// is unusual goes the long way, through proto and protojson, which also decide
// what is an error. Both ways give the same JSON value, but not the same bytes:
// the order of members and the escapes may differ.
//
// A block is
//
//	event: delta
//	data: {"sequence":7,"delta":{"text":" world"}}
//	id: cmpl_3UFEPZAB5HZZ4YHNHM5MFSISMT_7
//
// and a blank line.
//
// Caveats: the completion id and the body of an error go into the stream as they
// are, so a line end in one would be a line end of the stream. Their callers
// make sure that there is none.
package native

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// An Event is what the writer of a stream has to know of an event that it sends.
type Event struct {
	Sequence int32
	Terminal bool // nothing follows
}

// AppendEvent appends the block of an event to dst. The event is given as a
// CompletionEvent in protobuf wire form, and id is the completion's. A retry of
// a millisecond or more is sent along, in whole milliseconds, as the time that
// the client shall wait before it reconnects.
//
// It is an error when wire is not a valid CompletionEvent, or is one without a
// kind of event or with a sequence below 1. dst is then returned as it was.
func AppendEvent(dst []byte, id string, wire []byte, retry time.Duration) ([]byte, Event, error) {
	if out, sequence, ok := appendDeltaEvent(dst, id, wire, retry); ok {
		return out, Event{Sequence: sequence}, nil
	}
	out, event, err := appendProtoJSON(dst, wire)
	if err != nil {
		return dst, Event{}, err
	}
	out = sse.AppendRetry(out, retry)
	out = appendIDLine(out, id, event.Sequence)
	return append(out, '\n'), event, nil
}

// AppendError appends the block of an error to dst. The body is JSON and must
// hold no line end. The error has a sequence because it is the completion's
// terminal event. An empty id leaves the id line out: no completion is known, so
// there is nothing to come back to. For retry see AppendEvent.
func AppendError(dst []byte, id string, sequence int32, body []byte, retry time.Duration) []byte {
	dst = sse.AppendField(dst, "event", "error")
	dst = sse.AppendField(dst, "data", body)
	dst = sse.AppendRetry(dst, retry)
	if id != "" {
		dst = appendIDLine(dst, id, sequence)
	}
	return append(dst, '\n')
}

// appendProtoJSON appends the event and data lines of any event, with its JSON as protojson
// has it.
func appendProtoJSON(dst, wire []byte) ([]byte, Event, error) {
	var e completionv1.CompletionEvent
	if err := proto.Unmarshal(wire, &e); err != nil {
		return dst, Event{}, fmt.Errorf("decode event: %w", err)
	}
	m := e.ProtoReflect()
	kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("event"))
	if kind == nil {
		return dst, Event{}, errors.New("event of no known kind")
	}
	if e.Sequence < 1 {
		return dst, Event{}, fmt.Errorf("event with sequence %d", e.Sequence)
	}
	data, err := protojson.Marshal(&e)
	if err != nil {
		return dst, Event{}, fmt.Errorf("encode event: %w", err)
	}
	out := sse.AppendField(dst, "event", string(kind.Name()))
	out = append(out, "data: "...)
	// protojson puts in spaces at random, lest anyone rely on its bytes.
	if out, err = sse.AppendJSON(out, data); err != nil {
		return dst, Event{}, fmt.Errorf("compact event: %w", err)
	}
	return append(out, '\n'), Event{Sequence: e.Sequence, Terminal: e.GetFinished() != nil}, nil
}

func appendIDLine(dst []byte, id string, sequence int32) []byte {
	dst = append(dst, "id: "...)
	dst = appendID(dst, id, sequence)
	return append(dst, '\n')
}
