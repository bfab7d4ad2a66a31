package descriptors

import (
	"testing"

	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// node is a reflection that answers as @grpc/reflection 1.0 does: with files of protobufjs 7.
type node struct {
	reflectionpb.UnimplementedServerReflectionServer
	files [][]byte
}

func (n node) ServerReflectionInfo(stream reflectionpb.ServerReflection_ServerReflectionInfoServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		answer := &reflectionpb.ServerReflectionResponse{MessageResponse: &reflectionpb.ServerReflectionResponse_FileDescriptorResponse{
			FileDescriptorResponse: &reflectionpb.FileDescriptorResponse{FileDescriptorProto: n.files},
		}}
		if request.GetFileContainingSymbol() == "" && request.GetFileByFilename() == "" {
			answer.MessageResponse = &reflectionpb.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: &reflectionpb.ListServiceResponse{
				Service: []*reflectionpb.ServiceResponse{{Name: "node.v1.Clock"}},
			}}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func TestReflectionOfNode(t *testing.T) {
	n := node{}
	for _, text := range []string{
		`name: "node_v1.proto" package: "node.v1" syntax: "proto3"
		message_type { name: "In"
			field { name: "at" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "google.protobuf.Timestamp" }
			field { name: "by_name" number: 2 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "By_name" }
			field { name: "inner" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "Part" }
			field { name: "other" number: 4 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: "other.v1.Part.Size" }
			nested_type { name: "By_name"
				field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
				field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "In" }
				options { map_entry: true } }
			nested_type { name: "Part" field { name: "in" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "In" } } }
		service { name: "Clock" method { name: "Set" input_type: ".node.v1.In" output_type: ".google.protobuf.Empty" } }`,
		`name: "google_protobuf.proto" package: "google.protobuf" syntax: "proto3"
		message_type { name: "Timestamp"
			field { name: "seconds" number: 1 label: LABEL_OPTIONAL type: TYPE_INT64 }
			field { name: "nanos" number: 2 label: LABEL_OPTIONAL type: TYPE_INT32 } }
		message_type { name: "Empty" }`,
		`name: "other_v1.proto" package: "other.v1" syntax: "proto3"
		message_type { name: "Part" enum_type { name: "Size" value { name: "S" number: 0 } } }`,
	} {
		file := &descriptorpb.FileDescriptorProto{}
		if err := prototext.Unmarshal([]byte(text), file); err != nil {
			t.Fatal(err)
		}
		wire, err := proto.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		n.files = append(n.files, wire)
	}
	set, err := Reflection{serveReflection(t, n)}.Load(t.Context(), nil, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Services) != 1 {
		t.Fatalf("services %v, failed %v", set.Services, set.Failed)
	}
	method := set.Services[0].Methods().Get(0)
	fields := method.Input().Fields()
	for number, want := range []string{1: "google.protobuf.Timestamp", 2: "node.v1.In.ByNameEntry", 3: "node.v1.In.Part"} {
		if number > 0 && string(fields.Get(number-1).Message().FullName()) != want {
			t.Errorf("a field of %s, want %s", fields.Get(number-1).Message().FullName(), want)
		}
	}
	if !fields.ByName("by_name").IsMap() || fields.ByName("other").Enum().FullName() != "other.v1.Part.Size" || method.Output().FullName() != "google.protobuf.Empty" {
		t.Errorf("got %v", method.Input())
	}
}
