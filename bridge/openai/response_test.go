package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// responseTo returns the events of a response, and their data.
func responseTo(t *testing.T, e *ResponseEncoder, events ...*completionv1.CompletionEvent) (stream string, all []map[string]any) {
	t.Helper()
	e.Log = discard()
	e.Begin(native.Header(testID))
	var out []byte
	for i, event := range events {
		var terminal bool
		var err error
		if out, terminal, err = e.AppendMessage(out, marshal(t, event)); err != nil || terminal != (event.GetFinished() != nil) {
			t.Fatalf("event %d: terminal %v, %v", i, terminal, err)
		}
	}
	return string(out), responseEvents(t, string(out), e.From)
}

// responseEvents decodes a stream, and checks that its events are named and numbered.
func responseEvents(t *testing.T, stream string, from int) (all []map[string]any) {
	t.Helper()
	r := sse.NewReader(strings.NewReader(stream), 1<<20)
	for m, err := r.Next(); err == nil; m, err = r.Next() {
		var event map[string]any
		if err := json.Unmarshal([]byte(m.Data), &event); err != nil {
			t.Fatalf("%v in %s", err, m.Data)
		}
		if event["type"] != m.Event || event["sequence_number"] != float64(from+len(all)) || m.ID != "" {
			t.Errorf("event %d is %+v", from+len(all), m)
		}
		all = append(all, event)
	}
	return all
}

func text1(s string) *completionv1.CompletionEvent { return delta(&completionv1.Delta{Text: s}) }

func thought(s string) *completionv1.CompletionEvent {
	return delta(&completionv1.Delta{Reasoning: s})
}

func called(index int32, id, name, arguments string) *completionv1.CompletionEvent {
	return delta(&completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(index), Id: id, Name: name, Arguments: arguments}}})
}

func ended(reason completionv1.Finished_FinishReason) *completionv1.CompletionEvent {
	return finished(&completionv1.Finished{FinishReason: reason, Usage: &completionv1.Usage{PromptTokens: 5, CompletionTokens: 4, TotalTokens: 9, ReasoningTokens: 3, CachedTokens: 2}})
}

