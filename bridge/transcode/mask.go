package transcode

import (
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

func isMask(fd protoreflect.FieldDescriptor) bool {
	return fd != nil && fd.Message() != nil && fd.Message().FullName() == "google.protobuf.FieldMask"
}

// maskPaths makes the paths of a mask in a query those of fields: JSON has them in camel
// case, and so have Google's clients; those of grpc-gateway, which takes them as they are, do
// not. What a mask is for stands beside it (https://google.aip.dev/134): if it has such a
// field, by either name, that is meant, and else what JSON says.
func maskPaths(mask protoreflect.FieldDescriptor, values []string) []string {
	var masks []string
	for _, value := range values {
		paths := strings.Split(value, ",")
		for i, path := range paths {
			paths[i] = maskPath(mask, path)
		}
		masks = append(masks, strings.Join(paths, ","))
	}
	return masks
}

func maskPath(mask protoreflect.FieldDescriptor, path string) string {
	beside := mask.ContainingMessage().Fields()
	for i := range beside.Len() {
		if fd := beside.Get(i); fd.Message() != nil && !fd.IsList() && !fd.IsMap() {
			if names := fieldNames(fd.Message(), strings.Split(path, ".")); names != nil {
				return strings.Join(names, ".")
			}
		}
	}
	m := &fieldmaskpb.FieldMask{}
	if text, err := json.Marshal(path); err == nil && protojson.Unmarshal(text, m) == nil {
		return strings.Join(m.GetPaths(), ",")
	}
	return path
}

// fieldNames returns the own names of the fields on a path, or nil if there are none.
func fieldNames(md protoreflect.MessageDescriptor, path []string) (names []string) {
	for i := range path {
		fd := fieldOf(md, path[i:i+1])
		if fd == nil {
			return nil
		}
		names = append(names, string(fd.Name()))
		if md = fd.Message(); fd.IsList() || fd.IsMap() {
			md = nil
		}
	}
	return names
}
