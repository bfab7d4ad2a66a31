package wirejson

import (
	"errors"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A message can become very much: a byte is the number of an enum's value, whose name may
// be as long as its author likes, and an Any holds an Any, whose content protojson has twice
// in memory at each level. Servers of good will come nowhere near these.
const (
	maxSlow = 16 << 20 // how large a message is that goes the long way, where it takes a hundred times as much memory
	maxAnys = 32       // how deep Anys may be in Anys

	// What a Writer, which lasts as long as a stream, keeps the room for.
	maxKept     = 1 << 10  // entries of maps
	maxKeptPart = 64 << 10 // bytes of a message's field
)

// bounds are those that a test makes smaller.
type bounds struct {
	json    int // how many bytes of JSON a message may become
	entries int // how many entries the maps may have that are written at the same time
}

var usual = bounds{json: 256 << 20, entries: 1 << 20}

var errTooMuch = errors.New("it would become too much JSON")

// usage is what protojson may yet use for a message.
type usage struct {
	resolver Resolver
	left     int // bytes of JSON
}

// message takes off what a message becomes, which is so deep in messages and in Anys. It
// returns errTooMuch if that is more than is left. What else may be wrong with it, protojson
// finds.
func (u *usage) message(m protoreflect.Message, depth, anys int) (err error) {
	if u.left < 0 || depth > maxDepth {
		return errTooMuch
	}
	if m.Descriptor().FullName() == "google.protobuf.Any" {
		return u.any(m, depth, anys)
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		u.left -= len(fd.JSONName())
		switch {
		case fd.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, v protoreflect.Value) bool {
				u.left -= len(key.String())
				err = u.value(fd.MapValue(), v, depth, anys)
				return err == nil
			})
		case fd.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				err = u.value(fd, v.List().Get(i), depth, anys)
			}
		default:
			err = u.value(fd, v, depth, anys)
		}
		return err == nil
	})
	return err
}

func (u *usage) value(fd protoreflect.FieldDescriptor, v protoreflect.Value, depth, anys int) error {
	switch fd.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return u.message(v.Message(), depth+1, anys)
	case protoreflect.EnumKind:
		if known := fd.Enum().Values().ByNumber(v.Enum()); known != nil {
			u.left -= len(known.Name())
		}
	}
	if u.left < 0 { // texts and numbers are no larger than a few times what they came in
		return errTooMuch
	}
	return nil
}

// any is message for what an Any holds.
func (u *usage) any(m protoreflect.Message, depth, anys int) error {
	fields := m.Descriptor().Fields()
	typeURL, content := fields.ByName("type_url"), fields.ByName("value")
	if typeURL == nil || content == nil {
		return nil
	}
	known, err := u.resolver.FindMessageByURL(m.Get(typeURL).String())
	if err != nil {
		return nil
	}
	if anys == maxAnys {
		return errTooMuch
	}
	in := known.New()
	if err := (proto.UnmarshalOptions{AllowPartial: true, Resolver: u.resolver}).Unmarshal(m.Get(content).Bytes(), in.Interface()); err != nil {
		return nil
	}
	return u.message(in, depth+1, anys+1)
}