// scripts are completions, and what their responses must consist of: the types of the
// events between the first two and the last, in short, and the items in the end.
var scripts = []struct {
	name   string
	events []*completionv1.CompletionEvent
	types  string
	items  string // in the last event
	last   string // its type, the status, and what else there is to say
}{
	{"text", []*completionv1.CompletionEvent{created, text1("Hel"), text1("lo\n\u2028"), ended(completionv1.Finished_STOP)},
		"output_item.added content_part.added output_text.delta output_text.delta output_text.done content_part.done output_item.done",
		`message completed ["output_text:Hello\n\u2028"]`, "response.completed completed"},
	{"nothing", []*completionv1.CompletionEvent{created, ended(completionv1.Finished_STOP)}, "", "", "response.completed completed"},
	{"reasoning and text", []*completionv1.CompletionEvent{created, thought("Hm"), thought("."), text1("Yes"), ended(completionv1.Finished_STOP)},
		"output_item.added reasoning_summary_part.added reasoning_summary_text.delta reasoning_summary_text.delta " +
			"reasoning_summary_text.done reasoning_summary_part.done output_item.done " +
			"output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done",
		`reasoning  ["summary_text:Hm."]; message completed ["output_text:Yes"]`, "response.completed completed"},
	{"all in one delta", []*completionv1.CompletionEvent{created, delta(&completionv1.Delta{Text: "b", Reasoning: "a", Refusal: "c",
		ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Id: "x", Name: "f", Arguments: "{}"}, {Index: proto.Int32(1), Id: "y", Name: "g"}}}), ended(completionv1.Finished_TOOL_CALLS)},
		"output_item.added reasoning_summary_part.added reasoning_summary_text.delta reasoning_summary_text.done reasoning_summary_part.done output_item.done " +
			"output_item.added content_part.added output_text.delta output_text.done content_part.done content_part.added refusal.delta refusal.done content_part.done output_item.done " +
			"output_item.added function_call_arguments.delta output_item.added function_call_arguments.done output_item.done function_call_arguments.done output_item.done",
		`reasoning  ["summary_text:a"]; message completed ["output_text:b" "refusal:c"]; function_call completed x f {}; function_call completed y g `, "response.completed completed"},
	{"calls whose pieces alternate", []*completionv1.CompletionEvent{created, called(0, "x", "f", ""), called(1, "y", "g", ""), called(0, "", "", `{"a":`), called(1, "", "", "[]"), called(0, "", "", "1}"), ended(completionv1.Finished_TOOL_CALLS)},
		"output_item.added function_call_arguments.delta output_item.added function_call_arguments.delta function_call_arguments.delta " +
			"function_call_arguments.done output_item.done function_call_arguments.done output_item.done",
		`function_call completed x f {"a":1}; function_call completed y g []`, "response.completed completed"},
	{"a name in pieces, and no id", []*completionv1.CompletionEvent{created, called(0, "", "wea", ""), called(0, "", "ther", ""), called(0, "", "", "{}"), ended(completionv1.Finished_TOOL_CALLS)},
		"output_item.added function_call_arguments.delta function_call_arguments.done output_item.done",
		`function_call completed call_01JB2QK4W6ZV9T3M8H5N7R0XYD_0 weather {}`, "response.completed completed"},
	{"text between calls", []*completionv1.CompletionEvent{created, text1("a"), called(0, "x", "f", "1"), text1("b"), thought("c"), text1("d"), ended(completionv1.Finished_STOP)},
		"output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done output_item.added function_call_arguments.delta " +
			"output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done " +
			"output_item.added reasoning_summary_part.added reasoning_summary_text.delta reasoning_summary_text.done reasoning_summary_part.done output_item.done " +
			"output_item.added content_part.added output_text.delta function_call_arguments.done output_item.done output_text.done content_part.done output_item.done",
		`message completed ["output_text:a"]; function_call completed x f 1; message completed ["output_text:b"]; reasoning  ["summary_text:c"]; message completed ["output_text:d"]`, "response.completed completed"},
	{"cut by its length", []*completionv1.CompletionEvent{created, thought("a"), text1("b"), ended(completionv1.Finished_LENGTH)},
		"output_item.added reasoning_summary_part.added reasoning_summary_text.delta reasoning_summary_text.done reasoning_summary_part.done output_item.done " +
			"output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done",
		`reasoning  ["summary_text:a"]; message incomplete ["output_text:b"]`, "response.incomplete incomplete max_output_tokens"},
	{"filtered", []*completionv1.CompletionEvent{created, ended(completionv1.Finished_CONTENT_FILTER)}, "", "", "response.incomplete incomplete content_filter"},
	{"cancelled", []*completionv1.CompletionEvent{created, text1("a"), ended(completionv1.Finished_CANCELLED)}, "output_item.added content_part.added output_text.delta",
		`message incomplete ["output_text:a"]`, "response.failed cancelled cancelled"},
}

func TestResponse(t *testing.T) {
	for _, tt := range scripts {
		t.Run(tt.name, func(t *testing.T) {
			stream, all := responseTo(t, &ResponseEncoder{}, tt.events...)
			var types []string
			for _, event := range all[2 : len(all)-1] {
				types = append(types, strings.TrimPrefix(event["type"].(string), "response."))
			}
			if got := strings.Join(types, " "); got != tt.types {
				t.Errorf("got the events\n%s, want\n%s", got, tt.types)
			}
			if all[0]["type"] != "response.created" || all[1]["type"] != "response.in_progress" {
				t.Errorf("it begins with %s", stream)
			}
			last := all[len(all)-1]
			response := last["response"].(map[string]any)
			if got := describeItems(response); got != tt.items {
				t.Errorf("got the items\n%s, want\n%s", got, tt.items)
			}
			say := fmt.Sprint(last["type"], " ", response["status"])
			if why, ok := response["incomplete_details"].(map[string]any); ok {
				say += " " + why["reason"].(string)
			}
			if why, ok := response["error"].(map[string]any); ok {
				say += " " + why["code"].(string)
			}
			if say != tt.last {
				t.Errorf("got %s, want %s", say, tt.last)
			}
			if usage := fmt.Sprint(response["usage"]); usage != "map[input_tokens:5 input_tokens_details:map[cached_tokens:2] output_tokens:4 output_tokens_details:map[reasoning_tokens:3] total_tokens:9]" {
				t.Errorf("the usage is %s", usage)
			}
			accumulate(t, all)
		})
	}
}

