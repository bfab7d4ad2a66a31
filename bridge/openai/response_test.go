package openai

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

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
		out = appendRest(t, e, out)
	}
	return string(out), responseEvents(t, string(out), e.From)
}

// appendRest appends what is left of an event, in bits that are not too long.
func appendRest(t testing.TB, e *ResponseEncoder, out []byte) []byte {
	t.Helper()
	for e.HasMore() {
		before := len(out)
		if out = e.AppendMore(out); len(out) == before || len(out) > before+largestBit+minLongText {
			t.Fatalf("a bit of %d bytes", len(out)-before)
		}
	}
	return out
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
			"output_item.added function_call_arguments.delta output_item.added function_call_arguments.done output_item.done function_call_arguments.delta function_call_arguments.done output_item.done",
		`reasoning  ["summary_text:a"]; message completed ["output_text:b" "refusal:c"]; function_call completed x f {}; function_call completed y g {}`, "response.completed completed"},
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

// wholeJSON returns the JSON of a response.
func wholeJSON(w *WholeResponse) string {
	var all []byte
	for rest := w.json(); !rest.empty(); {
		all = rest.append(all)
	}
	return strings.TrimSuffix(string(all), "\n")
}
