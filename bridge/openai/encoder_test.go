package openai

import (
	"encoding/json"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

const testID = "cmpl_01JB2QK4W6ZV9T3M8H5N7R0XYD"

func delta(d *completionv1.Delta) *completionv1.CompletionEvent {
	return &completionv1.CompletionEvent{Sequence: 7, Event: &completionv1.CompletionEvent_Delta{Delta: d}}
}

func finished(f *completionv1.Finished) *completionv1.CompletionEvent {
	return &completionv1.CompletionEvent{Sequence: 8, Event: &completionv1.CompletionEvent_Finished{Finished: f}}
}

var created = &completionv1.CompletionEvent{Sequence: 1, Event: &completionv1.CompletionEvent_Created{
	Created: &completionv1.Created{Id: testID, Model: "m-1", CreateTime: &timestamppb.Timestamp{Seconds: 1750000000, Nanos: 999_999_999}}}}

func marshal(t testing.TB, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// begun returns an encoder that has had the first event.
func begun(t testing.TB, e *Encoder) *Encoder {
	t.Helper()
	e.Log = discard()
	e.Begin(native.Header(testID))
	if _, terminal, err := e.AppendMessage(nil, marshal(t, created)); err != nil || terminal {
		t.Fatalf("created: %v, terminal %v", err, terminal)
	}
	return e
}

const (
	chatHead = `data: {"id":"chatcmpl-01JB2QK4W6ZV9T3M8H5N7R0XYD","object":"chat.completion.chunk","created":1750000000,"model":"m-1","choices":[`
	textHead = `data: {"id":"cmpl-01JB2QK4W6ZV9T3M8H5N7R0XYD","object":"text_completion","created":1750000000,"model":"m-1","choices":[`
)

// chatChunk and textChunk are chunks in the middle of an answer.
func chatChunk(members string) string {
	return chatHead + `{"index":0,"delta":{` + members + `},"finish_reason":null}]}` + "\n\n"
}

func textChunk(text, logprobs string) string {
	return textHead + `{"index":0,"text":` + text + `,"logprobs":` + logprobs + `,"finish_reason":null}]}` + "\n\n"
}

func testStruct(t testing.TB, members map[string]any) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(members)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// deltas are deltas, and the chunks that they become.
func deltas(t testing.TB) []deltaCase {
	return []deltaCase{
		{"text", &completionv1.Delta{Text: " world"}, `"content":" world"`},
		{"what breaks lines", &completionv1.Delta{Text: "a\n\u2028\u0085\""}, `"content":"a\n\u2028\u0085\""`},
		{"reasoning", &completionv1.Delta{Reasoning: "so"}, `"reasoning_content":"so"`},
		{"refusal", &completionv1.Delta{Refusal: "no"}, `"refusal":"no"`},
		{"all texts", &completionv1.Delta{Text: "a", Reasoning: "b", Refusal: "c"}, `"content":"a","reasoning_content":"b","refusal":"c"`},
		{"nothing", &completionv1.Delta{}, ``},
		{"the beginning of a call", &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Id: "call_1", Name: "f"}}},
			`"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":""}}]`},
		{"a piece of a call", &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(3), Arguments: `{"a`}}},
			`"tool_calls":[{"index":3,"function":{"arguments":"{\"a"}}]`},
		{"two pieces and a text", &completionv1.Delta{Text: "t", ToolCalls: []*completionv1.ToolCall{{Arguments: `1`}, {Index: proto.Int32(1), Id: "x", Arguments: `2`}}},
			`"content":"t","tool_calls":[{"index":0,"function":{"arguments":"1"}},{"index":1,"id":"x","type":"function","function":{"arguments":"2"}}]`},
		{"a call with more to it", &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Id: "c", Name: "f", Extra: testStruct(t, map[string]any{"extra_content": map[string]any{"g": 1}, "type": "x"})}}},
			`"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""},"extra_content":{"g":1}}]`},
		{"an image", &completionv1.Delta{Parts: []*completionv1.Part{{Kind: &completionv1.Part_ImageUrl{ImageUrl: &completionv1.ImageURL{Url: "data:x"}}}}},
			`"images":[{"type":"image_url","image_url":{"url":"data:x"}}]`},
		{"extra", &completionv1.Delta{Text: "a", Extra: testStruct(t, map[string]any{"reasoning_details": []any{map[string]any{"type": "t"}}, "annotations": nil, "content": "b"})},
			`"content":"a","annotations":null,"reasoning_details":[{"type":"t"}]`},
	}
}

type deltaCase struct {
	name  string
	delta *completionv1.Delta
	want  string // the members of the chunk's delta
}

func TestEncoderDeltas(t *testing.T) {
	for _, tt := range deltas(t) {
		e := begun(t, &Encoder{})
		out, terminal, err := e.AppendMessage([]byte("x"), marshal(t, delta(tt.delta)))
		if want := "x" + chatChunk(tt.want); string(out) != want || terminal || err != nil {
			t.Errorf("%s: got\n%s, %v, %v, want\n%s", tt.name, out, terminal, err, want)
		}
	}
}