// describeItems says what a response consists of.
func describeItems(response map[string]any) string {
	var all []string
	for _, v := range response["output"].([]any) {
		it := v.(map[string]any)
		say := fmt.Sprint(it["type"], " ", it["status"])
		if it["type"] == "function_call" {
			all = append(all, fmt.Sprint(say, " ", it["call_id"], " ", it["name"], " ", it["arguments"]))
			continue
		}
		if it["status"] == nil {
			say = fmt.Sprint(it["type"], " ")
		}
		parts, _ := it["content"].([]any)
		summary, _ := it["summary"].([]any)
		var texts []string
		for _, p := range slices.Concat(parts, summary) {
			part := p.(map[string]any)
			text, _ := part["text"].(string)
			if part["type"] == "refusal" {
				text = part["refusal"].(string)
			}
			texts = append(texts, fmt.Sprint(part["type"], ":", text))
		}
		all = append(all, fmt.Sprintf("%s %q", say, texts))
	}
	return strings.Join(all, "; ")
}

// accumulate puts the deltas of a stream together, and checks that each part and item is
// told in the end as it was in its pieces.
func accumulate(t *testing.T, all []map[string]any) {
	t.Helper()
	pieces := map[string]string{}
	items := map[string]string{}
	for _, event := range all {
		kind := event["type"].(string)
		key := fmt.Sprint(event["item_id"], event["output_index"], event["content_index"], event["summary_index"])
		switch {
		case strings.HasSuffix(kind, ".delta"):
			pieces[key] += event["delta"].(string)
		case strings.HasSuffix(kind, "_text.done"):
			if event["text"] != pieces[key] {
				t.Errorf("%s has %q, not %q", kind, event["text"], pieces[key])
			}
		case kind == "response.function_call_arguments.done" && event["arguments"] != pieces[key]:
			t.Errorf("%s has %q, not %q", kind, event["arguments"], pieces[key])
		case kind == "response.output_item.done":
			b, _ := json.Marshal(event["item"])
			items[fmt.Sprint(event["output_index"])] = string(b)
		}
	}
	last := all[len(all)-1]["response"].(map[string]any)
	for i, it := range last["output"].([]any) {
		if b, _ := json.Marshal(it); items[fmt.Sprint(i)] != "" && items[fmt.Sprint(i)] != string(b) {
			t.Errorf("in the end, item %d is\n%s, and was\n%s", i, b, items[fmt.Sprint(i)])
		}
	}
}

// Whatever event a stream begins with, and whichever way its deltas are read, the rest is
// the same, byte for byte.
func TestResponseResumed(t *testing.T) {
	for _, tt := range scripts {
		whole, all := responseTo(t, &ResponseEncoder{}, tt.events...)
		blocks := strings.SplitAfter(whole, "\n\n")
		for from := range len(all) + 1 {
			rest, _ := responseTo(t, &ResponseEncoder{From: from}, tt.events...)
			if want := strings.Join(blocks[from:], ""); rest != want {
				t.Fatalf("%s, from %d: got\n%s, want\n%s", tt.name, from, rest, want)
			}
		}
		var unusual []*completionv1.CompletionEvent
		for _, event := range tt.events {
			event = proto.CloneOf(event)
			if d := event.GetDelta(); d != nil { // with a field that this version does not know, it goes the long way
				d.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 15, protowire.VarintType), 1))
			}
			unusual = append(unusual, event)
		}
		if long, _ := responseTo(t, &ResponseEncoder{}, unusual...); long != whole {
			t.Errorf("%s: the long way has\n%s, the short way\n%s", tt.name, long, whole)
		}
		w := &WholeResponse{}
		for _, event := range tt.events {
			if err := w.Add(event); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.Contains(blocks[len(blocks)-2], string(w.JSON())) {
			t.Errorf("%s: the whole is\n%s, the last event\n%s", tt.name, w.JSON(), blocks[len(blocks)-2])
		}
	}
}

