package openai

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// What Open Responses (openresponses.org) says that an object must have, each member with
// its types: rebuilt from its reference of 2026-04-24.
var openResponses = map[string]string{
	"response": "id:string object:string created_at:integer completed_at:integer|null status:string incomplete_details:object|null model:string " +
		"previous_response_id:string|null instructions:string|array|null output:array error:object|null tools:array tool_choice:string|object truncation:string " +
		"parallel_tool_calls:boolean text:object top_p:number presence_penalty:number frequency_penalty:number top_logprobs:integer temperature:number " +
		"reasoning:object|null user:string|null usage:object|null max_output_tokens:integer|null max_tool_calls:integer|null store:boolean background:boolean " +
		"service_tier:string metadata:object|null safety_identifier:string|null prompt_cache_key:string|null",
	"usage":         "input_tokens:integer output_tokens:integer total_tokens:integer input_tokens_details:object output_tokens_details:object",
	"message":       "type:string id:string status:string role:string content:array",
	"function_call": "type:string id:string call_id:string name:string arguments:string status:string",
	"reasoning":     "type:string id:string summary:array",
	"output_text":   "type:string text:string annotations:array logprobs:array",
	"summary_text":  "type:string text:string",

	"response.created": "response:object", "response.in_progress": "response:object", "response.completed": "response:object",
	"response.output_item.added": "output_index:integer item:object", "response.output_item.done": "output_index:integer item:object",
	"response.content_part.added":            "item_id:string output_index:integer content_index:integer part:object",
	"response.content_part.done":             "item_id:string output_index:integer content_index:integer part:object",
	"response.output_text.delta":             "item_id:string output_index:integer content_index:integer delta:string logprobs:array",
	"response.output_text.done":              "item_id:string output_index:integer content_index:integer text:string logprobs:array",
	"response.function_call_arguments.delta": "item_id:string output_index:integer delta:string",
	"response.function_call_arguments.done":  "item_id:string output_index:integer arguments:string",
	"response.reasoning_summary_part.added":  "item_id:string output_index:integer summary_index:integer part:object",
	"response.reasoning_summary_part.done":   "item_id:string output_index:integer summary_index:integer part:object",
	"response.reasoning_summary_text.delta":  "item_id:string output_index:integer summary_index:integer delta:string",
	"response.reasoning_summary_text.done":   "item_id:string output_index:integer summary_index:integer text:string",
}

// checkOpenResponses holds an object against that, and what is in it.
func checkOpenResponses(t *testing.T, kind string, object map[string]any) {
	t.Helper()
	if openResponses[kind] == "" {
		t.Errorf("there is no %q", kind)
	}
	for member := range strings.FieldsSeq(openResponses[kind]) {
		name, types, _ := strings.Cut(member, ":")
		value, ok := object[name]
		if got := typesOf(value); !ok || !slices.ContainsFunc(strings.Split(types, "|"), func(s string) bool { return slices.Contains(got, s) }) {
			t.Errorf("%s: %s is %v, not %s", kind, name, value, types)
		}
	}
	for _, name := range []string{"response", "item", "part", "usage"} {
		inner, ok := object[name].(map[string]any)
		if !ok {
			continue
		}
		if of, ok := inner["type"].(string); ok {
			name = of
		}
		checkOpenResponses(t, name, inner)
	}
	for _, name := range []string{"output", "content", "summary"} {
		all, _ := object[name].([]any)
		for _, inner := range all {
			inner := inner.(map[string]any)
			checkOpenResponses(t, inner["type"].(string), inner)
		}
	}
}

// typesOf returns the names of the types that a value has.
func typesOf(value any) []string {
	switch v := value.(type) {
	case nil:
		return []string{"null"}
	case bool:
		return []string{"boolean"}
	case string:
		return []string{"string"}
	case float64:
		if v == math.Trunc(v) {
			return []string{"integer", "number"}
		}
		return []string{"number"}
	case []any:
		return []string{"array"}
	}
	return []string{"object"}
}

// playOpenResponses calls the tool that it has been offered, once; else it says what it was
// asked, as far as its texts go, and what there was beside them.
func playOpenResponses(w http.ResponseWriter, r *http.Request) {
	var req sceneRequest
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		e2etest.Refuse(400, "odd")(w, r)
		return
	}
	last := req.Messages[len(req.Messages)-1]
	if len(req.Tools) > 0 && last.Role == "user" {
		for _, piece := range []string{`"id":"call_1","type":"function","function":{"name":"get_weather","arguments":""}`, `"function":{"arguments":"{\"location\":"}`, `"function":{"arguments":"\"SF\"}"}`} {
			e2etest.Chunk(w, `{"tool_calls":[{"index":0,`+piece+`}]}`, "null")
		}
		endScene(w, "tool_calls")
		return
	}
	for _, m := range req.Messages {
		var parts []map[string]any
		if json.Unmarshal(m.Content, &parts) != nil || len(parts) == 0 {
			e2etest.Say(w, m.Role+" ")
			continue
		}
		for _, p := range parts {
			e2etest.Say(w, fmt.Sprint(m.Role, ":", p["type"], " "))
		}
	}
	endScene(w, "stop")
}

