package wirejson

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// author makes files that nobody chose: of each syntax and edition, with all that it lets a
// message have.
type author struct {
	*rand.Rand
	edition descriptorpb.Edition
}

var wellKnownTypes = []string{
	"google.protobuf.Any", "google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue",
	"google.protobuf.FieldMask", "google.protobuf.Empty", "google.protobuf.BoolValue", "google.protobuf.Int64Value", "google.protobuf.FloatValue", "google.protobuf.BytesValue",
}

func (a author) file() *descriptorpb.FileDescriptorProto {
	file := &descriptorpb.FileDescriptorProto{Name: proto.String("random.proto"), Package: proto.String("random"), Dependency: []string{
		"google/protobuf/any.proto", "google/protobuf/timestamp.proto", "google/protobuf/duration.proto", "google/protobuf/struct.proto",
		"google/protobuf/field_mask.proto", "google/protobuf/empty.proto", "google/protobuf/wrappers.proto",
	}}
	switch a.edition {
	case descriptorpb.Edition_EDITION_PROTO2:
		file.Syntax = proto.String("proto2")
	case descriptorpb.Edition_EDITION_PROTO3:
		file.Syntax = proto.String("proto3")
	default:
		file.Syntax, file.Edition = proto.String("editions"), a.edition.Enum()
		file.Options = &descriptorpb.FileOptions{Features: a.features()}
	}
	first := int32(0) // of a closed enum, it may be any
	if a.edition == descriptorpb.Edition_EDITION_PROTO2 {
		first = int32(a.IntN(3))
	}
	file.EnumType = []*descriptorpb.EnumDescriptorProto{{Name: proto.String("Enum"), Value: []*descriptorpb.EnumValueDescriptorProto{
		{Name: proto.String("A"), Number: proto.Int32(first)}, {Name: proto.String("B"), Number: proto.Int32(-7)}, {Name: proto.String("C"), Number: proto.Int32(1000)},
	}}}
	for i := range 3 {
		file.MessageType = append(file.MessageType, a.message(fmt.Sprintf("M%d", i)))
	}
	return file
}

func (a author) features() *descriptorpb.FeatureSet {
	f := &descriptorpb.FeatureSet{}
	if a.IntN(2) == 0 {
		f.FieldPresence = []descriptorpb.FeatureSet_FieldPresence{descriptorpb.FeatureSet_EXPLICIT, descriptorpb.FeatureSet_IMPLICIT}[a.IntN(2)].Enum()
	}
	if a.IntN(2) == 0 {
		f.RepeatedFieldEncoding = descriptorpb.FeatureSet_EXPANDED.Enum()
	}
	if a.IntN(2) == 0 {
		f.MessageEncoding = descriptorpb.FeatureSet_DELIMITED.Enum()
	}
	if a.IntN(3) == 0 {
		f.Utf8Validation = descriptorpb.FeatureSet_NONE.Enum()
	}
	return f
}

func (a author) message(name string) *descriptorpb.DescriptorProto {
	md := &descriptorpb.DescriptorProto{Name: &name}
	numbers := map[int32]bool{}
	number := func() int32 {
		for {
			n := []int32{int32(a.IntN(16)) + 1, int32(a.IntN(300)) + 1, int32(a.IntN(1<<29-1)) + 1}[a.IntN(3)]
			if !numbers[n] && (n < 19000 || n > 19999) {
				numbers[n] = true
				return n
			}
		}
	}
	for i := range a.IntN(12) {
		fd := a.field(fmt.Sprintf("f_%d", i), number(), "random."+name, md)
		md.Field = append(md.Field, fd)
	}
	if a.IntN(2) == 0 {
		for i := range 1 + a.IntN(3) {
			fd := &descriptorpb.FieldDescriptorProto{Name: proto.String(fmt.Sprintf("c_%d", i)), Number: proto.Int32(number()), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), OneofIndex: proto.Int32(0)}
			a.setType(fd)
			md.Field = append(md.Field, fd)
		}
		md.OneofDecl = []*descriptorpb.OneofDescriptorProto{{Name: proto.String("choice")}}
	}
	return md
}

