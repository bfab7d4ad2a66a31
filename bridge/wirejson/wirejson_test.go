package wirejson

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// wireOf returns the wire form of a message that is given as JSON.
func wireOf(tb testing.TB, types *Types, md protoreflect.MessageDescriptor, text string) []byte {
	tb.Helper()
	m := dynamicpb.NewMessage(md)
	if err := (protojson.UnmarshalOptions{Resolver: types.resolver, AllowPartial: true}).Unmarshal([]byte(text), m); err != nil {
		tb.Fatal(err)
	}
	wire, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return wire
}

// What only the long way does, and what neither takes.
func TestUnusual(t *testing.T) {
	types, all := compiled(t)
	everything, old := all[0], all[1]
	aString := protowire.AppendTag(nil, 14, protowire.BytesType)
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 999, protowire.VarintType), 1)
	for _, tt := range []struct {
		name    string
		md      protoreflect.MessageDescriptor
		wire    []byte
		want    string // "": an error
		unknown bool
	}{
		{"nothing", everything, nil, `{}`, false},
		{"a field twice", everything, []byte{1 << 3, 1, 1 << 3, 2}, `{"aInt32":2}`, false},
		{"zero after one", everything, []byte{1 << 3, 1, 1 << 3, 0}, `{}`, false},
		{"a message twice", everything, append(wireOf(t, types, everything, `{"inner":{"aInt32":1}}`), wireOf(t, types, everything, `{"inner":{"aInt64":"2"}}`)...), `{"inner":{"aInt32":1,"aInt64":"2"}}`, false},
		{"two of a oneof", everything, append(wireOf(t, types, everything, `{"choiceString":"a"}`), wireOf(t, types, everything, `{"choiceInt64":"2"}`)...), `{"choiceInt64":"2"}`, false},
		{"a list in two pieces", everything, append(append(wireOf(t, types, everything, `{"strings":["a"]}`), 1<<3, 1), wireOf(t, types, everything, `{"strings":["b"]}`)...), `{"aInt32":1,"strings":["a","b"]}`, false},
		{"a key twice", everything, append(wireOf(t, types, everything, `{"texts":{"a":"1"}}`), wireOf(t, types, everything, `{"texts":{"a":"2"}}`)...), `{"texts":{"a":"2"}}`, false},
		{"a key twice, the first time with a broken value", everything, append(append(protowire.AppendTag(nil, 52, protowire.BytesType), 3, 2<<3|2, 1, 0xff), append(protowire.AppendTag(nil, 52, protowire.BytesType), 0)...), "", false},
		{"not UTF-8", everything, append(aString, 1, 0xff), "", false},
		{"cut off", everything, append(aString, 9, 'a'), "", false},
		{"the end of no group", everything, []byte{1<<3 | 4}, "", false},
		{"no field number", everything, []byte{0}, "", false},
		{"an unknown field", everything, append(unknown, 1<<3, 1), `{"aInt32":1}`, true},
		{"an unknown field, the long way", everything, append(unknown, 1<<3, 1, 1<<3, 2), `{"aInt32":2}`, true},
		{"an unknown type", everything, wireOfAny(t, types, everything), `{"any":{"@type":"type.googleapis.com/no.Such","@value":"CAE="}}`, false},
		{"an unknown type, the long way", everything, append(wireOfAny(t, types, everything), wireOf(t, types, everything, `{"mask":"a"}`)...), `{"any":{"@type":"type.googleapis.com/no.Such","@value":"CAE="},"mask":"a"}`, false},
		{"an unknown type of nothing, the long way", everything, append(protowire.AppendBytes(protowire.AppendTag(nil, 71, protowire.BytesType), []byte{1<<3 | 2, 1, 'x'}), wireOf(t, types, everything, `{"mask":"a"}`)...), `{"any":{"@type":"x","@value":""},"mask":"a"}`, false},
		{"an extension", old, wireOf(t, types, old, `{"name":"a","[test.old.extra]":"b"}`), `{"name":"a","[test.old.extra]":"b"}`, false},
		{"without what is required", old, []byte{2 << 3, 1}, `{"number":1}`, false},
		{"a field mask", everything, wireOf(t, types, everything, `{"mask":"aB,c.dE"}`), `{"mask":"aB,c.dE"}`, false},
		{"a time out of range", everything, append(protowire.AppendTag(nil, 72, protowire.BytesType), 3, 2<<3, 0xff, 0x7f), `{"timestamp":"1970-01-01T00:00:00.000016383Z"}`, false},
		{"a time before all", everything, protowire.AppendBytes(protowire.AppendTag(nil, 72, protowire.BytesType), protowire.AppendVarint([]byte{1 << 3}, 1<<63)), "", false},
		{"a value of nothing", everything, append(protowire.AppendTag(nil, 75, protowire.BytesType), 0), "", false},
		{"a strange name", everything, wireOf(t, types, everything, `{"strange":"x"}`), `{"a \"strange\" name":"x"}`, false},
	} {
		w := types.Writer(tt.md)
		got, err := w.Append([]byte("before"), tt.wire)
		text, ok := strings.CutPrefix(string(got), "before")
		if !ok || err != nil && text != "" {
			t.Errorf("%s: what stood before is lost: %q", tt.name, got)
		}
		if text != tt.want || (err == nil) != (tt.want != "") || w.Unknown != tt.unknown {
			t.Errorf("%s: got %s, unknown %v, error %v; want %s, %v", tt.name, text, w.Unknown, err, tt.want, tt.unknown)
		}
	}
}

