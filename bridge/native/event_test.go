package native

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

const testID = "cmpl_01JB2QK4W6ZV9T3M8H5N7R0XYD"

func delta(sequence int32, d *completionv1.Delta) *completionv1.CompletionEvent {
	return &completionv1.CompletionEvent{Sequence: sequence, Event: &completionv1.CompletionEvent_Delta{Delta: d}}
}

func created(sequence int32, c *completionv1.Created) *completionv1.CompletionEvent {
	return &completionv1.CompletionEvent{Sequence: sequence, Event: &completionv1.CompletionEvent_Created{Created: c}}
}

// newer returns e with a field that this version does not know, which has it go the
// long way.
func newer(e *completionv1.CompletionEvent) *completionv1.CompletionEvent {
	e.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 15, protowire.VarintType), 1))
	return e
}

func finished(sequence int32, f *completionv1.Finished) *completionv1.CompletionEvent {
	return &completionv1.CompletionEvent{Sequence: sequence, Event: &completionv1.CompletionEvent_Finished{Finished: f}}
}

func TestAppendEvent(t *testing.T) {
	for _, test := range []struct {
		name  string
		event *completionv1.CompletionEvent
		retry time.Duration
		want  string
	}{
		{
			name:  "text",
			event: delta(7, &completionv1.Delta{Text: " world"}),
			want:  "event: delta\ndata: {\"sequence\":7,\"delta\":{\"text\":\" world\"}}\nid: " + testID + "_7\n\n",
		},
		{
			name:  "retry",
			event: delta(7, &completionv1.Delta{Text: " world"}),
			retry: 1500*time.Millisecond + 999*time.Microsecond,
			want:  "event: delta\ndata: {\"sequence\":7,\"delta\":{\"text\":\" world\"}}\nretry: 1500\nid: " + testID + "_7\n\n",
		},
		{
			name:  "retry too short",
			event: delta(7, &completionv1.Delta{Text: " world"}),
			retry: 999 * time.Microsecond,
			want:  "event: delta\ndata: {\"sequence\":7,\"delta\":{\"text\":\" world\"}}\nid: " + testID + "_7\n\n",
		},
		{
			name:  "empty delta",
			event: delta(2147483647, &completionv1.Delta{}),
			want:  "event: delta\ndata: {\"sequence\":2147483647,\"delta\":{}}\nid: " + testID + "_2147483647\n\n",
		},
		{
			name: "everything in a delta",
			event: delta(3, &completionv1.Delta{Text: "a", Reasoning: "b", Refusal: "c", ToolCalls: []*completionv1.ToolCall{
				{Index: proto.Int32(0), Id: "call_1", Name: "f", Arguments: `{"x":`},
				{Index: proto.Int32(-1), Arguments: "1}"},
				{Id: "no index"},
				{},
			}}),
			want: "event: delta\n" +
				`data: {"sequence":3,"delta":{"text":"a","reasoning":"b","refusal":"c","toolCalls":[` +
				`{"index":0,"id":"call_1","name":"f","arguments":"{\"x\":"},{"index":-1,"arguments":"1}"},{"id":"no index"},{}]}}` +
				"\nid: " + testID + "_3\n\n",
		},
		{
			name:  "escapes",
			event: delta(3, &completionv1.Delta{Text: "\"\\/\b\f\n\r\t\x00\x1f\x7f<&>é\u2027\u2028\u2029\u202a\u2068😀"}),
			want: "event: delta\n" +
				`data: {"sequence":3,"delta":{"text":"\"\\/\b\f\n\r\t\u0000\u001f` + "\x7f<&>é\u2027" + `\u2028\u2029` + "\u202a\u2068😀" + `"}}` +
				"\nid: " + testID + "_3\n\n",
		},
		{
			name: "created",
			event: created(1, &completionv1.Created{
				Id: testID, Model: "m", CreateTime: &timestamppb.Timestamp{Seconds: 1750000000, Nanos: 120000000}}),
			want: "event: created\n" +
				`data: {"sequence":1,"created":{"id":"` + testID + `","model":"m","createTime":"2025-06-15T15:06:40.120Z"}}` +
				"\nid: " + testID + "_1\n\n",
		},
		{
			name:  "the long way",
			event: newer(delta(1, &completionv1.Delta{Text: "a\u2028b\nc\u0085d"})),
			want: "event: delta\n" +
				`data: {"sequence":1,"delta":{"text":"a\u2028b\nc\u0085d"}}` +
				"\nid: " + testID + "_1\n\n",
		},
		{
			name: "finished",
			event: finished(9, &completionv1.Finished{FinishReason: completionv1.Finished_TOOL_CALLS, Usage: &completionv1.Usage{
				PromptTokens: 1, CompletionTokens: 2, TotalTokens: 3, ReasoningTokens: 4, CachedTokens: 5}}),
			want: "event: finished\n" +
				`data: {"sequence":9,"finished":{"finishReason":"TOOL_CALLS","usage":{"promptTokens":1,` +
				`"completionTokens":2,"totalTokens":3,"reasoningTokens":4,"cachedTokens":5}}}` +
				"\nid: " + testID + "_9\n\n",
		},
		{
			name:  "finished with nothing to say",
			event: finished(9, &completionv1.Finished{Usage: &completionv1.Usage{}}),
			want:  "event: finished\ndata: {\"sequence\":9,\"finished\":{\"usage\":{}}}\nid: " + testID + "_9\n\n",
		},
		{
			name:  "finished for a reason without a name",
			event: finished(9, &completionv1.Finished{FinishReason: 99}),
			want:  "event: finished\ndata: {\"sequence\":9,\"finished\":{\"finishReason\":99}}\nid: " + testID + "_9\n\n",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			const before = "what was there\n"
			got, event, err := AppendEvent([]byte(before), testID, marshal(t, test.event), test.retry)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != before+test.want {
				t.Errorf("got  %q\nwant %q", got, before+test.want)
			}
			want := Event{Sequence: test.event.Sequence, Terminal: test.event.GetFinished() != nil}
			if event != want {
				t.Errorf("got %+v, want %+v", event, want)
			}
		})
	}
}

