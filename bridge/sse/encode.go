package sse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Heartbeat keeps a silent stream alive. It may stand only between blocks.
//
// It is a comment with no blank line after it. The standard dispatches nothing
// at a blank line with no data before it, but clients do: an empty event in
// fetch-event-source, a JSON error in openai-python before 2.38
// (openai-python#2722). Without the blank line the comment is just the first
// line of the next block.
const Heartbeat = ": hb\n"

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
	if sequence, text, ok := shortText(wire); ok && retry <= 0 {
		return appendShortText(dst, id, sequence, text), Event{Sequence: sequence}, nil
	}
	out, event, ok := appendUsual(dst, wire)
	if !ok {
		var err error
		if out, event, err = appendUnusual(dst, wire); err != nil {
			return dst, Event{}, err
		}
	}
	out = appendRetry(out, retry)
	out = appendIDLine(out, id, event.Sequence)
	return append(out, '\n'), event, nil
}

// AppendError appends the block of an error to dst. The body is JSON and must
// hold no line end. The error has a sequence because it is the completion's
// terminal event. An empty id leaves the id line out: no completion is known, so
// there is nothing to come back to. For retry see AppendEvent.
func AppendError(dst []byte, id string, sequence int32, body []byte, retry time.Duration) []byte {
	dst = append(dst, "event: error\ndata: "...)
	dst = append(dst, body...)
	dst = append(dst, '\n')
	dst = appendRetry(dst, retry)
	if id != "" {
		dst = appendIDLine(dst, id, sequence)
	}
	return append(dst, '\n')
}

// appendUnusual appends the event and data lines of any event.
func appendUnusual(dst, wire []byte) ([]byte, Event, error) {
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
	// protojson puts in spaces at random, lest anyone rely on its bytes, and leaves
	// U+2028 as it is. encoding/json mends both, and leaves U+0085.
	if data, err = json.Marshal(json.RawMessage(data)); err != nil {
		return dst, Event{}, fmt.Errorf("compact event: %w", err)
	}

	data = bytes.ReplaceAll(data, []byte("\u0085"), []byte(`\u0085`))

	dst = append(dst, "event: "...)
	dst = append(dst, kind.Name()...)
	dst = append(dst, "\ndata: "...)
	dst = append(dst, data...)
	dst = append(dst, '\n')
	return dst, Event{Sequence: e.Sequence, Terminal: e.GetFinished() != nil}, nil
}

func appendRetry(dst []byte, retry time.Duration) []byte {
	ms := retry.Milliseconds()
	if ms <= 0 {
		return dst
	}
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, ms, 10)
	return append(dst, '\n')
}

func appendIDLine(dst []byte, id string, sequence int32) []byte {
	dst = append(dst, "id: "...)
	dst = appendID(dst, id, sequence)
	return append(dst, '\n')
}