func wireOfAny(t *testing.T, types *Types, md protoreflect.MessageDescriptor) []byte {
	m := dynamicpb.NewMessage(md)
	in := m.Mutable(md.Fields().ByName("any")).Message()
	in.Set(in.Descriptor().Fields().ByNumber(1), protoreflect.ValueOfString("type.googleapis.com/no.Such"))
	in.Set(in.Descriptor().Fields().ByNumber(2), protoreflect.ValueOfBytes([]byte{1 << 3, 1}))
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// A message may be as deep as protobuf lets it be, in fields and in groups, and takes time in
// proportion to that.
func TestDepth(t *testing.T) {
	types, all := compiled(t)
	for _, tt := range []struct {
		md    protoreflect.MessageDescriptor
		wrap  func(inner []byte) []byte
		depth int
		ok    bool
	}{
		{all[0], inner, 5000, true}, {all[0], inner, 10_001, false},
		{all[1], groups, 2000, true}, {all[1], groups, 10_001, false},
	} {
		var wire []byte
		for range tt.depth {
			wire = tt.wrap(wire)
		}
		out, err := types.Writer(tt.md).Append(nil, wire)
		if (err == nil) != tt.ok || tt.ok && !json.Valid(out) {
			t.Errorf("%s, %d deep: %v", tt.md.FullName(), tt.depth, err)
		}
	}
}

func inner(b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, 17, protowire.BytesType), b)
}

func groups(b []byte) []byte { // Groups.olds, and Old.Groups in it
	old := protowire.AppendBytes(protowire.AppendTag(nil, 8, protowire.BytesType), b)
	old = append(protowire.AppendTag(nil, 8, protowire.StartGroupType), old...)
	return protowire.AppendTag(old, 8, protowire.EndGroupType)
}

func TestAppendField(t *testing.T) {
	types, all := compiled(t)
	md := all[0]
	wire := wireOf(t, types, md, `{"aInt32":7,"strings":["a","b"],"texts":{"k":"v"},"inner":{"aBool":true},"timestamp":"2026-01-02T03:04:05Z"}`)
	for name, want := range map[protoreflect.Name]string{
		"a_int32": `7`, "strings": `["a","b"]`, "texts": `{"k":"v"}`, "inner": `{"aBool":true}`, "timestamp": `"2026-01-02T03:04:05Z"`,
		"a_int64": `"0"`, "a_string": `""`, "int32s": `[]`, "by_bool": `{}`, "choice_inner": `{}`, "duration": `null`, "colour": `"COLOUR_UNSPECIFIED"`,
	} {
		got, err := types.Writer(md).AppendField([]byte("x"), wire, md.Fields().ByName(name).Number())
		if string(got) != "x"+want || err != nil {
			t.Errorf("%s: %s, %v; want %s", name, got, err, want)
		}
	}
}

// The table makes no garbage: an event costs what its bytes cost.
func TestAllocations(t *testing.T) {
	types, all := compiled(t)
	w := types.Writer(all[0])
	wire := wireOf(t, types, all[0], usualMessage)
	dst := make([]byte, 0, 4<<10)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := w.Append(dst, wire); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a message", n)
	}
}

const usualMessage = `{"aInt32":7,"aInt64":"12345678901","aString":"Hello from the other side","aDouble":0.25,"colour":"RED",
	"inner":{"aBool":true,"strings":["a","b","c"]},"texts":{"b":"2","a":"1"},"timestamp":"2026-01-02T03:04:05.678Z","choiceString":"x"}`

func BenchmarkAppend(b *testing.B) {
	types, all := compiled(b)
	w := types.Writer(all[0])
	wire := wireOf(b, types, all[0], usualMessage)
	for name, write := range map[string]func(dst, wire []byte) ([]byte, error){"table": w.Append, "protojson": w.appendSlowly} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				dst, _ = write(dst[:0], wire)
			}
		})
	}
}