// The short way and the long way must write the same.
func TestEncoderWays(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		for _, tt := range deltas(t) {
			event := delta(tt.delta)
			short, _, err := begun(t, &Encoder{Legacy: legacy}).AppendMessage(nil, marshal(t, event))
			if err != nil {
				t.Fatal(err)
			}
			// With a field that this version does not know, it goes the long way.
			event.GetDelta().ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 15, protowire.VarintType), 1))
			long, _, err := begun(t, &Encoder{Legacy: legacy}).AppendMessage(nil, marshal(t, event))
			if err != nil || string(short) != string(long) {
				t.Errorf("%s: the short way has\n%s, the long way\n%s, %v", tt.name, short, long, err)
			}
		}
	}
}

func TestEncoderStream(t *testing.T) {
	usage := &completionv1.Usage{PromptTokens: 5, CompletionTokens: 4, TotalTokens: 9, ReasoningTokens: 3, CachedTokens: 2}
	end := finished(&completionv1.Finished{FinishReason: completionv1.Finished_TOOL_CALLS, Usage: usage})
	hello := delta(&completionv1.Delta{Text: "Hello"})
	wantUsage := `"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":3}}`
	first := chatChunk(`"role":"assistant","content":""`)
	for _, tt := range []struct {
		name    string
		encoder Encoder
		events  []*completionv1.CompletionEvent
		want    string
	}{
		{"chat", Encoder{}, []*completionv1.CompletionEvent{created, hello, end},
			first + chatChunk(`"content":"Hello"`) + chatHead + `{"index":0,"delta":{},"finish_reason":"tool_calls"}]}` + "\n\n" + Done},
		{"with usage", Encoder{IncludeUsage: true}, []*completionv1.CompletionEvent{created, end},
			strings.Replace(first, "]}\n", `],"usage":null}`+"\n", 1) + chatHead + `{"index":0,"delta":{},"finish_reason":"tool_calls"}],"usage":null}` + "\n\n" +
				chatHead + `],` + wantUsage + "}\n\n" + Done},
		{"with usage that is not known", Encoder{IncludeUsage: true}, []*completionv1.CompletionEvent{created, finished(&completionv1.Finished{FinishReason: completionv1.Finished_LENGTH})},
			strings.Replace(first, "]}\n", `],"usage":null}`+"\n", 1) + chatHead + `{"index":0,"delta":{},"finish_reason":"length"}],"usage":null}` + "\n\n" + Done},
		{"legacy", Encoder{Legacy: true}, []*completionv1.CompletionEvent{created, hello, end},
			textChunk(`"Hello"`, "null") + textHead + `{"index":0,"text":"","logprobs":null,"finish_reason":"tool_calls"}]}` + "\n\n" + Done},
		{"cancelled", Encoder{}, []*completionv1.CompletionEvent{created, finished(&completionv1.Finished{FinishReason: completionv1.Finished_CANCELLED})},
			first + `data: {"error":{"message":"the completion was cancelled","type":"invalid_request_error","param":null,"code":"cancelled"}}` + "\n\n"},
	} {
		e := tt.encoder
		var out []byte
		for i, event := range tt.events {
			var terminal bool
			var err error
			if out, terminal, err = e.AppendMessage(out, marshal(t, event)); err != nil || terminal != (i == len(tt.events)-1) {
				t.Fatalf("%s: event %d: terminal %v, %v", tt.name, i, terminal, err)
			}
		}
		if string(out) != tt.want {
			t.Errorf("%s: got\n%s, want\n%s", tt.name, out, tt.want)
		}
		checkBlocks(t, string(out))
	}
}

