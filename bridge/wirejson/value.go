package wirejson

import (
	"encoding/base64"
	"math"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// value is one value of a field as the wire has it. The zero value is that of a field which
// is absent.
type value struct {
	number uint64
	bytes  []byte
}

// consume reads the value of a field behind its tag; of a group, nothing. It returns how
// long it is, which is negative if it is not as it should be.
func (f *field) consume(wireType protowire.Type, wire []byte) (v value, n int) {
	if wireType != f.wireType {
		return v, -1
	}
	switch wireType {
	case protowire.VarintType:
		if len(wire) > 0 && wire[0] < 0x80 {
			return value{number: uint64(wire[0])}, 1
		}
		v.number, n = protowire.ConsumeVarint(wire)
	case protowire.BytesType:
		v.bytes, n = protowire.ConsumeBytes(wire)
	case protowire.Fixed64Type:
		v.number, n = protowire.ConsumeFixed64(wire)
	case protowire.Fixed32Type:
		var short uint32
		short, n = protowire.ConsumeFixed32(wire)
		v.number = uint64(short)
	}
	return v, n
}

// appendValue appends the JSON of a value, but of a group.
func (w *Writer) appendValue(dst []byte, f *field, v value) ([]byte, error) {
	switch f.kind {
	case protoreflect.StringKind:
		if !utf8.Valid(v.bytes) {
			return dst, errUnusual
		}
		return sse.AppendQuoted(dst, v.bytes), nil
	case protoreflect.MessageKind:
		return w.appendMessage(dst, f.message, v.bytes)
	case protoreflect.BytesKind:
		dst = append(dst, '"')
		dst = base64.StdEncoding.AppendEncode(dst, v.bytes)
		return append(dst, '"'), nil
	case protoreflect.EnumKind:
		return w.appendEnum(dst, f, protoreflect.EnumNumber(int32(v.number))), nil
	case protoreflect.DoubleKind:
		return appendFloat(dst, math.Float64frombits(v.number), 64), nil
	case protoreflect.FloatKind:
		return appendFloat(dst, float64(math.Float32frombits(uint32(v.number))), 32), nil
	case protoreflect.BoolKind:
		return strconv.AppendBool(dst, v.number != 0), nil
	case protoreflect.GroupKind:
		return dst, errUnusual
	}
	return f.appendInteger(dst, v.number), nil
}

// appendInteger appends an integer as JSON: those of 64 bits are texts.
func (f *field) appendInteger(dst []byte, number uint64) []byte {
	switch f.kind {
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		return strconv.AppendInt(dst, int64(int32(number)), 10)
	case protoreflect.Sint32Kind:
		return strconv.AppendInt(dst, int64(int32(protowire.DecodeZigZag(number&math.MaxUint32))), 10)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return strconv.AppendUint(dst, uint64(uint32(number)), 10)
	}
	dst = append(dst, '"')
	switch f.kind {
	case protoreflect.Sint64Kind:
		dst = strconv.AppendInt(dst, protowire.DecodeZigZag(number), 10)
	case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		dst = strconv.AppendInt(dst, int64(number), 10)
	default:
		dst = strconv.AppendUint(dst, number, 10)
	}
	return append(dst, '"')
}

// appendEnum appends the name of a value, or its number if it has none.
func (w *Writer) appendEnum(dst []byte, f *field, number protoreflect.EnumNumber) []byte {
	if f.null {
		return append(dst, "null"...)
	}
	if uint(number) < uint(len(f.low)) {
		return append(dst, f.low[number]...)
	}
	if name := f.enum[number]; name != nil {
		return append(dst, name...)
	}
	w.Unknown = true
	return strconv.AppendInt(dst, int64(number), 10)
}

// appendFloat appends a number as encoding/json does, which protojson follows.
func appendFloat(dst []byte, n float64, bits int) []byte {
	switch {
	case math.IsNaN(n):
		return append(dst, `"NaN"`...)
	case math.IsInf(n, 1):
		return append(dst, `"Infinity"`...)
	case math.IsInf(n, -1):
		return append(dst, `"-Infinity"`...)
	}
	format := byte('f')
	if abs := math.Abs(n); abs != 0 && (bits == 64 && (abs < 1e-6 || abs >= 1e21) || bits == 32 && (float32(abs) < 1e-6 || float32(abs) >= 1e21)) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, n, format, -1, bits)
}