// field returns one of a message; of a map, it adds the type of its entries.
func (a author) field(name string, number int32, of string, md *descriptorpb.DescriptorProto) *descriptorpb.FieldDescriptorProto {
	fd := &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	switch a.IntN(4) {
	case 0:
		fd.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
		a.setType(fd)
		if packable := fd.TypeName == nil && fd.GetType() != descriptorpb.FieldDescriptorProto_TYPE_STRING && fd.GetType() != descriptorpb.FieldDescriptorProto_TYPE_BYTES || fd.GetType() == descriptorpb.FieldDescriptorProto_TYPE_ENUM; packable && a.edition < descriptorpb.Edition_EDITION_2023 && a.IntN(2) == 0 {
			fd.Options = &descriptorpb.FieldOptions{Packed: proto.Bool(a.IntN(2) == 0)}
		}
	case 1:
		keys := []descriptorpb.FieldDescriptorProto_Type{3, 4, 5, 6, 7, 8, 9, 13, 15, 16, 17, 18}
		key := &descriptorpb.FieldDescriptorProto{Name: proto.String("key"), Number: proto.Int32(1), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: keys[a.IntN(len(keys))].Enum()}
		value := &descriptorpb.FieldDescriptorProto{Name: proto.String("value"), Number: proto.Int32(2), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		a.setType(value)
		if value.GetType() == descriptorpb.FieldDescriptorProto_TYPE_ENUM {
			value.Type, value.TypeName = descriptorpb.FieldDescriptorProto_TYPE_BYTES.Enum(), nil
		}
		entry := fmt.Sprintf("F%sEntry", name[2:])
		md.NestedType = append(md.NestedType, &descriptorpb.DescriptorProto{Name: &entry, Field: []*descriptorpb.FieldDescriptorProto{key, value}, Options: &descriptorpb.MessageOptions{MapEntry: proto.Bool(true)}})
		fd.Label, fd.Type, fd.TypeName = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum(), descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String("."+of+"."+entry)
	default:
		a.setType(fd)
	}
	return fd
}

func (a author) setType(fd *descriptorpb.FieldDescriptorProto) {
	kind := descriptorpb.FieldDescriptorProto_Type(a.IntN(18) + 1)
	switch kind {
	case descriptorpb.FieldDescriptorProto_TYPE_GROUP, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE:
		kind = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE
		fd.TypeName = proto.String(fmt.Sprintf(".random.M%d", a.IntN(3)))
		if a.IntN(2) == 0 {
			fd.TypeName = proto.String("." + wellKnownTypes[a.IntN(len(wellKnownTypes))])
		}
	case descriptorpb.FieldDescriptorProto_TYPE_ENUM:
		fd.TypeName = proto.String(".random.Enum")
	}
	fd.Type = &kind
}

// Both ways give the same for types that nobody chose, and for bytes that were made for other
// types than theirs.
func TestWaysAgreeOnAnyType(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	short, whole := 0, 0
	var before []byte
	for range 120 {
		editions := []descriptorpb.Edition{descriptorpb.Edition_EDITION_PROTO2, descriptorpb.Edition_EDITION_PROTO3, descriptorpb.Edition_EDITION_2023, descriptorpb.Edition_EDITION_2024}
		all := linkRandom(t, author{r, editions[r.IntN(len(editions))]}.file())
		types := NewTypes(all)
		for i := range 3 {
			md, err := all.FindMessageByName(protoreflect.FullName(fmt.Sprintf("random.M%d", i)))
			if err != nil {
				t.Fatal(err)
			}
			m := md.New()
			fill(r, m, 3, []protoreflect.MessageDescriptor{md.Descriptor()})
			wire, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m.Interface())
			if err != nil {
				t.Fatal(err)
			}
			w := types.Writer(md.Descriptor())
			whole++
			if agree(t, w, wire) {
				short++
			}
			for range 3 {
				agree(t, w, damage(r, wire))
				agree(t, w, splice(r, wire, before))
				agree(t, w, strewn(r, md.Descriptor(), 2))
			}
			before = wire
		}
	}
	t.Logf("%d of %d went the short way", short, whole)
	if short < whole/4 {
		t.Error("too few went the short way for this to say much")
	}
}

func linkRandom(t *testing.T, file *descriptorpb.FileDescriptorProto) *dynamicpb.Types {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{}
	for _, path := range file.GetDependency() {
		fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			t.Fatal(err)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	set.File = append(set.File, file)
	files, err := protodesc.NewFiles(set)
	if err != nil {
		t.Fatalf("%v of %v", err, file)
	}
	return dynamicpb.NewTypes(files)
}

// splice puts a piece of other bytes between two fields.
func splice(r *rand.Rand, wire, other []byte) []byte {
	at := 0
	for at < len(wire) && r.IntN(4) > 0 {
		_, _, n := protowire.ConsumeField(wire[at:])
		if n < 0 {
			break
		}
		at += n
	}
	from := r.IntN(len(other) + 1)
	return append(append(append([]byte(nil), wire[:at]...), other[from:]...), wire[at:]...)
}

// strewn are bytes with the fields of a message, some of them of wrong wire types.
func strewn(r *rand.Rand, md protoreflect.MessageDescriptor, depth int) []byte {
	var b []byte
	for range r.IntN(6) {
		number, kind := protowire.Number(r.IntN(5)+1), protowire.Type(r.IntN(6))
		var in protoreflect.MessageDescriptor
		if n := md.Fields().Len(); n > 0 && r.IntN(8) > 0 {
			fd := md.Fields().Get(r.IntN(n))
			number, in = fd.Number(), fd.Message()
			if r.IntN(8) > 0 {
				kind = wireType(fd.Kind())
			}
		}
		content := make([]byte, r.IntN(4))
		for i := range content {
			content[i] = byte(r.Uint32()) >> r.IntN(8)
		}
		if in != nil && depth > 0 {
			content = strewn(r, in, depth-1)
		}
		b = protowire.AppendTag(b, number, kind)
		switch kind {
		case protowire.VarintType:
			b = protowire.AppendVarint(b, r.Uint64()>>r.IntN(64))
		case protowire.Fixed32Type:
			b = protowire.AppendFixed32(b, r.Uint32())
		case protowire.Fixed64Type:
			b = protowire.AppendFixed64(b, r.Uint64())
		case protowire.BytesType:
			b = protowire.AppendBytes(b, content)
		case protowire.StartGroupType:
			b = append(b, content...)
			if r.IntN(8) > 0 {
				b = protowire.AppendTag(b, number, protowire.EndGroupType)
			}
		}
	}
	return b
}