// What is not in the usual encoding means the same as ever, or is an error, as
// protobuf decides.
func TestAppendEventUnusual(t *testing.T) {
	field := func(number protowire.Number, body ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), body)
	}
	number := func(number protowire.Number, n uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), n)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	text := func(s string) []byte { return field(1, []byte(s)...) }
	one := number(1, 1)

	for _, test := range []struct {
		name string
		wire []byte
		want string // "" for an error
	}{
		{"delta before sequence", join(field(3, text("a")...), one), `{"sequence":1,"delta":{"text":"a"}}`},
		{"fields of delta backwards", join(one, field(3, join(field(2, 'r'), text("a"))...)), `{"sequence":1,"delta":{"text":"a","reasoning":"r"}}`},
		{"empty text", join(one, field(3, text("")...)), `{"sequence":1,"delta":{}}`},
		{"sequence twice", join(one, number(1, 2), field(3)), `{"sequence":2,"delta":{}}`},
		{"sequence of 64 bits", join(number(1, 1<<32|5), field(3)), `{"sequence":5,"delta":{}}`},
		{"sequence in too many bytes", join([]byte{8, 0x81, 0x80, 0}, field(3)), `{"sequence":1,"delta":{}}`},
		{"tag in too many bytes", join([]byte{0x88, 0, 1}, field(3)), `{"sequence":1,"delta":{}}`},
		{"text twice", join(one, field(3, join(text("a"), text("b"))...)), `{"sequence":1,"delta":{"text":"b"}}`},
		{"two deltas merge", join(one, field(3, text("a")...), field(3, field(2, 'b')...)), `{"sequence":1,"delta":{"text":"a","reasoning":"b"}}`},
		{"delta, then finished", join(one, field(3, text("a")...), field(4)), `{"sequence":1,"finished":{}}`},
		{"finished, then delta", join(one, field(4), field(3)), `{"sequence":1,"delta":{}}`},
		{"tool calls apart", join(one, field(3, join(field(4, field(2, 'x')...), text("a"), field(4, field(2, 'y')...))...)),
			`{"sequence":1,"delta":{"text":"a","toolCalls":[{"id":"x"},{"id":"y"}]}}`},
		{"tool call, then text like one", join(one, field(3, join(field(4, field(2, 'x')...), field(2, field(2, 'y')...))...)),
			`{"sequence":1,"delta":{"reasoning":"\u0012\u0001y","toolCalls":[{"id":"x"}]}}`},
		{"index of 64 bits", join(one, field(3, field(4, number(1, 1<<32|5)...)...)), `{"sequence":1,"delta":{"toolCalls":[{"index":5}]}}`},
		{"index twice", join(one, field(3, field(4, join(number(1, 1), number(1, 0))...)...)), `{"sequence":1,"delta":{"toolCalls":[{"index":0}]}}`},
		{"negative count", join(one, field(4, field(2, number(1, 1<<64-1)...)...)), `{"sequence":1,"finished":{"usage":{"promptTokens":-1}}}`},
		{"count of 0", join(one, field(4, field(2, number(1, 1<<32)...)...)), `{"sequence":1,"finished":{"usage":{}}}`},
		{"reason of 0", join(one, field(4, number(1, 0)...)), `{"sequence":1,"finished":{}}`},
		{"unknown field", join(one, field(3, text("a")...), field(15, 'x')), `{"sequence":1,"delta":{"text":"a"}}`},
		{"unknown field with a long tag", join(one, field(3, text("a")...), field(17, 'x')), `{"sequence":1,"delta":{"text":"a"}}`},
		{"unknown field in created", join(one, field(2, number(9, 1)...)), `{"sequence":1,"created":{}}`},
		{"unknown field in a time", join(one, field(2, field(3, number(9, 1)...)...)), `{"sequence":1,"created":{"createTime":"1970-01-01T00:00:00Z"}}`},
		{"unknown field in delta", join(one, field(3, number(9, 1)...)), `{"sequence":1,"delta":{}}`},
		{"unknown field in tool call", join(one, field(3, field(4, number(9, 1)...)...)), `{"sequence":1,"delta":{"toolCalls":[{}]}}`},
		{"unknown field in finished", join(one, field(4, number(9, 1)...)), `{"sequence":1,"finished":{}}`},
		{"unknown field in usage", join(one, field(4, field(2, number(9, 1)...)...)), `{"sequence":1,"finished":{"usage":{}}}`},
		{"text of a wrong wire type", join(one, field(3, number(1, 1)...)), `{"sequence":1,"delta":{}}`},
		{"text in a fixed32", join(one, field(3, 1<<3|5, 1, 2, 3, 4)), `{"sequence":1,"delta":{}}`},

		{"nothing", nil, ""},
		{"no kind", one, ""},
		{"unknown kind", join(one, field(5)), ""},
		{"kind of a wrong wire type", join(one, number(3, 1)), ""},
		{"no sequence", field(3), ""},
		{"sequence 0", join(number(1, 0), field(3)), ""},
		{"sequence 0 in 64 bits", join(number(1, 1<<32), field(3)), ""},
		{"negative sequence", join(number(1, 1<<64-1), field(3)), ""},
		{"sequence of a wrong wire type", join(field(1, 1), field(3)), ""},
		{"text not UTF-8", join(one, field(3, text("\xff")...)), ""},
		{"text a surrogate", join(one, field(3, text("\xed\xa0\x80")...)), ""},
		{"text broken off in a character", join(one, field(3, text("\xe2\x80")...)), ""},
		{"tool call's name not UTF-8", join(one, field(3, field(4, field(3, 0xff)...)...)), ""},
		{"cut in delta", join(one, field(3, text("abc")...))[:6], ""},
		{"delta cut inside", join(one, field(3, text("abc")[:4]...)), ""},
		{"tool call cut inside", join(one, field(3, field(4, 1<<3|2, 5)...)), ""},
		{"first tool call cut", join(one, field(3, join(field(4, 1<<3|2, 5), field(4))...)), ""},
		{"second tool call cut", join(one, field(3, append(field(4), 4<<3|2, 5)...)), ""},
		{"usage cut inside", join(one, field(4, field(2, 1<<3, 0x80)...)), ""},
		{"finished cut inside", join(one, field(4, 1<<3)), ""},
		{"finished cut inside, then delta", join(one, field(4, 1<<3), field(3)), ""},
		{"delta cut inside, then finished", join(one, field(3, 1<<3), field(4)), ""},
		{"cut after a tag", append(join(one, field(3)), 1<<3|2), ""},
		{"field number 0", join(one, field(3), []byte{0, 0}), ""},
		{"wire type 7", join(one, field(3), []byte{1<<3 | 7}), ""},
		{"text with sequence 0", join(number(1, 0), field(3, text("a")...)), ""},
		{"text longer than its delta", join(one, []byte("\x1a\x02\x0a\x03abc")), ""},
		{"long lengths like short ones", join(one, []byte("\x1a\x82\x0a\x80"), bytes.Repeat([]byte("a"), 128)), ""},
		{"created cut inside", join(one, field(2, 1<<3|2, 5)), ""},
		{"time cut inside", join(one, field(2, field(3, 1<<3)...)), ""},
		{"time out of range", join(one, field(2, field(3, number(1, 1<<60)...)...)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			const before = "what was there\n"
			dst := append(make([]byte, 0, 1024), before...)
			got, event, err := AppendEvent(dst, testID, test.wire, 0)
			if test.want == "" {
				if err == nil {
					t.Fatalf("no error but %q", got)
				}
				if string(got) != before || event != (Event{}) {
					t.Errorf("with the error: %q, %+v", got, event)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			m := readBlock(t, got[len(before):])
			if !reflect.DeepEqual(decodeJSON(t, []byte(m.Data)), decodeJSON(t, []byte(test.want))) {
				t.Errorf("got  %s\nwant %s", m.Data, test.want)
			}
		})
	}
}

// What has to be escaped, or is no ASCII, is found wherever it stands.
func TestAppendEventPlaces(t *testing.T) {
	for _, c := range []string{`"`, `\`, "\n", "\x00", "\x1f", " ", "!", "~", "\x7f", "\u0080", "\u0085", "é", "\u2028", "\u2029", "😀"} {
		for i := range 18 {
			text := strings.Repeat("a", i) + c + strings.Repeat("b", 17)
			checkEvent(t, marshal(t, delta(1, &completionv1.Delta{Text: text})), 0)
			checkEvent(t, marshal(t, delta(1, &completionv1.Delta{Text: text, Refusal: c})), 0)
		}
	}
}

// A time comes out as protojson has it, if it is one.
func TestAppendEventTime(t *testing.T) {
	for _, test := range []struct {
		seconds int64
		nanos   int32
	}{
		{1750000000, 0},
		{1750000000, 120_000_000},
		{1750000000, 120_456_000},
		{1750000000, 1},
		{1750000000, 999_999_999},
		{-1, 500_000_000},
		{-62135596800, 0},
		{253402300799, 999_999_999},
		{-62135596801, 999_999_999},
		{253402300800, 0},
		{0, -1},
		{0, 1_000_000_000},
	} {
		checkEvent(t, marshal(t, created(1, &completionv1.Created{CreateTime: &timestamppb.Timestamp{Seconds: test.seconds, Nanos: test.nanos}})), 0)
	}
}

// Every field of the definition, set alone, comes out as protojson has it, and
// goes the short way, but for those that are rare. A field that is added to the
// definition fails here until the short way knows it.
func TestAppendEventFields(t *testing.T) {
	rare := regexp.MustCompile(`^(created|finished|delta\.(parts|logprobs|extra|tool_calls\.extra))\b`)
	check := func(path string, e *completionv1.CompletionEvent) {
		t.Run(path, func(t *testing.T) {
			checkEvent(t, marshal(t, e), 0)
			if _, _, usual := appendDeltaEvent(nil, testID, marshal(t, e), 0); usual == rare.MatchString(path) {
				t.Errorf("went the short way: %v", usual)
			}
		})
	}
	var visit func(path string, e *completionv1.CompletionEvent, m protoreflect.Message)
	visit = func(path string, e *completionv1.CompletionEvent, m protoreflect.Message) {
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			if f == (&completionv1.CompletionEvent{}).ProtoReflect().Descriptor().Fields().ByName("sequence") {
				continue
			}
			path := strings.TrimPrefix(path+"."+string(f.Name()), ".")
			switch {
			case f.Message() != nil && f.Message().FullName() == "google.protobuf.Struct":
				fields, err := structpb.NewStruct(map[string]any{"a": []any{1, "b", nil, true}})
				if err != nil {
					t.Fatal(err)
				}
				m.Set(f, protoreflect.ValueOfMessage(fields.ProtoReflect()))
				check(path, e)
			case f.IsList() && strings.HasSuffix(path, ".top_logprobs"): // it holds itself
			case f.IsList():
				element := m.Mutable(f).List().AppendMutable()
				check(path, e)
				visit(path, e, element.Message())
			case f.Message() != nil:
				child := m.Mutable(f).Message()
				check(path, e)
				visit(path, e, child)
			case f.Kind() == protoreflect.StringKind:
				m.Set(f, protoreflect.ValueOfString("text"))
				check(path, e)
			case f.Kind() == protoreflect.EnumKind:
				for j := range f.Enum().Values().Len() {
					value := f.Enum().Values().Get(j)
					m.Set(f, protoreflect.ValueOfEnum(value.Number()))
					check(path+"="+string(value.Name()), e)
				}
			case f.Kind() == protoreflect.Int32Kind:
				n := int32(-7)
				if f.Name() == "nanos" { // of which no time has fewer than 0
					n = 7
				}
				m.Set(f, protoreflect.ValueOfInt32(n))
				check(path, e)
			case f.Kind() == protoreflect.Int64Kind:
				m.Set(f, protoreflect.ValueOfInt64(7))
				check(path, e)
			case f.Kind() == protoreflect.DoubleKind:
				m.Set(f, protoreflect.ValueOfFloat64(-0.25))
				check(path, e)
			case f.Kind() == protoreflect.BytesKind:
				m.Set(f, protoreflect.ValueOfBytes([]byte("bytes")))
				check(path, e)
			default:
				t.Fatalf("%s: this test knows no %v", path, f.Kind())
			}
			m.Clear(f)
		}
	}
	e := &completionv1.CompletionEvent{Sequence: 1}
	visit("", e, e.ProtoReflect())
}

// Whatever a model says comes out of the stream as it was, in one block.
func TestTextRoundTrip(t *testing.T) {
	for _, text := range []string{
		"\n", "\r", "\r\n", "a\nb\rc\r\n\r\nd", "\n\ndata: forged\n\n", "data: ", "id: 1", ": hb\n", "event: error\n\n",
		"\x00", "\x00\x01\x02\x1e\x1f\x20\x7f", "\u0080\u0085\u00a0", "\u2028", "\u2029", "a\u2028\u2029b", "“–”",
		"\ufeff", "\ufffd", "😀👩‍👩‍👧‍👦🇩🇪", "漢字かな", "</script>", "<!-- & -->", `\`, `"`, `\"`, `\u0041`, `{"a":1}`, " ", "  lead",
		strings.Repeat("long ", 20000),
	} {
		for _, event := range []*completionv1.CompletionEvent{
			delta(2, &completionv1.Delta{Text: text}),
			delta(2, &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Arguments: text}}}),
			created(2, &completionv1.Created{Model: text}),
		} {
			block, _, err := AppendEvent(nil, testID, marshal(t, event), 0)
			if err != nil {
				t.Fatalf("%.40q: %v", text, err)
			}
			if strings.ContainsAny(string(block), "\r\u0085\u2028\u2029\x00") {
				t.Errorf("%.40q: not escaped: %q", text, block)
			}
			var got completionv1.CompletionEvent
			if err := protojson.Unmarshal([]byte(readBlock(t, block).Data), &got); err != nil {
				t.Fatalf("%.40q: %v", text, err)
			}
			if !proto.Equal(&got, event) {
				t.Errorf("%.40q: came back as %.80v", text, &got)
			}
		}
	}
}

