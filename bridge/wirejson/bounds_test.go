package wirejson

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// What a message becomes is bounded, whichever way it goes, and so is the memory that this
// takes.
func TestBombs(t *testing.T) {
	long := strings.Repeat("A", 10<<10)
	enum := &descriptorpb.EnumDescriptorProto{Name: proto.String("Long"), Value: []*descriptorpb.EnumValueDescriptorProto{{Name: &long, Number: proto.Int32(0)}}}
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, of string) *descriptorpb.FieldDescriptorProto {
		fd := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Label: descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum(), Type: &kind}
		if of != "" {
			fd.TypeName = &of
		}
		return fd
	}
	names, find := odd(t, &descriptorpb.FileDescriptorProto{Name: proto.String("a.proto"), Syntax: proto.String("proto3"), EnumType: []*descriptorpb.EnumDescriptorProto{enum},
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Names"), Field: []*descriptorpb.FieldDescriptorProto{
			field("longs", 1, descriptorpb.FieldDescriptorProto_TYPE_ENUM, ".Long"), field("names", 2, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, ".Names"),
			field(long, 3, descriptorpb.FieldDescriptorProto_TYPE_INT32, ""),
		}}}})
	types, all := compiled(t)
	everything := all[0]
	names.bounds.json, types.bounds.json, types.bounds.entries = 1<<20, 1<<20, 1000
	list := func(number protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
	}
	const deep = 3000
	wrong := []byte{1<<3 | 5, 0, 0, 0, 0} // a field of another wire type, which only the long way takes
	for name, tt := range map[string]struct {
		types *Types
		md    protoreflect.MessageDescriptor
		wire  []byte
	}{
		"long names, packed":     {names, find("Names"), list(1, make([]byte, 10_000))},
		"long names, one by one": {names, find("Names"), bytes.Repeat([]byte{1 << 3, 0}, 10_000)},
		"long names of fields":   {names, find("Names"), bytes.Repeat(list(2, []byte{3 << 3, 1}), 10_000)},
		"entries":                {types, everything, bytes.Repeat(list(53, nil), 10_000)},
		"Any in Any":             {types, everything, list(71, anyInAny(deep))},
		"Any in Any in a list":   {types, everything, list(90, anyInAny(deep))},
		"large":                  {types, everything, list(15, make([]byte, maxSlow))},
	} {
		for way, wire := range map[string][]byte{"short": tt.wire, "long": append(wrong[:len(wrong):len(wrong)], tt.wire...)} {
			if name == "entries" && way == "long" || name == "large" && way == "short" { // where it is little
				continue
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			out, err := tt.types.Writer(tt.md).Append([]byte("x"), wire)
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; err == nil || string(out) != "x" || took > 80<<20 {
				t.Errorf("%s, the %s way: %d bytes, %v; it took %d bytes", name, way, len(out), err, took)
			}
		}
	}
	if out, err := types.Writer(everything).Append(nil, list(71, anyInAny(10))); err != nil {
		t.Errorf("a few Anys in Anys: %s, %v", out, err)
	}
}

// anyInAny is the content of an Any that has an Any in it, and so on.
func anyInAny(deep int) []byte {
	var wire []byte
	for range deep {
		in := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "type.googleapis.com/google.protobuf.Any")
		wire = protowire.AppendBytes(protowire.AppendTag(in, 2, protowire.BytesType), wire)
	}
	return wire
}