func TestResponseAhead(t *testing.T) {
	e := &ResponseEncoder{From: 8, Log: discard()}
	e.Begin(native.Header(testID))
	out, _, err := e.AppendMessage(nil, marshal(t, created))
	if err != nil || len(out) != 0 {
		t.Fatalf("got %s, %v", out, err)
	}
	_, terminal, err := e.AppendMessage(nil, marshal(t, ended(completionv1.Finished_STOP)))
	if why := ResponseRefusal(discard(), err, true, true); terminal || why.Status != 400 || why.Param != "starting_after" {
		t.Errorf("got %+v, %v", why, terminal)
	}
	if out, ok := e.AppendEnd(nil, err, nil, false); ok || len(out) > 0 {
		t.Errorf("got %s", out)
	}
	out, ok := e.AppendEnd(nil, err, nil, true)
	if !ok || !strings.HasPrefix(string(out), "event: error\n") {
		t.Errorf("in a stream that has begun, got %s", out)
	}
}

func TestResponseFails(t *testing.T) {
	truncated := statusError(codes.Unavailable, completionv1.ErrorReason_UPSTREAM_TRUNCATED)
	e := &ResponseEncoder{}
	responseTo(t, e, created, text1("a"), called(0, "x", "f", ""))
	if out, ok := e.AppendEnd(nil, truncated, nil, false); ok || len(out) > 0 {
		t.Errorf("before the response has begun, got %s", out)
	}
	out, ok := e.AppendEnd(nil, truncated, nil, true)
	all := responseEvents(t, string(out), 8)
	if !ok || len(all) != 2 || all[0]["type"] != "response.output_item.added" || all[1]["type"] != "response.failed" {
		t.Fatalf("got %s, %v", out, ok)
	}
	response := all[1]["response"].(map[string]any)
	if fmt.Sprint(response["error"], " ", response["status"]) != "map[code:upstream_truncated message:why] failed" {
		t.Errorf("got %v", response)
	}
	if got := describeItems(response); got != `message completed ["output_text:a"]; function_call incomplete x f ` {
		t.Errorf("got %s", got)
	}

	e = &ResponseEncoder{Log: discard()} // which has waited, and sent its headers
	e.Begin(native.Header(testID))
	out, ok = e.AppendEnd(nil, truncated, nil, true)
	want := "event: error\n" + `data: {"type":"error","sequence_number":0,"code":"upstream_truncated","message":"why","param":null,"error":{"message":"why","type":"server_error","param":null,"code":"upstream_truncated"}}` + "\n\n"
	if string(out) != want || !ok {
		t.Errorf("got %s, want %s", out, want)
	}
}

func TestResponseLogprobs(t *testing.T) {
	likely := func(text string) *completionv1.CompletionEvent {
		token := &completionv1.TokenLogprob{Token: text, Logprob: -0.5, Bytes: []byte(text), TopLogprobs: []*completionv1.TokenLogprob{{Token: text, Logprob: -0.5, Bytes: []byte(text)}}}
		return delta(&completionv1.Delta{Text: text, Logprobs: &completionv1.Logprobs{Content: []*completionv1.TokenLogprob{token}}})
	}
	stream, _ := responseTo(t, &ResponseEncoder{}, created, likely("a"), text1("-"), likely("b"), ended(completionv1.Finished_STOP))
	token := func(text string) string {
		return fmt.Sprintf(`{"token":"%s","logprob":-0.5,"bytes":[%d],"top_logprobs":[{"token":"%s","logprob":-0.5,"bytes":[%d]}]}`, text, text[0], text, text[0])
	}
	for _, want := range []string{`"delta":"a","logprobs":[` + token("a") + "]}\n", `"delta":"-","logprobs":[]}` + "\n",
		`"logprobs":[` + token("a") + "," + token("b") + `],"text":"a-b"}`, `"text":"a-b","annotations":[],"logprobs":[` + token("a") + "," + token("b") + "]}"} {
		if !strings.Contains(stream, want) {
			t.Errorf("%s is not in\n%s", want, stream)
		}
	}
}