// TestOpenResponses are the cases of Open Responses' compliance tests, by their published
// ids, but for those of tools that a server has itself. The round trip sends the call back,
// in place of previous_response_id, which is refused here.
func TestOpenResponses(t *testing.T) {
	const (
		tools   = `"tools":[{"type":"function","name":"get_weather","description":"Get the current weather","parameters":{"type":"object","properties":{"location":{"type":"string"}},"required":["location"]}}]`
		weather = `"input":[{"type":"message","role":"user","content":"What's the weather like in San Francisco?"}],` + tools
	)
	p := e2etest.Start(t, "two processes", e2etest.NewUpstream(t, playOpenResponses).Env())
	for _, tt := range []struct {
		id, body string
		stream   bool
		want     string // the text, or the call
	}{
		{"basic-response", `"input":[{"type":"message","role":"user","content":"Say hello in exactly 3 words."}]`, false, "user "},
		{"streaming-response", `"input":[{"type":"message","role":"user","content":"Count from 1 to 5."}]`, true, "user "},
		{"system-prompt", `"input":[{"type":"message","role":"system","content":"You are a pirate."},{"type":"message","role":"user","content":"Say hello."}]`, false, "system user "},
		{"tool-calling", weather, false, `get_weather call_1 {"location":"SF"}`},
		{"tool-calling-streaming", weather, true, `get_weather call_1 {"location":"SF"}`},
		{"function-call-roundtrip", `"input":[{"type":"message","role":"user","content":"The weather?"},{"type":"function_call","call_id":"call_1","name":"get_weather","arguments":"{}"},` +
			`{"type":"function_call_output","call_id":"call_1","output":"64 degrees and clear"}],"tool_choice":{"type":"function","name":"get_weather"},` + tools, false, "user assistant tool "},
		{"image-input", `"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"What is it?"},{"type":"input_image","image_url":"data:image/png;base64,iVBORw0KGgo="}]}]`, false, "user:text user:image_url "},
		{"file-input", `"input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"Its title?"},{"type":"input_file","filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0xLjE="}]}]`, false, "user:text user:file "},
		{"multi-turn", `"input":[{"type":"message","role":"user","content":"My name is Alice."},{"type":"message","role":"assistant","content":"Hello Alice!"},{"type":"message","role":"user","content":"What is my name?"}]`, false, "user assistant user "},
	} {
		t.Run(tt.id, func(t *testing.T) {
			body := fmt.Sprintf(`{"model":"m","stream":%v,%s}`, tt.stream, tt.body)
			resp := p.Send(t.Context(), t, "POST", "/v1/responses", body, "Content-Type", "application/json", "Authorization", "Bearer anything")
			if resp.StatusCode != 200 {
				b, _ := io.ReadAll(resp.Body)
				t.Fatalf("%s %s", resp.Status, b)
			}
			var response map[string]any
			if !tt.stream {
				if err := json.NewDecoder(resp.Body).Decode(&response); err != nil {
					t.Fatal(err)
				}
			} else {
				response = lastOfOpenResponses(t, resp.Body)
			}
			checkOpenResponses(t, "response", response)
			if got := outputOf(response); response["status"] != "completed" || got != tt.want {
				t.Errorf("got %s, %v, want %s", got, response["status"], tt.want)
			}
		})
	}
}

// lastOfOpenResponses checks the events of a response, and returns it.
func lastOfOpenResponses(t *testing.T, stream io.Reader) (response map[string]any) {
	t.Helper()
	r := sse.NewReader(stream, 1<<20)
	for m, err := r.Next(); err == nil; m, err = r.Next() {
		var event map[string]any
		if err := json.Unmarshal([]byte(m.Data), &event); err != nil || event["type"] != m.Event || typesOf(event["sequence_number"])[0] != "integer" {
			t.Fatalf("got the event %+v: %v", m, err)
		}
		checkOpenResponses(t, m.Event, event)
		response, _ = event["response"].(map[string]any)
	}
	return response
}

// outputOf says what is in the only item of a response.
func outputOf(response map[string]any) string {
	items := response["output"].([]any)
	if len(items) != 1 {
		return fmt.Sprintf("%d items", len(items))
	}
	it := items[0].(map[string]any)
	if it["type"] == "function_call" {
		return fmt.Sprint(it["name"], " ", it["call_id"], " ", it["arguments"])
	}
	return it["content"].([]any)[0].(map[string]any)["text"].(string)
}
