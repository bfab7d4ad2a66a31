package native

import (
	"strconv"
	"time"

	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/bridge/wire"
)

// This file goes from protobuf wire form to proto3 JSON in one pass. It declines what
// package wire declines, unknown fields and invalid UTF-8: every function here then
// returns ok false, and AppendEvent goes the long way.

// appendDeltaEvent appends the block of an event that is a delta, in the usual encoding.
func appendDeltaEvent(dst []byte, id string, event []byte, retry time.Duration) (out []byte, sequence int32, ok bool) {
	sequence, delta, ok := wire.SplitDelta(event)
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

func appendDelta(dst, message []byte) (out []byte, ok bool) {
	dst = append(dst, '{')
	s := wire.Scanner{Rest: message}
	for s.Next() {
		switch s.Tag {
		case wire.DeltaText:
			dst, ok = sse.AppendMember(dst, `"text":`, s.Bytes)
		case wire.DeltaReasoning:
			dst, ok = sse.AppendMember(dst, `"reasoning":`, s.Bytes)
		case wire.DeltaRefusal:
			dst, ok = sse.AppendMember(dst, `"refusal":`, s.Bytes)
		case wire.DeltaToolCalls:
			dst = append(dst, `"toolCalls":[`...)
			dst, ok = appendToolCall(dst, s.Bytes)
			for ok && s.NextSame() {
				dst = append(dst, ',')
				dst, ok = appendToolCall(dst, s.Bytes)
			}
			dst = append(dst, "],"...)
		default:
			return dst, false
		}
		if !ok {
			return dst, false
		}
	}
	return closeObject(dst), !s.Unusual
}

func appendToolCall(dst, message []byte) (out []byte, ok bool) {
	dst = append(dst, '{')
	s := wire.Scanner{Rest: message}
	for s.Next() {
		switch s.Tag {
		case wire.ToolCallIndex:
			// It has presence: 0 is the first call, unset is none said.
			dst = append(dst, `"index":`...)
			dst = strconv.AppendInt(dst, int64(int32(s.Number)), 10)
			dst, ok = append(dst, ','), true
		case wire.ToolCallID:
			dst, ok = sse.AppendMember(dst, `"id":`, s.Bytes)
		case wire.ToolCallName:
			dst, ok = sse.AppendMember(dst, `"name":`, s.Bytes)
		case wire.ToolCallArguments:
			dst, ok = sse.AppendMember(dst, `"arguments":`, s.Bytes)
		default:
			return dst, false
		}
		if !ok {
			return dst, false
		}
	}
	return closeObject(dst), !s.Unusual
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
