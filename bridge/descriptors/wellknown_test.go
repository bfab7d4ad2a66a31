package descriptors

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The well-known types are known wherever a server says they are: protobufjs, and with it the
// reflection of Node's, has one file for each package, and old Go has files of its own.
func TestWellKnownTypesAreElsewhere(t *testing.T) {
	message := func(name string, types ...string) *descriptorpb.DescriptorProto {
		m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
		for i, of := range types {
			m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
				Name: proto.String(string(rune('a' + i))), Number: proto.Int32(int32(i + 1)), TypeName: proto.String(of),
				Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			})
		}
		return m
	}
	for _, elsewhere := range []string{"google_protobuf.proto", "github.com/golang/protobuf/ptypes/timestamp/timestamp.proto"} {
		set, err := newSet([]*descriptorpb.FileDescriptorProto{
			{
				Name: proto.String(elsewhere), Package: proto.String("google.protobuf"), Dependency: []string{"google/protobuf/duration.proto"},
				MessageType: []*descriptorpb.DescriptorProto{message("Timestamp"), message("Duration"), message("Other", ".google.protobuf.Timestamp")},
				EnumType:    []*descriptorpb.EnumDescriptorProto{{Name: proto.String("NullValue"), Value: []*descriptorpb.EnumValueDescriptorProto{{Name: proto.String("NULL_VALUE"), Number: proto.Int32(0)}}}},
			},
			{
				Name: proto.String("a.proto"), Dependency: []string{elsewhere},
				MessageType: []*descriptorpb.DescriptorProto{message("A", ".google.protobuf.Timestamp", ".google.protobuf.Other")},
				Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{
					{Name: proto.String("M"), InputType: proto.String(".A"), OutputType: proto.String(".A")},
				}}},
			},
		}, nil, wanted(nil, true))
		if err != nil {
			t.Errorf("%s: %v", elsewhere, err)
			continue
		}
		fields := set.Services[0].Methods().Get(0).Input().Fields()
		if time := fields.ByNumber(1).Message(); time.Fields().ByName("nanos") == nil {
			t.Errorf("%s: the time is %v, with %d fields", elsewhere, time, time.Fields().Len())
		}
		if other := fields.ByNumber(2).Message(); other.Fields().Len() != 1 || other.FullName() != protoreflect.FullName("google.protobuf.Other") {
			t.Errorf("%s: the other is %v", elsewhere, other)
		}
	}
}
