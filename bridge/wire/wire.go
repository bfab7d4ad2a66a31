// Package wire reads completion events in protobuf wire form, without decoding them into
// messages and without allocating: for the faces, which have to write each in another
// form.
//
// It must never be wrong, but it may decline: what it does not expect, it does not
// read, and the face then goes the long way, through proto. It declines all events but
// deltas, of which there are many, fields that come twice (they would be merged), wrong
// wire types, and truncated input. Strings are as they are, valid UTF-8 or not.
package wire

import "google.golang.org/protobuf/encoding/protowire"

const (
	varint = byte(protowire.VarintType)
	length = byte(protowire.BytesType)
)

// The tags: field number and wire type. Each is one byte, as no number is above
// 15.
const (
	eventSequence = 1<<3 | varint
	eventDelta    = 3<<3 | length

	DeltaText      = 1<<3 | length
	DeltaReasoning = 2<<3 | length
	DeltaRefusal   = 3<<3 | length
	DeltaToolCalls = 4<<3 | length

	ToolCallIndex     = 1<<3 | varint
	ToolCallID        = 2<<3 | length
	ToolCallName      = 3<<3 | length
	ToolCallArguments = 4<<3 | length
)

// SplitDelta takes an event that is a delta apart, in the usual encoding: its sequence
// comes first, then the delta.
func SplitDelta(event []byte) (sequence int32, delta []byte, ok bool) {
	if len(event) == 0 || event[0] != eventSequence {
		return 0, nil, false
	}
	number, n := protowire.ConsumeVarint(event[1:])
	if n < 0 || int32(number) < 1 {
		return 0, nil, false
	}
	rest := event[1+n:]
	if len(rest) == 0 || rest[0] != eventDelta {
		return 0, nil, false
	}
	delta, n = protowire.ConsumeBytes(rest[1:])
	return int32(number), delta, n == len(rest)-1
}

// A Scanner goes through the fields of one message.
type Scanner struct {
	Rest   []byte // what is still to be read
	Tag    byte
	Number uint64 // of a varint field
	Bytes  []byte // of a length-delimited field

	seen    uint16 // a bit for each field number so far
	Unusual bool   // why Next returned false, if not for the end
}

// Next moves on to the next field. It stops at the end, and at what is unusual.
func (s *Scanner) Next() bool {
	if len(s.Rest) == 0 {
		return false
	}
	// The first byte of a longer tag is taken for a tag that no message has.
	s.Tag = s.Rest[0]
	bit := uint16(1) << (s.Tag >> 3)
	if s.seen&bit != 0 {
		s.Unusual = true
		return false
	}
	s.seen |= bit
	return s.readValue()
}

// NextSame moves on to the next field if it is another of the same repeated field.
func (s *Scanner) NextSame() bool {
	return len(s.Rest) > 0 && s.Rest[0] == s.Tag && s.readValue()
}

// readValue reads the value of the field whose tag is next.
func (s *Scanner) readValue() bool {
	value, n := s.Rest[1:], -1
	switch s.Tag & 7 {
	case varint:
		s.Number, n = protowire.ConsumeVarint(value)
	case length:
		if len(value) > 0 && value[0] < 0x80 && int(value[0]) < len(value) {
			n = 1 + int(value[0])
			s.Bytes = value[1:n]
		} else {
			s.Bytes, n = protowire.ConsumeBytes(value)
		}
	}
	if n < 0 {
		s.Unusual = true
		return false
	}
	s.Rest = value[n:]
	return true
}
