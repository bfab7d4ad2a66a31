package wirejson

import (
	"fmt"
	"runtime/debug"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// odd returns the message types of a file that no compiler would let through, by their names.
func odd(tb testing.TB, file *descriptorpb.FileDescriptorProto) (*Types, func(protoreflect.FullName) protoreflect.MessageDescriptor) {
	tb.Helper()
	files, err := protodesc.FileOptions{AllowUnresolvable: true}.NewFiles(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
	if err != nil {
		tb.Fatal(err)
	}
	return NewTypes(dynamicpb.NewTypes(files)), func(name protoreflect.FullName) protoreflect.MessageDescriptor {
		d, err := files.FindDescriptorByName(name)
		if err != nil {
			tb.Fatal(err)
		}
		return d.(protoreflect.MessageDescriptor)
	}
}

// Names and types that only descriptors which somebody has made up can have.
func TestOddDescriptors(t *testing.T) {
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(`name: "a.proto"
		message_type { name: "Twice"
			field { name: "b" number: 2 label: LABEL_OPTIONAL type: TYPE_STRING json_name: "a" }
			field { name: "a" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING json_name: "a" } }
		message_type { name: "LineEnd"
			field { name: "a" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING json_name: "a\302\205<\"\\" }
			field { name: "n" number: 2 label: LABEL_REPEATED type: TYPE_INT32 } }
		message_type { name: "Nobody" field { name: "a" number: 1 label: LABEL_OPTIONAL type_name: ".no.Such" } }`), file); err != nil {
		t.Fatal(err)
	}
	types, find := odd(t, file)
	text := func(number protowire.Number, text string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, number, protowire.BytesType), text)
	}
	agree(t, types.Writer(find("Twice")), append(text(1, "x"), text(2, "y")...))
	agree(t, types.Writer(find("LineEnd")), text(1, "x"))
	agree(t, types.Writer(find("Nobody")), []byte{1 << 3, 1})
	if out, err := types.Writer(find("Nobody")).Append(nil, []byte{1 << 3, 1}); string(out) != "{}" || err != nil {
		t.Errorf("a field of which nobody knows what it is: %s, %v", out, err)
	}
	for _, wire := range [][]byte{text(1, "x"), append(text(1, "y"), text(1, "x")...)} {
		if out, err := types.Writer(find("LineEnd")).AppendField(nil, wire, 1); string(out) != `"x"` || err != nil {
			t.Errorf("a field with an odd name: %s, %v", out, err)
		}
	}
}

// One field is what it is by default if it is absent, whatever the message is, and if another
// one of its oneof came behind it.
func TestAppendFieldByDefault(t *testing.T) {
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(`name: "a.proto"
		enum_type { name: "Size" value { name: "LARGE" number: 7 } value { name: "SMALL" number: 0 } }
		message_type { name: "Defaults"
			field { name: "i" number: 1 label: LABEL_OPTIONAL type: TYPE_SINT64 default_value: "-42" }
			field { name: "e" number: 2 label: LABEL_OPTIONAL type: TYPE_ENUM type_name: ".Size" }
			field { name: "s" number: 3 label: LABEL_OPTIONAL type: TYPE_STRING default_value: "a\"b" }
			field { name: "f" number: 4 label: LABEL_OPTIONAL type: TYPE_FLOAT default_value: "inf" }
			field { name: "d" number: 5 label: LABEL_OPTIONAL type: TYPE_DOUBLE default_value: "0.5" }
			field { name: "b" number: 6 label: LABEL_OPTIONAL type: TYPE_BOOL default_value: "true" }
			field { name: "y" number: 7 label: LABEL_OPTIONAL type: TYPE_BYTES default_value: "\\001" }
			field { name: "u" number: 8 label: LABEL_OPTIONAL type: TYPE_FIXED32 default_value: "9" }
			field { name: "x" number: 9 label: LABEL_OPTIONAL type: TYPE_STRING oneof_index: 0 }
			field { name: "z" number: 10 label: LABEL_OPTIONAL type: TYPE_STRING oneof_index: 0 }
			oneof_decl { name: "choice" } }`), file); err != nil {
		t.Fatal(err)
	}
	large := &descriptorpb.DescriptorProto{Name: proto.String("Large")}
	for i := range int32(maxBits + 1) {
		large.Field = append(large.Field, &descriptorpb.FieldDescriptorProto{Name: proto.String(fmt.Sprintf("f%d", i+1)), Number: proto.Int32(i + 1),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_INT32.Enum()})
	}
	large.Field[1].Type, large.Field[1].TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".Large")
	file.MessageType = append(file.MessageType, large)
	types, find := odd(t, file)
	for _, tt := range []struct {
		of     protoreflect.FullName
		wire   []byte
		number protoreflect.FieldNumber
		want   string
	}{
		{"Defaults", nil, 1, `"-42"`}, {"Defaults", nil, 2, `"LARGE"`}, {"Defaults", nil, 3, `"a\"b"`}, {"Defaults", nil, 4, `"Infinity"`},
		{"Defaults", nil, 5, `0.5`}, {"Defaults", nil, 6, `true`}, {"Defaults", nil, 7, `"AQ=="`}, {"Defaults", nil, 8, `9`},
		{"Defaults", []byte{9<<3 | 2, 1, 'a', 10<<3 | 2, 1, 'b'}, 9, `""`}, {"Defaults", []byte{9<<3 | 2, 1, 'a', 10<<3 | 2, 1, 'b'}, 10, `"b"`},
		{"Large", []byte{1 << 3, 5}, 1, `5`}, {"Large", nil, 1, `0`}, {"Large", nil, 2, `{}`},
	} {
		if out, err := types.Writer(find(tt.of)).AppendField(nil, tt.wire, tt.number); string(out) != tt.want || err != nil {
			t.Errorf("%d of %x of %s: %s, %v, want %s", tt.number, tt.wire, tt.of, out, err, tt.want)
		}
	}
}

// A map's entry counts as a message, as protobuf has it.
func TestDepthOfMaps(t *testing.T) {
	types, all := compiled(t)
	w := types.Writer(all[0])
	var wire []byte
	for range 5200 {
		entry := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), wire)
		wire = protowire.AppendBytes(protowire.AppendTag(nil, 52, protowire.BytesType), entry)
	}
	if out, err := w.Append(nil, wire); err == nil {
		t.Errorf("%d bytes are taken that protobuf refuses", len(out))
	}
}

// Types that hold one another in a chain, however long, are compiled.
func TestChainOfTypes(t *testing.T) {
	const length = 10_000
	defer debug.SetMaxStack(debug.SetMaxStack(1 << 20)) // behind which nothing is recovered
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("a.proto")}
	for i := range length {
		file.MessageType = append(file.MessageType, &descriptorpb.DescriptorProto{Name: proto.String(fmt.Sprintf("M%d", i)), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("f"), Number: proto.Int32(1), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
			Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: proto.String(fmt.Sprintf(".M%d", (i+1)%length)),
		}}})
	}
	types, find := odd(t, file)
	if out, err := types.Writer(find("M0")).Append(nil, nil); string(out) != "{}" || err != nil || len(types.compiled) != length {
		t.Errorf("%s, %v: %d compiled", out, err, len(types.compiled))
	}
}
