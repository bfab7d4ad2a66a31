package inproc

import (
	"encoding"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// marshal returns a message in protobuf wire form. As in gRPC, nil is an empty message.
func marshal(m any) (b []byte, err error) {
	switch m := m.(type) {
	case nil:
	case encoding.BinaryMarshaler:
		b, err = m.MarshalBinary()
	case proto.Message:
		b, err = proto.Marshal(m)
	default:
		err = errNoMessage
	}
	if err != nil {
		err = status.Errorf(codes.Internal, "marshal a message: %v", err)
	}
	return b, err
}

// copyMessage makes the message to a copy of the message from.
func copyMessage(to, from any) error {
	dst, ok := to.(proto.Message)
	src, ok2 := from.(proto.Message)
	if !ok || !ok2 && from != nil {
		return errNoMessage
	}
	proto.Reset(dst)
	if from != nil {
		proto.Merge(dst, src)
	}
	return nil
}

var errNoMessage = status.Error(codes.Internal, "not a protobuf message")

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