func TestAppendEventAllocatesNothing(t *testing.T) {
	for _, event := range benchmarkEvents {
		if event.GetDelta() == nil {
			continue
		}
		wire := marshal(t, event)
		dst := make([]byte, 0, 1<<16)
		if n := testing.AllocsPerRun(100, func() {
			if _, _, err := AppendEvent(dst, testID, wire, time.Second); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%v allocations for %.80v", n, event)
		}
	}
}

func TestAppendError(t *testing.T) {
	const body = `{"error":{"code":503,"status":"UNAVAILABLE"}}`
	for _, test := range []struct {
		name  string
		id    string
		retry time.Duration
		want  string
	}{
		{"with an id", testID, 0, "event: error\ndata: " + body + "\nid: " + testID + "_8\n\n"},
		{"with an id and retry", testID, 2 * time.Second, "event: error\ndata: " + body + "\nretry: 2000\nid: " + testID + "_8\n\n"},
		{"without an id", "", 0, "event: error\ndata: " + body + "\n\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := string(AppendError([]byte("before"), test.id, 8, []byte(body), test.retry))
			if got != "before"+test.want {
				t.Errorf("got  %q\nwant %q", got, "before"+test.want)
			}
			m := readBlock(t, []byte(test.want))
			if m.Event != "error" || m.Data != body {
				t.Errorf("read back as %+v", m)
			}
		})
	}
}

