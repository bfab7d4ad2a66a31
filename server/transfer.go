package server

import (
	stdencoding "encoding"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// transfer gives the message from to the one to. A side that is no message but
// bytes makes bytes of the other one.
func transfer(to, from any) error {
	encoded, fromBytes := from.(stdencoding.BinaryMarshaler)
	raw, toBytes := to.(stdencoding.BinaryUnmarshaler)
	if !fromBytes && !toBytes {
		message := to.(proto.Message)
		proto.Reset(message)
		proto.Merge(message, from.(proto.Message))
		return nil
	}
	var b []byte
	var err error
	if fromBytes {
		b, err = encoded.MarshalBinary()
	} else {
		b, err = proto.Marshal(from.(proto.Message))
	}
	if err != nil {
		return err
	}
	if toBytes {
		return raw.UnmarshalBinary(b)
	}
	return proto.Unmarshal(b, to.(proto.Message))
}

// move makes the message to of what the message from is made of, which is not to be
// used any more. It reports whether it can.
func move(to, from any) bool {
	message, ok := to.(proto.Message)
	given, ok2 := from.(proto.Message)
	if !ok || !ok2 || message.ProtoReflect().Type() != given.ProtoReflect().Type() {
		return false
	}
	proto.Reset(message)
	m := message.ProtoReflect()
	given.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		m.Set(field, value)
		return true
	})
	m.SetUnknown(given.ProtoReflect().GetUnknown())
	return true
}
