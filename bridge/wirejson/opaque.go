package wirejson

import (
	"bytes"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoiface"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// resolveAll is a resolver for protojson that knows a type for each Any: one that nobody else
// knows is a message whose only field has the bytes.
type resolveAll struct{ Resolver }

// FindMessageByURL implements protoregistry.MessageTypeResolver.
func (r resolveAll) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if known, err := r.Resolver.FindMessageByURL(url); err == nil {
		return known, nil
	}
	return opaqueType{dynamicpb.NewMessageType(opaqueDescriptor())}, nil
}

// opaqueDescriptor is of a message whose JSON is {"@value": …}.
var opaqueDescriptor = sync.OnceValue(func() protoreflect.MessageDescriptor {
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("opaque.proto"), MessageType: []*descriptorpb.DescriptorProto{{
		Name: proto.String("Opaque"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("value"), JsonName: proto.String("@value"), Number: proto.Int32(1),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum(),
		}},
	}}}, nil)
	if err != nil {
		panic(fmt.Sprintf("wirejson: %v", err)) // of constants
	}
	return fd.Messages().Get(0)
})

type opaqueType struct{ protoreflect.MessageType }

// New implements protoreflect.MessageType.
func (t opaqueType) New() protoreflect.Message {
	return opaque{t.MessageType.New().Interface().(*dynamicpb.Message)}
}

// opaque is a message whose wire form is one field's bytes, whatever they are.
type opaque struct{ *dynamicpb.Message }

// ProtoReflect implements proto.Message.
func (o opaque) ProtoReflect() protoreflect.Message { return o }

// Interface implements protoreflect.Message.
func (o opaque) Interface() protoreflect.ProtoMessage { return o }

// ProtoMethods implements protoreflect.Message.
func (o opaque) ProtoMethods() *protoiface.Methods {
	return &protoiface.Methods{Unmarshal: func(in protoiface.UnmarshalInput) (protoiface.UnmarshalOutput, error) {
		o.Set(o.Descriptor().Fields().Get(0), protoreflect.ValueOfBytes(bytes.Clone(in.Buf)))
		return protoiface.UnmarshalOutput{}, nil
	}}
}
