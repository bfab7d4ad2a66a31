package descriptors

import (
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// wellKnown are the files whose types JSON has a form of its own for, or gRPC a place.
var wellKnown = []string{
	"google/protobuf/any.proto", "google/protobuf/duration.proto", "google/protobuf/empty.proto", "google/protobuf/field_mask.proto",
	"google/protobuf/struct.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto",
}

// withoutWellKnown returns a file that has the well-known types of the usual files in place of
// its own. protobufjs, and so the reflection of Node's, has one file google_protobuf.proto for
// the package, and Go once had github.com/golang/protobuf/ptypes/timestamp/timestamp.proto.
func withoutWellKnown(file *descriptorpb.FileDescriptorProto) *descriptorpb.FileDescriptorProto {
	if file.GetPackage() != "google.protobuf" {
		return file
	}
	file = proto.CloneOf(file)
	known := func(name string) bool {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("google.protobuf." + name))
		return err == nil && slices.Contains(wellKnown, d.ParentFile().Path())
	}
	messages, enums := len(file.MessageType), len(file.EnumType)
	file.MessageType = slices.DeleteFunc(file.MessageType, func(m *descriptorpb.DescriptorProto) bool { return known(m.GetName()) })
	file.EnumType = slices.DeleteFunc(file.EnumType, func(e *descriptorpb.EnumDescriptorProto) bool { return known(e.GetName()) })
	if len(file.MessageType) == messages && len(file.EnumType) == enums {
		return file
	}
	for _, path := range wellKnown { // for those that import this file
		at := slices.Index(file.Dependency, path)
		if at < 0 {
			at = len(file.Dependency)
			file.Dependency = append(file.Dependency, path)
		}
		if !slices.Contains(file.PublicDependency, int32(at)) {
			file.PublicDependency = append(file.PublicDependency, int32(at))
		}
	}
	return file
}
