package wirejson

import (
	"bytes"
	"cmp"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// entry is one of a map.
type entry struct{ key, value value }

// appendMap appends the entries of a map that come one after the other as an object, in the
// order of the keys, and returns what follows them. Entries with the same key are unusual: the
// last counts, but all of them must be good.
func (w *Writer) appendMap(dst []byte, f *field, wire []byte) (out, rest []byte, err error) {
	if w.depth++; w.depth > maxDepth { // to protobuf, an entry is a message
		return dst, nil, errUnusual
	}
	start := len(w.entries)
	for len(wire) > 0 {
		number, wireType, n := consumeTag(wire)
		if n < 0 {
			return dst, nil, errUnusual
		}
		if number != f.number {
			break
		}
		content, m := protowire.ConsumeBytes(wire[n:])
		if wireType != protowire.BytesType || m < 0 {
			return dst, nil, errUnusual
		}
		e, ok := f.readEntry(content)
		if !ok {
			return dst, nil, errUnusual
		}
		if len(w.entries) == w.types.bounds.entries {
			return dst, nil, errTooMuch
		}
		w.entries = append(w.entries, e)
		wire = wire[n+m:]
	}
	slices.SortFunc(w.entries[start:], func(a, b entry) int { return f.key.compare(a.key, b.key) })
	dst = append(dst, '{')
	end := len(w.entries)
	for i := start; i < end; i++ { // by index: a map in a value moves the entries
		if i+1 < end && f.key.compare(w.entries[i].key, w.entries[i+1].key) == 0 {
			return dst, nil, errUnusual
		}
		if len(dst) > w.most {
			return dst, nil, errTooMuch
		}
		e := w.entries[i]
		if dst, err = w.appendKey(dst, f.key, e.key); err != nil {
			return dst, nil, err
		}
		if dst, err = w.appendValue(append(dst, ':'), f.value, e.value); err != nil {
			return dst, nil, err
		}
		dst = append(dst, ',')
	}
	w.entries = w.entries[:start]
	w.depth--
	return endObject(dst), wire, nil
}

// readEntry reads an entry of a map. One that has more in it than a key and a value is
// unusual.
func (f *field) readEntry(content []byte) (e entry, ok bool) {
	var hasKey, hasValue bool
	for len(content) > 0 {
		number, wireType, n := consumeTag(content)
		if n < 0 {
			return e, false
		}
		content = content[n:]
		switch {
		case number == 1 && !hasKey:
			e.key, n = f.key.consume(wireType, content)
			hasKey = true
		case number == 2 && !hasValue:
			e.value, n = f.value.consume(wireType, content)
			hasValue = true
		default:
			return e, false
		}
		if n < 0 {
			return e, false
		}
		content = content[n:]
	}
	// By default, an enum of proto2 is the first value that it has, and that may be any.
	return e, hasValue || f.value.kind != protoreflect.EnumKind
}

// appendKey appends the key of a map, which in JSON is a text.
func (w *Writer) appendKey(dst []byte, f *field, key value) ([]byte, error) {
	start := len(dst)
	dst, err := w.appendValue(dst, f, key)
	if err != nil || dst[start] == '"' {
		return dst, err
	}
	dst = append(dst, 0, '"')
	copy(dst[start+1:], dst[start:len(dst)-2])
	dst[start] = '"'
	return dst, nil
}

// compare orders the keys of a map.
func (f *field) compare(a, b value) int {
	switch f.kind {
	case protoreflect.StringKind:
		return bytes.Compare(a.bytes, b.bytes)
	case protoreflect.BoolKind:
		return cmp.Compare(protowire.EncodeBool(a.number != 0), protowire.EncodeBool(b.number != 0))
	case protoreflect.Int32Kind, protoreflect.Sfixed32Kind:
		return cmp.Compare(int32(a.number), int32(b.number))
	case protoreflect.Int64Kind, protoreflect.Sfixed64Kind:
		return cmp.Compare(int64(a.number), int64(b.number))
	case protoreflect.Sint32Kind:
		return cmp.Compare(int32(protowire.DecodeZigZag(a.number&0xffffffff)), int32(protowire.DecodeZigZag(b.number&0xffffffff)))
	case protoreflect.Sint64Kind:
		return cmp.Compare(protowire.DecodeZigZag(a.number), protowire.DecodeZigZag(b.number))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return cmp.Compare(uint32(a.number), uint32(b.number))
	}
	return cmp.Compare(a.number, b.number)
}