// FuzzAppendEvent holds events as a server would make them against protojson.
func FuzzAppendEvent(f *testing.F) {
	f.Add(uint8(0), int32(7), " world", "", "", uint8(0), int32(0), int32(0))
	f.Add(uint8(1), int32(1), "a\u2028\n", "b\r\x00", `"\`, uint8(0xff), int32(0), int32(-1))
	f.Add(uint8(2), int32(2147483647), testID, "model", "", uint8(3), int32(1750000000), int32(120000000))
	f.Add(uint8(3), int32(12), "", "", "", uint8(1), int32(5), int32(17))
	f.Fuzz(func(t *testing.T, kind uint8, sequence int32, a, b, c string, bits uint8, m, n int32) {
		a, b, c = strings.ToValidUTF8(a, "\ufffd"), strings.ToValidUTF8(b, "\ufffd"), strings.ToValidUTF8(c, "\ufffd")
		var e *completionv1.CompletionEvent
		switch kind % 4 {
		case 0:
			e = delta(sequence, &completionv1.Delta{Text: a, Reasoning: b, Refusal: c})
		case 1:
			d := &completionv1.Delta{Text: c}
			for i := range bits & 3 {
				call := &completionv1.ToolCall{Id: a, Name: b, Arguments: c}
				if bits>>(2+i)&1 == 1 {
					call.Index = proto.Int32(m)
				}
				a, b, c, m = b, c, a, n
				d.ToolCalls = append(d.ToolCalls, call)
			}
			e = delta(sequence, d)
		case 2:
			e = created(sequence, &completionv1.Created{Id: a, Model: b})
			if bits&1 == 1 {
				e.GetCreated().CreateTime = &timestamppb.Timestamp{Seconds: int64(m), Nanos: n}
			}
		case 3:
			fin := &completionv1.Finished{FinishReason: completionv1.Finished_FinishReason(m)}
			if bits&1 == 1 {
				fin.Usage = &completionv1.Usage{PromptTokens: n, CompletionTokens: m, TotalTokens: m + n,
					ReasoningTokens: int32(bits >> 1), CachedTokens: sequence}
			}
			e = finished(sequence, fin)
		}
		checkEvent(t, marshal(t, e), time.Duration(bits)*time.Millisecond)
	})
}

// FuzzAppendEventWire holds whatever may come from a foreign server against proto
// and protojson.
func FuzzAppendEventWire(f *testing.F) {
	for _, e := range benchmarkEvents {
		wire := marshal(f, e)
		f.Add(wire[:min(len(wire), 200)])
		if len(wire) < 200 {
			f.Add(wire)
			f.Add(append(wire, wire...))
		}
	}
	f.Add([]byte("\x08\x01\x1a\x03\x0a\x01\xff"))
	f.Add([]byte("\x88\x00\x01\x1a\x06\x22\x04\x08\x00\x12\x00"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		checkEvent(t, wire, 0)
	})
}

// checkEvent holds the block of an event, or its error, against proto, protojson
// and the Reader.
func checkEvent(t *testing.T, wire []byte, retry time.Duration) {
	t.Helper()
	want, kind, wantErr := reference(wire)
	block, event, err := AppendEvent(nil, testID, wire, retry)
	if err != nil || wantErr != nil {
		if err == nil || wantErr == nil {
			t.Fatalf("wire %x: got error %v, want %v", wire, err, wantErr)
		}
		if len(block) > 0 || event != (Event{}) {
			t.Fatalf("wire %x: with an error: %q, %+v", wire, block, event)
		}
		return
	}
	m := readBlock(t, block)
	if got := decodeJSON(t, []byte(m.Data)); !reflect.DeepEqual(got, decodeJSON(t, want)) {
		t.Errorf("wire %x:\ngot  %s\nwant %s", wire, m.Data, want)
	}
	if m.Event != kind || event.Terminal != (kind == "finished") {
		t.Errorf("got event %q and %+v, want %q", m.Event, event, kind)
	}
	id, sequence, err := ParseID(m.ID)
	if err != nil || id != testID || sequence != event.Sequence {
		t.Errorf("got id %q (%v), want %q", m.ID, err, FormatID(testID, event.Sequence))
	}
	// One event, data, id and blank line each, and nothing that another's idea of
	// a line end could split.
	lines := 4
	if retry > 0 {
		lines++
	}
	if n := bytes.Count(block, []byte("\n")); n != lines || strings.ContainsAny(string(block), "\r\u0085\u2028\u2029") {
		t.Errorf("%d line ends, want %d: %q", n, lines, block)
	}
}

// reference is AppendEvent without the care for speed.
func reference(wire []byte) (data []byte, kind string, err error) {
	var e completionv1.CompletionEvent
	if err := proto.Unmarshal(wire, &e); err != nil {
		return nil, "", err
	}
	switch e.Event.(type) {
	case *completionv1.CompletionEvent_Created:
		kind = "created"
	case *completionv1.CompletionEvent_Delta:
		kind = "delta"
	case *completionv1.CompletionEvent_Finished:
		kind = "finished"
	default:
		return nil, "", errors.New("no kind")
	}
	if e.Sequence < 1 {
		return nil, "", fmt.Errorf("sequence %d", e.Sequence)
	}
	data, err = protojson.Marshal(&e)
	return data, kind, err
}

func readBlock(t *testing.T, block []byte) sse.Message {
	t.Helper()
	r := sse.NewReader(bytes.NewReader(block), 1<<30)
	m, err := r.Next()
	if err != nil {
		t.Fatalf("%v in %q", err, block)
	}
	if more, err := r.Next(); err != io.EOF {
		t.Fatalf("a block with more in it: %v, %v in %q", more, err, block)
	}
	return m
}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func decodeJSON(t *testing.T, data []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	if d.More() {
		t.Fatalf("more than one value in %s", data)
	}
	return v
}
