package native

import (
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// This file goes from protobuf wire form to proto3 JSON in one pass. It must
// never be wrong, but it may decline: every function here returns ok false for
// anything that it does not expect, and AppendEvent then goes the long way. It
// declines all events but deltas, of which there are many, unknown fields, fields that
// come twice (they would be merged), wrong wire types, invalid UTF-8, and truncated
// input.

const (
	varint = byte(protowire.VarintType)
	length = byte(protowire.BytesType)
)

// The tags: field number and wire type. Each is one byte, as no number is above
// 15.
const (
	eventSequence = 1<<3 | varint
	eventDelta    = 3<<3 | length

	deltaText      = 1<<3 | length
	deltaReasoning = 2<<3 | length
	deltaRefusal   = 3<<3 | length
	deltaToolCalls = 4<<3 | length

	toolCallIndex     = 1<<3 | varint
	toolCallID        = 2<<3 | length
	toolCallName      = 3<<3 | length
	toolCallArguments = 4<<3 | length
)

// appendDeltaEvent appends the block of an event that is a delta, in the usual encoding.
func appendDeltaEvent(dst []byte, id string, wire []byte, retry time.Duration) (out []byte, sequence int32, ok bool) {
	sequence, delta, ok := splitDelta(wire)
	if !ok {
		return dst, 0, false
	}
	out = append(dst, "event: delta\ndata: {\"sequence\":"...)
	start := len(out)
	out = strconv.AppendInt(out, int64(sequence), 10)
	digits := out[start:]
	out = append(out, `,"delta":`...)
	if out, ok = appendDelta(out, delta); !ok {
		return dst, 0, false
	}
	out = append(out, "}\n"...)
	if retry > 0 {
		out = sse.AppendRetry(out, retry)
	}
	out = append(out, "id: "...)
	out = append(out, id...)
	out = append(out, '_')
	out = append(out, digits...)
	return append(out, "\n\n"...), sequence, true
}

// splitDelta takes such an event apart: its sequence comes first, then the delta.
func splitDelta(wire []byte) (sequence int32, delta []byte, ok bool) {
	if len(wire) == 0 || wire[0] != eventSequence {
		return 0, nil, false
	}
	number, n := protowire.ConsumeVarint(wire[1:])
	if n < 0 || int32(number) < 1 {
		return 0, nil, false
	}
	rest := wire[1+n:]
	if len(rest) == 0 || rest[0] != eventDelta {
		return 0, nil, false
	}
	delta, n = protowire.ConsumeBytes(rest[1:])
	return int32(number), delta, n == len(rest)-1
}

func appendDelta(dst, wire []byte) (out []byte, ok bool) {
	dst = append(dst, '{')
	s := scanner{rest: wire}
	for s.next() {
		switch s.tag {
		case deltaText:
			dst, ok = appendText(dst, `"text":`, s.bytes)
		case deltaReasoning:
			dst, ok = appendText(dst, `"reasoning":`, s.bytes)
		case deltaRefusal:
			dst, ok = appendText(dst, `"refusal":`, s.bytes)
		case deltaToolCalls:
			dst = append(dst, `"toolCalls":[`...)
			dst, ok = appendToolCall(dst, s.bytes)
			for ok && s.nextSame() {
				dst = append(dst, ',')
				dst, ok = appendToolCall(dst, s.bytes)
			}
			dst = append(dst, "],"...)
		default:
			return dst, false
		}
		if !ok {
			return dst, false
		}
	}
	return closeObject(dst), !s.unusual
}

func appendToolCall(dst, wire []byte) (out []byte, ok bool) {
	dst = append(dst, '{')
	s := scanner{rest: wire}
	for s.next() {
		switch s.tag {
		case toolCallIndex:
			// It has presence: 0 is the first call, unset is none said.
			dst = append(dst, `"index":`...)
			dst = strconv.AppendInt(dst, int64(int32(s.number)), 10)
			dst, ok = append(dst, ','), true
		case toolCallID:
			dst, ok = appendText(dst, `"id":`, s.bytes)
		case toolCallName:
			dst, ok = appendText(dst, `"name":`, s.bytes)
		case toolCallArguments:
			dst, ok = appendText(dst, `"arguments":`, s.bytes)
		default:
			return dst, false
		}
		if !ok {
			return dst, false
		}
	}
	return closeObject(dst), !s.unusual
}

// The members of an object are each followed by a comma; closeObject takes back
// the last one.
func closeObject(dst []byte) []byte {
	if last := len(dst) - 1; dst[last] == ',' {
		dst[last] = '}'
		return dst
	}
	return append(dst, '}')
}

// appendText appends a member that is a string, or nothing for an empty one.
func appendText(dst []byte, name string, text []byte) (out []byte, ok bool) {
	if len(text) == 0 {
		return dst, true
	}
	if !utf8.Valid(text) {
		return dst, false
	}
	dst = append(dst, name...)
	dst = sse.AppendQuoted(dst, text)
	return append(dst, ','), true
}

// A scanner goes through the fields of one message.
type scanner struct {
	rest   []byte
	tag    byte
	number uint64 // of a varint field
	bytes  []byte // of a length-delimited field

	seen    uint16 // a bit for each field number so far
	unusual bool   // why next returned false, if not for the end
}

// next moves on to the next field. It stops at the end, and at what is unusual.
func (s *scanner) next() bool {
	if len(s.rest) == 0 {
		return false
	}
	// The first byte of a longer tag is taken for a tag that no message has.
	s.tag = s.rest[0]
	bit := uint16(1) << (s.tag >> 3)
	if s.seen&bit != 0 {
		s.unusual = true
		return false
	}
	s.seen |= bit
	return s.readValue()
}

// nextSame moves on to the next field if it is another of the same repeated field.
func (s *scanner) nextSame() bool {
	return len(s.rest) > 0 && s.rest[0] == s.tag && s.readValue()
}

// readValue reads the value of the field whose tag is next.
func (s *scanner) readValue() bool {
	value, n := s.rest[1:], -1
	switch s.tag & 7 {
	case varint:
		s.number, n = protowire.ConsumeVarint(value)
	case length:
		if len(value) > 0 && value[0] < 0x80 && int(value[0]) < len(value) {
			n = 1 + int(value[0])
			s.bytes = value[1:n]
		} else {
			s.bytes, n = protowire.ConsumeBytes(value)
		}
	}
	if n < 0 {
		s.unusual = true
		return false
	}
	s.rest = value[n:]
	return true
}
