package server

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

func FuzzAppendDelta(f *testing.F) {
	f.Add(int32(2), "a", "", "", false)
	f.Add(int32(1<<31-1), "", "b\x00", "é", false)
	f.Add(int32(300), string(make([]byte, 300)), "b", "c", true)
	f.Add(int32(2), "\xff", "", "", false)
	f.Add(int32(2), "", "", "\xc3", false)
	f.Fuzz(func(t *testing.T, sequence int32, text, reasoning, refusal string, call bool) {
		sequence = max(sequence, 1)
		d := &completionv1.Delta{Text: text, Reasoning: reasoning, Refusal: refusal}
		if call {
			d.ToolCalls = []*completionv1.ToolCall{{Index: proto.Int32(0), Id: "c"}}
		}
		want, wantErr := proto.Marshal(&completionv1.CompletionEvent{Sequence: sequence, Event: &completionv1.CompletionEvent_Delta{Delta: d}})
		got, err := appendDelta([]byte("before"), sequence, d)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err == nil && !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Errorf("got %x, want %x", got, want)
		}
	})
}

// TestAppendDeltaOfAllFields compares the two ways on deltas that have any of the
// fields that there are, each of which is set in some and alone in one.
func TestAppendDeltaOfAllFields(t *testing.T) {
	const tries = 20_000
	random := rand.New(rand.NewPCG(1, 2))
	fields := (&completionv1.Delta{}).ProtoReflect().Descriptor().Fields()
	for i := range tries {
		d := &completionv1.Delta{}
		for j := range fields.Len() {
			if i < fields.Len() && j == i || i >= fields.Len() && random.IntN(3) == 0 {
				setRandom(random, d.ProtoReflect(), fields.Get(j), 3)
			}
		}
		sequence := max(1, int32(random.Uint32()>>(1+random.IntN(31))))
		want := &completionv1.CompletionEvent{Sequence: sequence, Event: &completionv1.CompletionEvent_Delta{Delta: d}}
		b, err := appendDelta([]byte("before"), sequence, d)
		got := &completionv1.CompletionEvent{}
		if err != nil || !bytes.HasPrefix(b, []byte("before")) || proto.Unmarshal(b[len("before"):], got) != nil || !proto.Equal(got, want) {
			t.Fatalf("%v became %v, %v", want, got, err)
		}
		// The order of a map's members is not the same twice.
		if whole, _ := proto.Marshal(want); len(whole) != len(b)-len("before") || d.Extra == nil && len(d.ToolCalls) == 0 && len(d.Parts) == 0 && !bytes.Equal(whole, b[len("before"):]) {
			t.Fatalf("%v became %x, want %x", want, b[len("before"):], whole)
		}
	}
}

// setRandom gives a field of a message some value, of messages within messages up to
// a depth.
func setRandom(random *rand.Rand, m protoreflect.Message, field protoreflect.FieldDescriptor, depth int) {
	value := func(fresh func() protoreflect.Value) protoreflect.Value {
		switch field.Kind() {
		case protoreflect.MessageKind:
			v := fresh()
			fields := v.Message().Descriptor().Fields()
			for i := range fields.Len() {
				if depth > 0 && random.IntN(2) == 0 {
					setRandom(random, v.Message(), fields.Get(i), depth-1)
				}
			}
			return v
		case protoreflect.StringKind:
			return protoreflect.ValueOfString(strings.Repeat("é\x00x", random.IntN(80)))
		case protoreflect.BytesKind:
			return protoreflect.ValueOfBytes([]byte{0xff, byte(random.Uint32())})
		case protoreflect.Int32Kind:
			return protoreflect.ValueOfInt32(int32(random.Uint32()))
		case protoreflect.EnumKind:
			return protoreflect.ValueOfEnum(0)
		case protoreflect.BoolKind:
			return protoreflect.ValueOfBool(random.IntN(2) == 0)
		case protoreflect.DoubleKind:
			return protoreflect.ValueOfFloat64(random.NormFloat64())
		}
		panic("a field of a new kind: " + field.FullName())
	}
	switch {
	case field.IsMap():
		// A Struct's: its values are messages.
		key := protoreflect.ValueOfString(fmt.Sprint(random.IntN(3))).MapKey()
		v := m.Mutable(field).Map().NewValue()
		v.Message().Set(v.Message().Descriptor().Fields().ByName("string_value"), protoreflect.ValueOfString("v"))
		m.Mutable(field).Map().Set(key, v)
	case field.IsList():
		list := m.Mutable(field).List()
		for range 1 + random.IntN(3) {
			list.Append(value(list.NewElement))
		}
	default:
		m.Set(field, value(func() protoreflect.Value { return m.NewField(field) }))
	}
}

func BenchmarkAppendDelta(b *testing.B) {
	d := &completionv1.Delta{Text: " world"}
	buf := make([]byte, 0, 64)
	b.Run("by-hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := appendDelta(buf, 7, d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("proto", func(b *testing.B) {
		b.ReportAllocs()
		event := &completionv1.CompletionEvent{Sequence: 7, Event: &completionv1.CompletionEvent_Delta{Delta: d}}
		for b.Loop() {
			if _, err := (proto.MarshalOptions{}).MarshalAppend(buf, event); err != nil {
				b.Fatal(err)
			}
		}
	})
}
