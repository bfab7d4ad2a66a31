package wirejson

import (
	"encoding/base64"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// appendSpecial appends the JSON of a well-known type that has a form of its own:
// https://protobuf.dev/programming-guides/json/.
func (w *Writer) appendSpecial(dst []byte, t *table, wire []byte) ([]byte, error) {
	switch t.special {
	case timestamp, duration:
		return appendTime(dst, t, wire)
	case wrapper:
		f := t.low[1]
		var v value
		if err := w.only(t, wire, &v); err != nil {
			return dst, err
		}
		return w.appendValue(dst, f, v)
	case structure:
		if len(wire) == 0 {
			return append(dst, "{}"...), nil
		}
		return w.appendAll(dst, t.low[1], wire, w.appendMap)
	case listValue:
		dst, err := w.appendAll(append(dst, '['), t.low[1], wire, w.appendItems)
		if last := len(dst) - 1; err == nil && dst[last] == ',' {
			dst = dst[:last]
		}
		return append(dst, ']'), err
	case dynamicValue:
		return w.appendDynamic(dst, t, wire)
	case anyMessage:
		return w.appendAny(dst, t, wire)
	}
	return dst, errUnusual
}

// appendAll appends the values of a repeated field that is all that a message has.
func (w *Writer) appendAll(dst []byte, f *field, wire []byte, appendValues func([]byte, *field, []byte) ([]byte, []byte, error)) ([]byte, error) {
	dst, rest, err := appendValues(dst, f, wire)
	if err == nil && len(rest) > 0 {
		err = errUnusual
	}
	return dst, err
}

// only reads a message that has no field above the number of values, and none twice.
func (w *Writer) only(t *table, wire []byte, values ...*value) error {
	seen := 0
	for len(wire) > 0 {
		number, wireType, n := consumeTag(wire)
		if n < 0 || number > protoreflect.FieldNumber(len(values)) || seen&(1<<number) != 0 {
			return errUnusual
		}
		seen |= 1 << number
		v, m := t.low[number].consume(wireType, wire[n:])
		if m < 0 {
			return errUnusual
		}
		*values[number-1] = v
		wire = wire[n+m:]
	}
	return nil
}

// The times that JSON has a form for.
const (
	minTimestamp = -62135596800
	maxTimestamp = 253402300799
	maxDuration  = 315576000000
)

// appendTime appends a Timestamp or a Duration.
func appendTime(dst []byte, t *table, wire []byte) ([]byte, error) {
	var s, n value
	if err := (*Writer)(nil).only(t, wire, &s, &n); err != nil {
		return dst, err
	}
	seconds, nanos := int64(s.number), int64(int32(n.number))
	dst = append(dst, '"')
	if t.special == timestamp {
		if seconds < minTimestamp || seconds > maxTimestamp || nanos < 0 || nanos >= 1e9 {
			return dst, errUnusual
		}
		dst = time.Unix(seconds, nanos).UTC().AppendFormat(dst, "2006-01-02T15:04:05.000000000")
		return append(trimFraction(dst), `Z"`...), nil
	}
	if seconds < -maxDuration || seconds > maxDuration || nanos <= -1e9 || nanos >= 1e9 || seconds > 0 && nanos < 0 || seconds < 0 && nanos > 0 {
		return dst, errUnusual
	}
	if seconds < 0 || nanos < 0 {
		dst = append(dst, '-')
		seconds, nanos = -seconds, -nanos
	}
	dst = append(strconv.AppendInt(dst, seconds, 10), '.')
	for digit := int64(1e8); digit > 0; digit /= 10 {
		dst = append(dst, byte('0'+nanos/digit%10))
	}
	return append(trimFraction(dst), `s"`...), nil
}

// trimFraction leaves 9, 6, 3 or no digits of a fraction that has 9.
func trimFraction(dst []byte) []byte {
	for range 3 {
		if n := len(dst) - 3; string(dst[n:]) == "000" {
			dst = dst[:n]
			continue
		}
		return dst
	}
	return dst[:len(dst)-1]
}

// appendDynamic appends a google.protobuf.Value.
func (w *Writer) appendDynamic(dst []byte, t *table, wire []byte) ([]byte, error) {
	if len(wire) == 0 {
		return dst, errUnusual
	}
	number, wireType, n := consumeTag(wire)
	f := t.field(number)
	if n < 0 || f == nil {
		return dst, errUnusual
	}
	v, m := f.consume(wireType, wire[n:])
	if m < 0 || n+m != len(wire) {
		return dst, errUnusual
	}
	if d := math.Float64frombits(v.number); f.kind == protoreflect.DoubleKind && (math.IsNaN(d) || math.IsInf(d, 0)) {
		return dst, errUnusual
	}
	return w.appendValue(dst, f, v)
}

// appendAny appends an Any, with the message in it if its type is known.
func (w *Writer) appendAny(dst []byte, t *table, wire []byte) ([]byte, error) {
	var typeURL, content value
	if err := w.only(t, wire, &typeURL, &content); err != nil {
		return dst, err
	}
	if len(typeURL.bytes) == 0 && len(content.bytes) == 0 {
		return append(dst, "{}"...), nil
	}
	if len(typeURL.bytes) == 0 || !utf8.Valid(typeURL.bytes) {
		return dst, errUnusual
	}
	dst = sse.AppendQuoted(append(dst, `{"@type":`...), typeURL.bytes)
	known, err := w.types.resolver.FindMessageByURL(string(typeURL.bytes))
	if err != nil {
		dst = base64.StdEncoding.AppendEncode(append(dst, `,"@value":"`...), content.bytes)
		return append(dst, `"}`...), nil
	}
	if w.anys++; w.anys > maxAnys {
		return dst, errTooMuch
	}
	defer func() { w.anys-- }()
	in := w.types.table(known.Descriptor())
	if in.special == none {
		dst, _, err = w.appendFields(append(dst, ','), in, content.bytes, 0)
		return dst, err
	}
	if dst, err = w.appendMessage(append(dst, `,"value":`...), in, content.bytes); err != nil {
		return dst, err
	}
	return append(dst, '}'), nil
}
