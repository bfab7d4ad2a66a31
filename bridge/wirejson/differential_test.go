package wirejson

import (
	"context"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
)

// compiled are the types of testdata, and the messages in them to be tried.
func compiled(tb testing.TB) (*Types, []protoreflect.MessageDescriptor) {
	tb.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{"testdata"}})}
	linked, err := compiler.Compile(context.Background(), "everything.proto", "old.proto")
	if err != nil {
		tb.Fatal(err)
	}
	files := &protoregistry.Files{}
	var register func(fd protoreflect.FileDescriptor)
	register = func(fd protoreflect.FileDescriptor) {
		if _, err := files.FindFileByPath(fd.Path()); err == nil {
			return
		}
		for i := range fd.Imports().Len() {
			register(fd.Imports().Get(i).FileDescriptor)
		}
		if err := files.RegisterFile(fd); err != nil {
			tb.Fatal(err)
		}
	}
	var all []protoreflect.MessageDescriptor
	for _, fd := range linked {
		register(fd)
		all = append(all, fd.Messages().Get(0))
	}
	return NewTypes(dynamicpb.NewTypes(files)), all
}

// agree compares both ways to write a message. It reports whether the short one was gone.
func agree(t *testing.T, w *Writer, wire []byte) bool {
	t.Helper()
	w.begin([]byte("x"))
	short, err := w.appendMessage([]byte("x"), w.table, wire)
	if err != nil {
		return false
	}
	long, err := w.appendSlowly([]byte("x"), wire)
	if err != nil {
		t.Fatalf("%x of %s\n short: %s\n long: %v", wire, w.table.md.FullName(), short, err)
	}
	var a, b any
	if err := json.Unmarshal(short[1:], &a); err != nil {
		t.Fatalf("%x: %v in %s", wire, err, short)
	}
	if err := json.Unmarshal(long[1:], &b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Fatalf("%x of %s\nshort: %s\n long: %s", wire, w.table.md.FullName(), short, long)
	}
	if strings.ContainsAny(string(short), "\n\r\u0085\u2028\u2029") {
		t.Fatalf("a line end in %q", short)
	}
	return true
}

// Both ways give the same, for messages that nobody chose, and for what is left of them when
// bytes are changed, cut, doubled or moved.
func TestWaysAgree(t *testing.T) {
	types, all := compiled(t)
	r := rand.New(rand.NewPCG(1, 2))
	short, whole := 0, 0
	for range 1000 {
		md := all[r.IntN(len(all))]
		w := types.Writer(md)
		m := dynamicpb.NewMessage(md)
		fill(r, m, 3, all)
		wire, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		whole++
		if agree(t, w, wire) {
			short++
		}
		for range 4 {
			agree(t, w, damage(r, wire))
		}
	}
	t.Logf("%d of %d went the short way", short, whole)
	if short < whole/4 {
		t.Error("too few went the short way for this to say much")
	}
}

// fill sets some of a message's fields.
func fill(r *rand.Rand, m protoreflect.Message, depth int, all []protoreflect.MessageDescriptor) {
	fields := m.Descriptor().Fields()
	if m.Descriptor().FullName() == "google.protobuf.Any" {
		in := dynamicpb.NewMessage(all[r.IntN(len(all))])
		fill(r, in, 0, all)
		value, _ := proto.MarshalOptions{AllowPartial: true}.Marshal(in)
		m.Set(fields.ByNumber(1), protoreflect.ValueOfString("type.googleapis.com/"+string(in.Descriptor().FullName())))
		m.Set(fields.ByNumber(2), protoreflect.ValueOfBytes(value))
		return
	}
	for i := range fields.Len() {
		fd := fields.Get(i)
		known := m.Descriptor().FullName().Parent() == "google.protobuf"
		if depth <= 0 && fd.Message() != nil || !known && r.IntN(fields.Len()) > 4 || fd.FullName() == "google.protobuf.FieldMask.paths" || fd.Message() != nil && fd.Message().FullName() == "google.protobuf.FieldMask" && r.IntN(8) > 0 {
			continue
		}
		single := func(fd protoreflect.FieldDescriptor, v protoreflect.Value) protoreflect.Value {
			if fd.Message() == nil {
				return scalar(r, fd)
			}
			fill(r, v.Message(), depth-1, all)
			return v
		}
		switch {
		case fd.IsMap():
			for range r.IntN(4) {
				entries := m.Mutable(fd).Map()
				entries.Set(scalar(r, fd.MapKey()).MapKey(), single(fd.MapValue(), entries.NewValue()))
			}
		case fd.IsList():
			for range r.IntN(4) {
				items := m.Mutable(fd).List()
				items.Append(single(fd, items.NewElement()))
			}
		default:
			m.Set(fd, single(fd, m.NewField(fd)))
		}
	}
}

func scalar(r *rand.Rand, fd protoreflect.FieldDescriptor) protoreflect.Value {
	texts := []string{"", "a", "Gruezi \"x\"\\\n\r\t\b\f\x00\x1f\x7f", "äöü€😀", "\u0085\u2028\u2029", "z"}
	n := []int64{0, 1, -1, 7, 127, 128, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64, r.Int64N(1e9)}[r.IntN(11)]
	of := string(fd.ContainingMessage().FullName())
	if strings.HasPrefix(of, "google.protobuf.") && (strings.HasSuffix(of, "Timestamp") || strings.HasSuffix(of, "Duration")) {
		n = []int64{0, 5, 1e3, 12e6, 123456789, 1e8}[r.IntN(6)]
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n&1 == 1)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum([]protoreflect.EnumNumber{0, 1, 1000, -1, 7, 99}[r.IntN(6)])
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32([]float32{0, 1.5, -0.1, 1e-7, 1e22, math.MaxFloat32, float32(math.Inf(1)), float32(math.NaN()), float32(math.Copysign(0, -1))}[r.IntN(9)])
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64([]float64{0, 1.5, -0.1, 1e-7, 1e21, math.MaxFloat64, math.Inf(-1), math.NaN(), math.Copysign(0, -1)}[r.IntN(9)])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(texts[r.IntN(len(texts))]))
	}
	return protoreflect.ValueOfString(texts[r.IntN(len(texts))])
}

// damage changes a message's bytes.
func damage(r *rand.Rand, wire []byte) []byte {
	b := append([]byte(nil), wire...)
	if len(b) == 0 {
		return []byte{byte(r.Uint32())}
	}
	i, j := r.IntN(len(b)), r.IntN(len(b))
	switch r.IntN(5) {
	case 0:
		b[i] = byte(r.Uint32())
	case 1:
		b = b[:i]
	case 2:
		b = append(b, wire...) // all fields twice
	case 3:
		b[i], b[j] = b[j], b[i]
	case 4: // two fields change places
		if _, _, n := protowire.ConsumeField(b); n > 0 {
			b = append(append([]byte(nil), b[n:]...), b[:n]...)
		}
	}
	return b
}

func FuzzAppend(f *testing.F) {
	types, all := compiled(f)
	r := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		m := dynamicpb.NewMessage(all[r.IntN(len(all))])
		fill(r, m, 2, all)
		wire, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		for _, md := range all {
			agree(t, types.Writer(md), wire)
		}
	})
}
