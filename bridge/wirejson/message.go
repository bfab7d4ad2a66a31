package wirejson

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxDepth is how deep messages may be in messages, as protobuf has it.
const maxDepth = protowire.DefaultRecursionLimit

// appendMessage appends the JSON of a message.
func (w *Writer) appendMessage(dst []byte, t *table, wire []byte) ([]byte, error) {
	if w.depth++; w.depth > maxDepth {
		return dst, errUnusual
	}
	var err error
	if t.special != none {
		dst, err = w.appendSpecial(dst, t, wire)
	} else {
		dst, _, err = w.appendFields(append(dst, '{'), t, wire, 0)
	}
	w.depth--
	return dst, err
}

// appendFields appends the members of an object that has begun, and its end. They are those
// of a group, if it has a number, and then what follows it is returned.
func (w *Writer) appendFields(dst []byte, t *table, wire []byte, group protoreflect.FieldNumber) (out, rest []byte, err error) {
	var seen [maxBits / 64]uint64
	for len(wire) > 0 {
		number, wireType, n := consumeTag(wire)
		if n < 0 {
			return dst, nil, errUnusual
		}
		if len(dst) > w.most {
			return dst, nil, errTooMuch
		}
		if wireType == protowire.EndGroupType {
			if number != group {
				return dst, nil, errUnusual
			}
			return endObject(dst), wire[n:], nil
		}
		f := t.field(number)
		if f == nil {
			if wire, err = w.skip(t, number, wireType, wire[n:]); err != nil {
				return dst, nil, err
			}
			continue
		}
		if seen[f.bit/64]&(1<<(f.bit%64)) != 0 {
			return dst, nil, errUnusual
		}
		seen[f.bit/64] |= 1 << (f.bit % 64)
		if f.repeated {
			dst, wire, err = w.appendRepeated(dst, f, wire)
		} else {
			dst, wire, err = w.appendField(dst, f, wireType, wire[n:])
		}
		if err != nil {
			return dst, nil, err
		}
	}
	if group != 0 {
		return dst, nil, errUnusual
	}
	return endObject(dst), nil, nil
}

// endObject ends an object whose members each have a comma behind them.
func endObject(dst []byte) []byte {
	if last := len(dst) - 1; dst[last] == ',' {
		dst[last] = '}'
		return dst
	}
	return append(dst, '}')
}

// consumeTag reads a tag, most of which are one byte.
func consumeTag(wire []byte) (protoreflect.FieldNumber, protowire.Type, int) {
	if c := wire[0]; c < 0x80 && c >= 1<<3 {
		return protoreflect.FieldNumber(c >> 3), protowire.Type(c & 7), 1
	}
	number, wireType, n := protowire.ConsumeTag(wire)
	if number > protowire.MaxValidNumber { // which ConsumeTag lets through
		n = -1
	}
	return number, wireType, n
}

// skip skips the value of a field that the descriptor does not have.
func (w *Writer) skip(t *table, number protoreflect.FieldNumber, wireType protowire.Type, value []byte) (rest []byte, err error) {
	if t.md.ExtensionRanges().Has(number) {
		return nil, errUnusual
	}
	n := protowire.ConsumeFieldValue(number, wireType, value)
	if n < 0 {
		return nil, errUnusual
	}
	w.Unknown = true
	return value[n:], nil
}

// appendField appends a member with a field that has one value, and a comma.
func (w *Writer) appendField(dst []byte, f *field, wireType protowire.Type, value []byte) (out, rest []byte, err error) {
	v, n := f.consume(wireType, value)
	if n < 0 {
		return dst, nil, errUnusual
	}
	if f.implicit && v.number&f.mask == 0 && len(v.bytes) == 0 {
		return dst, value[n:], nil
	}
	dst = append(dst, f.name...)
	if f.kind == protoreflect.GroupKind {
		dst, rest, err = w.appendGroup(dst, f, value)
	} else {
		rest = value[n:]
		dst, err = w.appendValue(dst, f, v)
	}
	return append(dst, ','), rest, err
}

// appendGroup appends the JSON of a group, and returns what follows it.
func (w *Writer) appendGroup(dst []byte, f *field, value []byte) (out, rest []byte, err error) {
	if w.depth++; w.depth > maxDepth || f.message.special != none {
		return dst, nil, errUnusual
	}
	dst, rest, err = w.appendFields(append(dst, '{'), f.message, value, f.number)
	w.depth--
	return dst, rest, err
}

// appendRepeated appends a member with a list or a map, and a comma, or nothing for an empty
// one, and returns what follows it. The input begins with a tag.
func (w *Writer) appendRepeated(dst []byte, f *field, wire []byte) (out, rest []byte, err error) {
	before := len(dst)
	dst = append(dst, f.name...)
	if f.key != nil {
		dst, rest, err = w.appendMap(dst, f, wire)
		return append(dst, ','), rest, err
	}
	dst = append(dst, '[')
	begin := len(dst)
	if dst, rest, err = w.appendItems(dst, f, wire); err != nil {
		return dst, nil, err
	}
	if len(dst) == begin { // a packed one of nothing
		return dst[:before], rest, nil
	}
	dst[len(dst)-1] = ']'
	return append(dst, ','), rest, nil
}

// appendItems appends the values of a list that come one after the other, each with a comma.
func (w *Writer) appendItems(dst []byte, f *field, wire []byte) (out, rest []byte, err error) {
	for len(wire) > 0 {
		number, wireType, n := consumeTag(wire)
		if n < 0 {
			return dst, nil, errUnusual
		}
		if number != f.number || wireType == protowire.EndGroupType {
			break
		}
		if len(dst) > w.most {
			return dst, nil, errTooMuch
		}
		wire = wire[n:]
		if wireType == protowire.BytesType && f.wireType != protowire.BytesType {
			dst, wire, err = w.appendPacked(dst, f, wire)
		} else if f.kind == protoreflect.GroupKind && wireType == protowire.StartGroupType {
			dst, wire, err = w.appendGroup(dst, f, wire)
			dst = append(dst, ',')
		} else {
			var v value
			if v, n = f.consume(wireType, wire); n < 0 {
				return dst, nil, errUnusual
			}
			wire = wire[n:]
			dst, err = w.appendValue(dst, f, v)
			dst = append(dst, ',')
		}
		if err != nil {
			return dst, nil, err
		}
	}
	return dst, wire, nil
}

// appendPacked appends the values of a packed list, and returns what follows it.
func (w *Writer) appendPacked(dst []byte, f *field, wire []byte) (out, rest []byte, err error) {
	packed, n := protowire.ConsumeBytes(wire)
	if n < 0 || f.wireType == protowire.StartGroupType {
		return dst, nil, errUnusual
	}
	for len(packed) > 0 {
		v, n := f.consume(f.wireType, packed)
		if n < 0 {
			return dst, nil, errUnusual
		}
		packed = packed[n:]
		if len(dst) > w.most {
			return dst, nil, errTooMuch
		}
		if dst, err = w.appendValue(dst, f, v); err != nil {
			return dst, nil, err
		}
		dst = append(dst, ',')
	}
	return dst, wire[n:], nil
}