// checkBlocks checks that a stream has data alone, each JSON but for the end.
func checkBlocks(t *testing.T, stream string) {
	t.Helper()
	r := sse.NewReader(strings.NewReader(stream), 1<<20)
	for n := 0; ; n++ {
		m, err := r.Next()
		if err == io.EOF && n > 0 {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Data != "[DONE]" && !json.Valid([]byte(m.Data)) || m.Event != "message" && m.Event != "" || m.ID != "" {
			t.Errorf("got the block %+v", m)
		}
	}
}

func TestEncoderLogprobs(t *testing.T) {
	p := &completionv1.Logprobs{Content: []*completionv1.TokenLogprob{
		{Token: "é", Logprob: -0.5, Bytes: []byte{0xc3, 0xa9}, TopLogprobs: []*completionv1.TokenLogprob{{Token: "é", Logprob: -0.5}, {Token: "e", Logprob: -9999}}},
		{Token: "t", Logprob: 0},
	}}
	event := marshal(t, delta(&completionv1.Delta{Text: "ét", Logprobs: p}))
	chat, _, err := begun(t, &Encoder{}).AppendMessage(nil, event)
	want := chatHead + `{"index":0,"delta":{"content":"ét"},"logprobs":{"content":[` +
		`{"token":"é","logprob":-0.5,"bytes":[195,169],"top_logprobs":[{"token":"é","logprob":-0.5,"bytes":null},{"token":"e","logprob":-9999,"bytes":null}]},` +
		`{"token":"t","logprob":0,"bytes":null,"top_logprobs":[]}],"refusal":null},"finish_reason":null}]}` + "\n\n"
	if err != nil || string(chat) != want {
		t.Errorf("got\n%s, %v, want\n%s", chat, err, want)
	}
	// The offset goes on from the texts before, whichever way these went.
	e := begun(t, &Encoder{Legacy: true})
	_, _, _ = e.AppendMessage(nil, marshal(t, delta(&completionv1.Delta{Text: "öö"})))
	_, _, _ = e.AppendMessage(nil, event)
	legacy, _, err := e.AppendMessage(nil, event)
	want = textChunk(`"ét"`, `{"tokens":["é","t"],"token_logprobs":[-0.5,0],"top_logprobs":[{"é":-0.5,"e":-9999},null],"text_offset":[4,5]}`)
	if err != nil || string(legacy) != want {
		t.Errorf("got\n%s, %v, want\n%s", legacy, err, want)
	}
}

func statusError(code codes.Code, reason completionv1.ErrorReason) error {
	s, err := status.New(code, "why").WithDetails(&errdetails.ErrorInfo{Reason: reason.String(), Domain: "completion.v1"})
	if err != nil {
		panic(err)
	}
	return s.Err()
}

func TestEncoderEnds(t *testing.T) {
	truncated := statusError(codes.Unavailable, completionv1.ErrorReason_UPSTREAM_TRUNCATED)
	e := begun(t, &Encoder{})
	out, ok := e.AppendEnd(nil, truncated, nil, true)
	if want := `data: {"error":{"message":"why","type":"server_error","param":null,"code":"upstream_truncated"}}` + "\n\n"; string(out) != want || !ok {
		t.Errorf("got %s, %v", out, ok)
	}
	if out, ok := e.AppendEnd(nil, truncated, nil, false); ok || len(out) > 0 {
		t.Errorf("before the response has begun, got %s, %v: not a true status", out, ok)
	}
	// By the id, the response cuts the stream for all that is not the completion's end.
	if id := new(Encoder).Begin(native.Header(testID)); id != testID {
		t.Errorf("got %q of what can be resumed", id)
	}
}

func TestEncoderBadEvents(t *testing.T) {
	for name, wire := range map[string][]byte{
		"delta first": marshal(t, delta(&completionv1.Delta{Text: "a"})),
		"no event":    marshal(t, &completionv1.CompletionEvent{Sequence: 1}),
		"no message":  {0xff},
	} {
		e := &Encoder{Log: discard()}
		if out, _, err := e.AppendMessage([]byte("x"), wire); err == nil || string(out) != "x" {
			t.Errorf("%s: got %s, %v", name, out, err)
		}
	}
}

func TestEncoderAllocatesNothing(t *testing.T) {
	for _, legacy := range []bool{false, true} {
		e := begun(t, &Encoder{Legacy: legacy})
		events := [][]byte{marshal(t, delta(&completionv1.Delta{Text: " world"}))}
		if !legacy {
			events = append(events, marshal(t, delta(&completionv1.Delta{Reasoning: "a", ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Id: "c", Name: "f", Arguments: "{"}}})))
		}
		dst := make([]byte, 0, 1<<12)
		for _, event := range events {
			if n := testing.AllocsPerRun(100, func() {
				if _, _, err := e.AppendMessage(dst, event); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("legacy %v: %v allocations", legacy, n)
			}
		}
	}
}

func FuzzEncoder(f *testing.F) {
	for _, tt := range deltas(f) {
		f.Add(marshal(f, delta(tt.delta)))
	}
	f.Add(marshal(f, finished(&completionv1.Finished{FinishReason: completionv1.Finished_STOP})))
	f.Fuzz(func(t *testing.T, wire []byte) {
		e := begun(t, &Encoder{})
		out, _, err := e.AppendMessage([]byte("x"), wire)
		m := &completionv1.CompletionEvent{}
		if proto.Unmarshal(wire, m) != nil {
			if err == nil {
				t.Fatalf("got %s of what is no event", out)
			}
			return
		}
		long, _, errLong := begun(t, &Encoder{}).appendEvent([]byte("x"), m)
		if (err == nil) != (errLong == nil) {
			t.Fatalf("the short way: %v, the long way: %v", err, errLong)
		}
		if err != nil {
			if string(out) != "x" {
				t.Fatalf("got %s with an error", out)
			}
			return
		}
		checkBlocks(t, string(out[1:]))
		if got, want := chunksOf(t, out[1:]), chunksOf(t, long[1:]); !reflect.DeepEqual(got, want) {
			t.Errorf("the short way has\n%s, the long way\n%s", out, long)
		}
	})
}

// chunksOf decodes the blocks of a stream.
func chunksOf(t *testing.T, stream []byte) (all []any) {
	t.Helper()
	for block := range strings.SplitSeq(strings.TrimSuffix(string(stream), "\n\n"), "\n\n") {
		data := strings.TrimPrefix(block, "data: ")
		var v any = data
		if data != "[DONE]" {
			if err := json.Unmarshal([]byte(data), &v); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, v)
	}
	return all
}
