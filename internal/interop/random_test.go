package interop

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// What nobody chose comes back as it was sent, by each route that can hold it: numbers at
// their ends, enums that are out of range, texts of the characters that paths and queries
// have for themselves.
func TestRandomMessages(t *testing.T) {
	s := startServers(t)
	bridge := startBridge(t, "--server="+s.Showcase, "--expose=google.showcase.v1beta1.Compliance")
	d, err := s.files.FindDescriptorByName("google.showcase.v1beta1.Compliance")
	if err != nil {
		t.Fatal(err)
	}
	methods := d.(protoreflect.ServiceDescriptor).Methods()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	sent := map[protoreflect.Name]int{}
	for round := range 60 {
		m := s.message(t, "google.showcase.v1beta1.RepeatRequest", "{}")
		scramble(r, m)
		m.Clear(m.Descriptor().Fields().ByName("server_verify"))
		if round%2 == 0 { // what the routes of resources take
			name(r, m, "first/", "info", "f_string")
			name(r, m, "second/", "info", "f_child", "f_string")
		}
		for i := range methods.Len() {
			if method := methods.Get(i); strings.HasPrefix(string(method.Name()), "Repeat") {
				sent[method.Name()] += s.repeat(t, method, m, bridge)
			}
		}
		if t.Failed() {
			t.Fatalf("with the seed %d", seed)
		}
	}
	for i := range methods.Len() {
		if name := methods.Get(i).Name(); strings.HasPrefix(string(name), "Repeat") && sent[name] < 10 {
			t.Errorf("sent %v", sent)
		}
	}
}

// name sets a field to the name of a resource.
func name(r *rand.Rand, m protoreflect.Message, prefix string, path ...protoreflect.Name) {
	for _, part := range path[:len(path)-1] {
		m = m.Mutable(m.Descriptor().Fields().ByName(part)).Message()
	}
	rest := strings.ReplaceAll(text(r), "/", "x")
	m.Set(m.Descriptor().Fields().ByName(path[len(path)-1]), protoreflect.ValueOfString(prefix+rest))
}

// scramble sets about half of a message's fields.
func scramble(r *rand.Rand, m protoreflect.Message) {
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		switch {
		case r.IntN(2) == 0:
		case field.Message() != nil:
			scramble(r, m.Mutable(field).Message())
			if !m.Get(field).Message().IsValid() || !hasAny(m.Get(field).Message()) {
				m.Clear(field) // of which a query says nothing
			}
		default:
			m.Set(field, random(r, field))
		}
	}
}

func hasAny(m protoreflect.Message) (any bool) {
	m.Range(func(protoreflect.FieldDescriptor, protoreflect.Value) bool {
		any = true
		return false
	})
	return any
}

var integers = []int64{0, 1, -1, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64}

func random(r *rand.Rand, field protoreflect.FieldDescriptor) protoreflect.Value {
	n := integers[r.IntN(len(integers))]
	float := []float64{0, -0.1, 1e-300, math.MaxFloat64, math.Inf(1), math.Inf(-1), r.NormFloat64()}[r.IntN(7)]
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n > 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(20) - 5))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(float))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(text(r)))
	default:
		return protoreflect.ValueOfString([]string{"", "", "first/", "second/"}[r.IntN(4)] + text(r))
	}
}

// text returns some characters, most of which mean something elsewhere.
func text(r *rand.Rand) string {
	const all = "ab1/%:?#&=+ ;,.~_-$@!*'()[]{}\\\"<>|^`\t\n\x00\x7fü☺\U0001f600"
	from := []rune(all)
	var b strings.Builder
	for range 1 + r.IntN(8) {
		b.WriteRune(from[r.IntN(len(from))])
	}
	return b.String()
}

// Queries that nobody chose, most of them wrong, mean the same as to grpc-gateway.
func TestRandomQueries(t *testing.T) {
	const message = "grpc.gateway.examples.internal.proto.examplepb.ABitOfEverything"
	s := startServers(t)
	bridge := startBridge(t, "--server="+s.Gateway, "--expose=grpc.gateway.examples.internal.proto.examplepb.ABitOfEverythingService", "--descriptors="+s.descriptors)
	d, err := s.files.FindDescriptorByName(message)
	if err != nil {
		t.Fatal(err)
	}
	fields := d.(protoreflect.MessageDescriptor).Fields()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	good := 0
	for range 400 {
		query := url.Values{}
		for range 1 + r.IntN(3) {
			key := randomKey(r, fields)
			for range 1 + r.IntN(5)/4 {
				query.Add(key, randomValue(r))
			}
		}
		request := "GET /v1/example/a_bit_of_everything/params/get/x?" + query.Encode()
		got, want := ask(t, bridge, request, nil), ask(t, "http://"+s.GatewayHTTP, request, nil)
		switch {
		case got.status == 200 && strings.HasSuffix(want.failure, `"-1" is not a valid value`): // JSON has such enums
			continue
		case got.status == 200:
			good++
		default:
			got.failure, want.failure = "", "" // each in its own words
		}
		s.compare(t, request, message, got, want)
		if t.Failed() {
			t.Fatalf("with the seed %d", seed)
		}
	}
	if good < 20 {
		t.Errorf("%d queries were good", good)
	}
}

// randomKey returns one that names a field, or something like it.
func randomKey(r *rand.Rand, fields protoreflect.FieldDescriptors) string {
	field := fields.Get(r.IntN(fields.Len()))
	if field.Name() == "single_nested" { // of which the path has a part: all of it is left alone, even twice
		return "single_nested." + []string{"ok", "amount"}[r.IntN(2)]
	}
	name := []string{string(field.Name()), field.JSONName()}[r.IntN(2)]
	// Of what has no such field, grpc-gateway ignores the value, but makes the message.
	if (field.Message() == nil || field.IsList() || field.Message().FullName().Name() == "Nested") && !field.IsMap() && r.IntN(6) == 0 {
		return name + "." + []string{"name", "ok", "amount"}[r.IntN(3)]
	}
	if field.IsMap() || r.IntN(20) == 0 {
		return fmt.Sprintf("%s[%s]", name, []string{"", "a", "1"}[r.IntN(3)])
	}
	return name
}

func randomValue(r *rand.Rand) string {
	return []string{"", "0", "1", "-1", "1.5", "true", "TRUE", "ONE", "DEF", "x", "Infinity", "99999999999", "2016-05-10T10:19:13Z", "AP8=", "{}"}[r.IntN(15)]
}
