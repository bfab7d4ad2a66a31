package native

import (
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// This file goes from protobuf wire form to proto3 JSON in one pass. It must
// never be wrong, but it may decline: every function here returns ok false for
// anything that it does not expect, and AppendEvent then goes the long way. It
// declines unknown fields, fields that come twice (they would be merged), wrong
// wire types, invalid UTF-8, enum values without a name, times that RFC 3339 does
// not have, and truncated input.

const (
	varint = byte(protowire.VarintType)
	length = byte(protowire.BytesType)
)

// The tags: field number and wire type. Each is one byte, as no number is above
// 15.
const (
	eventSequence = 1<<3 | varint
	eventCreated  = 2<<3 | length
	eventDelta    = 3<<3 | length
	eventFinished = 4<<3 | length

	createdID    = 1<<3 | length
	createdModel = 2<<3 | length
	createdTime  = 3<<3 | length

	timestampSeconds = 1<<3 | varint
	timestampNanos   = 2<<3 | varint

	deltaText      = 1<<3 | length
	deltaReasoning = 2<<3 | length
	deltaRefusal   = 3<<3 | length
	deltaToolCalls = 4<<3 | length

	toolCallIndex     = 1<<3 | varint
	toolCallID        = 2<<3 | length
	toolCallName      = 3<<3 | length
	toolCallArguments = 4<<3 | length

	finishedReason = 1<<3 | varint
	finishedUsage  = 2<<3 | length

	usagePromptTokens     = 1<<3 | varint
	usageCompletionTokens = 2<<3 | varint
	usageTotalTokens      = 3<<3 | varint
	usageReasoningTokens  = 4<<3 | varint
	usageCachedTokens     = 5<<3 | varint
)

// The first and the last second of RFC 3339: the years 1 and 9999.
const (
	minSeconds = -62135596800
	maxSeconds = 253402300799
)

// appendUsual appends the event and data lines of an event in the usual encoding.
func appendUsual(dst, wire []byte) (out []byte, event Event, ok bool) {
	var kind byte
	var body []byte
	s := scanner{rest: wire}
	for s.next() {
		switch {
		case s.tag == eventSequence:
			event.Sequence = int32(s.number)
		case kind == 0 && (s.tag == eventDelta || s.tag == eventFinished || s.tag == eventCreated):
			kind, body = s.tag, s.bytes
		default:
			return dst, event, false
		}
	}
	if s.unusual || event.Sequence < 1 {
		return dst, event, false
	}

	var name string
	var appendBody func(dst, wire []byte) ([]byte, bool)
	switch kind {
	case eventCreated:
		name, appendBody = "created", appendCreated
	case eventDelta:
		name, appendBody = "delta", appendDelta
	case eventFinished:
		name, appendBody = "finished", appendFinished
		event.Terminal = true
	default:
		return dst, event, false
	}
	dst = append(dst, "event: "...)
	dst = append(dst, name...)
	dst = append(dst, "\ndata: {\"sequence\":"...)
	dst = strconv.AppendInt(dst, int64(event.Sequence), 10)
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	dst, ok = appendBody(dst, body)
	return append(dst, "}\n"...), event, ok
}

// shortText takes apart what nearly all events are: a delta of nothing but a text,
// in less than 128 bytes, so that each length is one byte.
func shortText(wire []byte) (sequence int32, text []byte, ok bool) {
	if len(wire) == 0 || wire[0] != eventSequence {
		return 0, nil, false
	}
	number, n := protowire.ConsumeVarint(wire[1:])
	if n < 0 || int32(number) < 1 {
		return 0, nil, false
	}
	delta := wire[1+n:]
	if len(delta) < 5 || len(delta)-2 > 0x7f || delta[0] != eventDelta || int(delta[1]) != len(delta)-2 ||
		delta[2] != deltaText || int(delta[3]) != len(delta)-4 {
		return 0, nil, false
	}
	text = delta[4:]
	return int32(number), text, utf8.Valid(text)
}

// appendShortText appends the whole block of such an event. The digits of its sequence
// are made once, for the data and for the id.
func appendShortText(dst []byte, id string, sequence int32, text []byte) []byte {
	dst = append(dst, "event: delta\ndata: {\"sequence\":"...)
	start := len(dst)
	dst = strconv.AppendInt(dst, int64(sequence), 10)
	digits := dst[start:]
	dst = append(dst, `,"delta":{"text":`...)
	dst = sse.AppendQuoted(dst, text)
	dst = append(dst, "}}\nid: "...)
	dst = append(dst, id...)
	dst = append(dst, '_')
	dst = append(dst, digits...)
	return append(dst, "\n\n"...)
}

func appendCreated(dst, wire []byte) (out []byte, ok bool) {
	dst = append(dst, '{')
	s := scanner{rest: wire}
	for s.next() {
		switch s.tag {
		case createdID:
			dst, ok = appendText(dst, `"id":`, s.bytes)
		case createdModel:
			dst, ok = appendText(dst, `"model":`, s.bytes)
		case createdTime:
			dst, ok = appendTime(dst, `"createTime":`, s.bytes)
		default:
			return dst, false
		}
		if !ok {
			return dst, false
		}
	}
	return closeObject(dst), !s.unusual
}

// appendTime appends a member that is a Timestamp: RFC 3339, with 0, 3, 6 or 9
// digits of a second.
func appendTime(dst []byte, name string, wire []byte) (out []byte, ok bool) {
	var seconds, nanos int64
	s := scanner{rest: wire}
	for s.next() {
		switch s.tag {
		case timestampSeconds:
			seconds = int64(s.number)
		case timestampNanos:
			nanos = int64(int32(s.number))
		default:
			return dst, false
		}
	}
	if s.unusual || seconds < minSeconds || seconds > maxSeconds || nanos < 0 || nanos > 999_999_999 {
		return dst, false
	}
	layout := "2006-01-02T15:04:05.000000000Z"
	switch {
	case nanos == 0:
		layout = "2006-01-02T15:04:05Z"
	case nanos%1_000_000 == 0:
		layout = "2006-01-02T15:04:05.000Z"
	case nanos%1_000 == 0:
		layout = "2006-01-02T15:04:05.000000Z"
	}
	dst = append(append(dst, name...), '"')
	dst = time.Unix(seconds, nanos).UTC().AppendFormat(dst, layout)
	return append(dst, `",`...), true
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
			for ok && s.again() {
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

func appendFinished(dst, wire []byte) (out []byte, ok bool) {
	dst = append(dst, '{')
	s := scanner{rest: wire}
	for s.next() {
		switch s.tag {
		case finishedReason:
			dst, ok = appendFinishReason(dst, int32(s.number))
		case finishedUsage:
			dst = append(dst, `"usage":`...)
			dst, ok = appendUsage(dst, s.bytes)
			dst = append(dst, ',')
		default:
			return dst, false
		}
		if !ok {
			return dst, false
		}
	}
	return closeObject(dst), !s.unusual
}

func appendFinishReason(dst []byte, reason int32) (out []byte, ok bool) {
	if reason == 0 {
		return dst, true
	}
	name, ok := completionv1.Finished_FinishReason_name[reason]
	dst = append(dst, `"finishReason":"`...)
	dst = append(dst, name...)
	return append(dst, `",`...), ok
}

func appendUsage(dst, wire []byte) (out []byte, ok bool) {
	dst = append(dst, '{')
	s := scanner{rest: wire}
	for s.next() {
		switch s.tag {
		case usagePromptTokens:
			dst = appendCount(dst, `"promptTokens":`, s.number)
		case usageCompletionTokens:
			dst = appendCount(dst, `"completionTokens":`, s.number)
		case usageTotalTokens:
			dst = appendCount(dst, `"totalTokens":`, s.number)
		case usageReasoningTokens:
			dst = appendCount(dst, `"reasoningTokens":`, s.number)
		case usageCachedTokens:
			dst = appendCount(dst, `"cachedTokens":`, s.number)
		default:
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

// appendCount appends a member that is an int32, or nothing for 0. An int32 is
// the low half of what is on the wire.
func appendCount(dst []byte, name string, number uint64) []byte {
	if int32(number) == 0 {
		return dst
	}
	dst = append(dst, name...)
	dst = strconv.AppendInt(dst, int64(int32(number)), 10)
	return append(dst, ',')
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
	return s.take()
}

// again moves on to the next field if it is another of the same repeated field.
func (s *scanner) again() bool {
	return len(s.rest) > 0 && s.rest[0] == s.tag && s.take()
}

func (s *scanner) take() bool {
	var n int
	switch s.tag & 7 {
	case varint:
		s.number, n = protowire.ConsumeVarint(s.rest[1:])
	case length:
		s.bytes, n = protowire.ConsumeBytes(s.rest[1:])
	default:
		n = -1
	}
	if n < 0 {
		s.unusual = true
		return false
	}
	s.rest = s.rest[1+n:]
	return true
}