// What the upstream says of a call goes out with it, and back.
func TestResponseExtra(t *testing.T) {
	call := &completionv1.ToolCall{Index: proto.Int32(0), Id: "x", Name: "f", Arguments: "{}", Extra: testStruct(t, map[string]any{"extra_content": map[string]any{"signature": "s"}})}
	_, all := responseTo(t, &ResponseEncoder{}, created, delta(&completionv1.Delta{ToolCalls: []*completionv1.ToolCall{call}}), ended(completionv1.Finished_TOOL_CALLS))
	items, err := json.Marshal(all[len(all)-1]["response"].(map[string]any)["output"])
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeTest(responses, `{"input":`+string(items)+`}`)
	if err != nil {
		t.Fatal(err)
	}
	want := proto.CloneOf(call)
	want.Index = nil
	if m := got.Completion.GetMessages(); len(m) != 1 || !proto.Equal(m[0], &completionv1.Message{Role: "assistant", ToolCalls: []*completionv1.ToolCall{want}}) {
		t.Errorf("got %v", m)
	}
	bad := delta(&completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Extra: testStruct(t, map[string]any{"x": math.NaN()})}}})
	e := &ResponseEncoder{Log: discard()}
	responseTo(t, e, created)
	if out, _, err := e.AppendMessage([]byte("x"), marshal(t, bad)); err == nil || string(out) != "x" {
		t.Errorf("got %s, %v of what is no JSON", out, err)
	}
}

func TestResponseAllocatesNothing(t *testing.T) {
	e := &ResponseEncoder{}
	responseTo(t, e, created, text1("a"))
	event := marshal(t, text1(" world"))
	dst := make([]byte, 0, 1<<12)
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, err := e.AppendMessage(dst, event); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a text", n)
	}
	if _, _, err := e.AppendMessage(dst, marshal(t, called(0, "x", "f", "{"))); err != nil {
		t.Fatal(err)
	}
	event = marshal(t, called(0, "", "", `"a":1,`))
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, err := e.AppendMessage(dst, event); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for arguments", n)
	}
}

