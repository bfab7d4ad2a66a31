package wirejson

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// AppendField appends the JSON of one field of a message, or of what it is by default.
func (w *Writer) AppendField(dst, wire []byte, number protoreflect.FieldNumber) (out []byte, err error) {
	fd := w.table.md.Fields().ByNumber(number)
	if cap(w.part) > maxKeptPart {
		w.part = nil
	}
	if w.part, err = onlyField(w.part[:0], wire, fd); err != nil {
		return dst, err
	}
	start := len(dst)
	if out, err = w.Append(dst, w.part); err != nil {
		return dst, err
	}
	if object := out[start:]; len(object) > len("{}") {
		return out[:start+copy(object, onlyMember(object))], nil
	}
	return w.appendDefault(out[:start], fd)
}

// onlyField appends what a message has of a field. Of a oneof, only what comes last is
// there.
func onlyField(dst, wire []byte, fd protoreflect.FieldDescriptor) ([]byte, error) {
	start := len(dst)
	oneof := fd.ContainingOneof()
	for len(wire) > 0 {
		number, _, n := protowire.ConsumeField(wire)
		switch {
		case n < 0:
			return dst, protowire.ParseError(n)
		case number == fd.Number():
			dst = append(dst, wire[:n]...)
		case oneof != nil && oneof.Fields().ByNumber(number) != nil:
			dst = dst[:start]
		}
		wire = wire[n:]
	}
	return dst, nil
}

// onlyMember returns the value of an object's only member.
func onlyMember(object []byte) []byte {
	i := len(`{"`)
	for ; object[i] != '"'; i++ {
		if object[i] == '\\' {
			i++
		}
	}
	return object[i+len(`":`) : len(object)-len("}")]
}

// appendDefault appends what a field is that is absent.
func (w *Writer) appendDefault(dst []byte, fd protoreflect.FieldDescriptor) ([]byte, error) {
	switch {
	case fd.IsMap(), fd.Message() != nil && !fd.IsList() && !hasOwnForm(fd.Message()):
		return append(dst, "{}"...), nil
	case fd.IsList():
		return append(dst, "[]"...), nil
	case fd.Message() != nil, fd.Kind() == 0: // or nobody knows what
		return append(dst, "null"...), nil
	}
	return w.appendValue(dst, w.types.compileField(fd), valueOf(fd.Kind(), fd.Default()))
}

// valueOf returns a scalar as the wire has it.
func valueOf(kind protoreflect.Kind, v protoreflect.Value) value {
	switch kind {
	case protoreflect.BoolKind:
		return value{number: protowire.EncodeBool(v.Bool())}
	case protoreflect.EnumKind:
		return value{number: uint64(v.Enum())}
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind, protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return value{number: uint64(v.Int())}
	case protoreflect.Sint32Kind, protoreflect.Sint64Kind:
		return value{number: protowire.EncodeZigZag(v.Int())}
	case protoreflect.FloatKind:
		return value{number: uint64(math.Float32bits(float32(v.Float())))}
	case protoreflect.DoubleKind:
		return value{number: math.Float64bits(v.Float())}
	case protoreflect.StringKind:
		return value{bytes: []byte(v.String())}
	case protoreflect.BytesKind:
		return value{bytes: v.Bytes()}
	}
	return value{number: v.Uint()}
}