func BenchmarkResponse(b *testing.B) {
	for _, tt := range []struct {
		name  string
		delta *completionv1.Delta
	}{
		{"small", &completionv1.Delta{Text: " world"}},
		{"lines", &completionv1.Delta{Text: strings.Repeat("\tfmt.Println(\"hello\")\n", 20)}},
		{"tools", &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Arguments: `{"city":`}}}},
	} {
		event := marshal(b, delta(tt.delta))
		b.Run(tt.name+"/responses", func(b *testing.B) {
			dst := make([]byte, 0, 1<<16)
			var e *ResponseEncoder
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%1000 == 0 { // a response of so many
					e = &ResponseEncoder{Log: discard()}
					e.Begin(native.Header(testID))
					if _, _, err := e.AppendMessage(dst, marshal(b, created)); err != nil {
						b.Fatal(err)
					}
				}
				if _, _, err := e.AppendMessage(dst, event); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzResponse checks that no event breaks the stream, and that both ways of reading it
// write the same.
func FuzzResponse(f *testing.F) {
	for _, tt := range deltas(f) {
		f.Add(marshal(f, delta(tt.delta)), marshal(f, called(1, "x", "f", "{}")))
	}
	f.Add(marshal(f, thought("a")), marshal(f, ended(completionv1.Finished_STOP)))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		e := &ResponseEncoder{}
		responseTo(t, e, created)
		r := e.response
		var out, long []byte
		for _, wire := range [][]byte{first, second} {
			next, _, err := e.AppendMessage(out, wire)
			m := &completionv1.CompletionEvent{}
			if proto.Unmarshal(wire, m) != nil || m.GetCreated() != nil {
				return
			}
			slow, _, errSlow := r.append(long, m)
			if (err == nil) != (errSlow == nil) {
				t.Fatalf("the short way: %v, the long way: %v", err, errSlow)
			}
			if err != nil {
				if string(next) != string(out) {
					t.Fatalf("got %s with an error", next)
				}
				return
			}
			out, long = next, slow
		}
		if string(out) != string(long) {
			t.Errorf("the short way has\n%s, the long way\n%s", out, long)
		}
		responseEvents(t, string(out), 2)
	})
}

// findTest has a response with an id of its own, and none else.
func findTest(_ context.Context, completion string) (*WholeResponse, error) {
	w := &WholeResponse{}
	if completion != testID {
		return nil, failure.CompletionNotFound()
	}
	for _, event := range []*completionv1.CompletionEvent{created, thought("Hm\n"), text1("Yes"), delta(&completionv1.Delta{Refusal: "no"}), called(0, "x", "f", "{}"), ended(completionv1.Finished_STOP)} {
		if err := w.Add(event); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func TestDecodeInput(t *testing.T) {
	const id = "01JB2QK4W6ZV9T3M8H5N7R0XYD"
	for name, tt := range map[string]struct{ in, want string }{
		"a text":         {`"Hi"`, `[{"role":"user","content":"Hi"}]`},
		"a message":      {`[{"role":"developer","content":"Hi"}]`, `[{"role":"developer","content":"Hi"}]`},
		"a part":         {`[{"type":"message","role":"user","content":[{"type":"input_text","text":"Hi"}]}]`, `[{"role":"user","content":"Hi"}]`},
		"an image":       {`[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_image","image_url":"data:x","detail":"low"}]}]`, `[{"role":"user","parts":[{"text":"a"},{"imageUrl":{"url":"data:x","detail":"low"}}]}]`},
		"a file":         {`[{"role":"user","content":[{"type":"input_file","file_data":"data:x","filename":"n"}]}]`, `[{"role":"user","parts":[{"file":{"fileData":"data:x","filename":"n"}}]}]`},
		"more of a part": {`[{"role":"user","content":[{"type":"input_text","text":"a","cache_control":{"type":"ephemeral"}}]}]`, `[{"role":"user","parts":[{"text":"a","extra":{"cache_control":{"type":"ephemeral"}}}]}]`},
		"a turn, back": {`[{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"Hm"}],"encrypted_content":null},` +
			`{"type":"message","id":"msg_1","status":"completed","role":"assistant","content":[{"type":"output_text","text":"a","annotations":[],"logprobs":[],"parsed":null},{"type":"output_text","text":"b"}]},` +
			`{"type":"function_call","id":"fc_1","call_id":"c","name":"f","arguments":"{}","status":"completed","parsed_arguments":null},` +
			`{"type":"function_call","call_id":"d","name":"g","arguments":"[]"},` +
			`{"type":"function_call_output","call_id":"c","output":"1"},{"type":"function_call_output","call_id":"d","output":[{"type":"input_text","text":"2"}]}]`,
			`[{"role":"assistant","content":"ab","toolCalls":[{"id":"c","name":"f","arguments":"{}"},{"id":"d","name":"g","arguments":"[]"}],"reasoning":"Hm"},` +
				`{"role":"tool","content":"1","toolCallId":"c"},{"role":"tool","content":"2","toolCallId":"d"}]`},
		"two answers":  {`[{"role":"assistant","content":"a"},{"role":"assistant","content":"b"}]`, `[{"role":"assistant","content":"a"},{"role":"assistant","content":"b"}]`},
		"a call first": {`[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"role":"assistant","content":"b"}]`, `[{"role":"assistant","content":"b","toolCalls":[{"id":"c","name":"f","arguments":"{}"}]}]`},
		"a refusal":    {`[{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}]`, `[{"role":"assistant","content":"","extra":{"refusal":"no"}}]`},
		"references": {`[{"type":"item_reference","id":"rs_` + id + `_0"},{"id":"msg_` + id + `_1"},{"type":"item_reference","id":"fc_` + id + `_2"},{"type":"function_call_output","call_id":"x","output":"1"}]`,
			`[{"role":"assistant","content":"Yes","toolCalls":[{"id":"x","name":"f","arguments":"{}"}],"reasoning":"Hm\n","extra":{"refusal":"no"}},{"role":"tool","content":"1","toolCallId":"x"}]`},
	} {
		got, err := decodeTest(responses, `{"input":`+tt.in+`}`)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var messages []json.RawMessage
		for _, m := range got.Completion.GetMessages() {
			b, err := protojson.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			messages = append(messages, b)
		}
		b, _ := json.Marshal(messages)
		if string(b) != tt.want {
			t.Errorf("%s: got\n%s, want\n%s", name, b, tt.want)
		}
	}
}

func TestDecodeResponseRefuses(t *testing.T) {
	item := func(s string) string { return `{"input":[` + s + `]}` }
	with := func(s string) string { return `{"input":"Hi",` + s + `}` }
	for body, want := range map[string]string{
		`{}`:              "input: is required",
		`{"input":5}`:     "input: must be a string or a list of items",
		`{"input":[]}`:    "input: must not be empty",
		`{"input":["a"]}`: "input[0]: must be an object",
		item(`{}`):        "input[0].type: is required",
		item(`{"type":"web_search_call","id":"x"}`):                              "input[0].type: is not known here",
		item(`{"role":"user","content":[{"type":"input_video"}]}`):               "input[0].content[0].type: is not known here",
		item(`{"role":"user","content":[{"type":"input_image","file_id":"f"}]}`): "input[0].content[0].image_url: is required",
		item(`{"role":"user","content":[{"type":"input_file","file_url":"f"}]}`): "input[0].content[0].file_url: cannot be had",
		item(`{"role":"user"}`):                                                                   "input[0].content: is required",
		item(`{"role":"user","content":"a","phase":"x"}`):                                         "input[0].phase: is not known here",
		item(`{"type":"reasoning","summary":[],"encrypted_content":"x"}`):                         "input[0].encrypted_content: cannot be had",
		item(`{"type":"item_reference","id":"msg_x"}`):                                            "input[0].id: is that of no item",
		item(`{"type":"item_reference","id":"msg_01JB2QK4W6ZV9T3M8H5N7R0XYD_9"}`):                 "input[0].id: is that of no item",
		item(`{"type":"item_reference","id":"msg_01JB2QK4W6ZV9T3M8H5N7R0XYD_0"}`):                 "input[0].id: is that of no item",
		item(`{"type":"item_reference","id":"msg_01JB2QK4W6ZV9T3M8H5N7R0XYD_99999999999999999"}`): "input[0].id: is that of no item",
		item(`{"type":"item_reference","id":"msg_unknown_1"}`):                                    "no such completion",
		with(`"tools":[{"type":"web_search"}]`):                                                   "tools[0].type: must be function",
		with(`"tools":[{"type":"function","function":{"name":"f"}}]`):                             "tools[0].function: is not known here",
		with(`"tool_choice":{"type":"web_search"}`):                                               "tool_choice.type: must be function",
		with(`"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"mcp"}]}`):     "tool_choice.tools[0].type: must be function",
		with(`"text":{"format":{"type":"json_schema","schema":5}}`):                               "text.format.schema: must be an object",
		with(`"text":{"x":1}`):                          "text.x: is not known here",
		with(`"reasoning":{"x":1}`):                     "reasoning.x: is not known here",
		with(`"truncation":"auto"`):                     "truncation: must be disabled",
		with(`"stream_options":{"include_usage":true}`): "stream_options.include_usage: is a parameter of POST /openai/v1/chat/completions",
		with(`"previous_response_id":"resp_1"`):         "previous_response_id: cannot be had yet",
		with(`"background":1`):                          "background: must be true or false",
		with(`"messages":[]`):                           "messages: is a parameter of POST /openai/v1/chat/completions",
	} {
		if got, err := decodeTest(responses, body); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, %v, want %s", body, got, err, want)
		}
	}
	many := &strings.Builder{}
	for i := range maxFound + 1 {
		fmt.Fprintf(many, `{"type":"item_reference","id":"rs_%d_0"},`, i)
	}
	c := conversation{most: 1 << 20, find: func(_ context.Context, completion string) (*WholeResponse, error) {
		w := &WholeResponse{}
		own := proto.CloneOf(created)
		own.GetCreated().Id = completion
		_ = w.Add(own)
		return w, w.Add(thought("a"))
	}}
	for i := range maxFound + 1 {
		err := c.reference(t.Context(), fmt.Sprintf("rs_%d_0", i))
		if (err != nil) != (i == maxFound) {
			t.Fatalf("reference %d: %v", i, err)
		}
	}
}

func TestRefusalOfResponses(t *testing.T) {
	for param, want := range map[string]string{
		"max_tokens": "max_output_tokens", "messages[3].content": "input", "tools[0].function.name": "tools[0].name", "response_format.json_schema.name": "text.format.name",
		"response_format.type": "text.format.type", "reasoning_effort": "reasoning.effort", "temperature": "temperature", "": "",
	} {
		r := inWordsOfResponses(Refusal{Param: param, Message: param + ": x"})
		if r.Param != want || r.Message != want+": x" {
			t.Errorf("%s: got %+v", param, r)
		}
	}
}
