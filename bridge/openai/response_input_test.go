package openai

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/failure"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// findTest has a response with an id of its own, and none else.
func findTest(_ context.Context, completion string) (*WholeResponse, error) {
	w := NewWholeResponse(nil)
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
		"thoughts":     {`[{"type":"reasoning","summary":[{"type":"summary_text","text":"a"}],"content":[{"type":"reasoning_text","text":"b"}],"encrypted_content":""},{"type":"reasoning","summary":[],"content":"c"}]`, `[{"role":"assistant","reasoning":"a\n\nbc"}]`},
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
		item(`{"role":"user"}`):                                                                                     "input[0].content: is required",
		item(`{"role":"user","content":"a","phase":"x"}`):                                                           "input[0].phase: is not known here",
		item(`{"type":"reasoning","summary":[],"encrypted_content":"x"}`):                                           "input[0].encrypted_content: cannot be had",
		item(`{"type":"item_reference","id":"msg_x"}`):                                                              "input[0].id: is that of no item",
		item(`{"type":"item_reference","id":"msg_01JB2QK4W6ZV9T3M8H5N7R0XYD_9"}`):                                   "input[0].id: is that of no item",
		item(`{"type":"item_reference","id":"msg_01JB2QK4W6ZV9T3M8H5N7R0XYD_0"}`):                                   "input[0].id: is that of no item",
		item(`{"type":"item_reference","id":"msg_01JB2QK4W6ZV9T3M8H5N7R0XYD_99999999999999999"}`):                   "input[0].id: is that of no item",
		item(`{"type":"item_reference","id":"msg_unknown_1"}`):                                                      "no such completion",
		item(`{"type":"reasoning","summary":[]}`):                                                                   "input: must not be empty",
		item(`{"type":"reasoning","summary":[{"type":"input_image","image_url":"x"}]}`):                             "input[0].summary[0].type: must be that of a text",
		item(`{"type":"function_call_output","output":"x"}`):                                                        "input[0].call_id: is required",
		item(`{"type":"function_call_output","call_id":"c","output":"x","content":"y"}`):                            "input[0].content: is not of an item of this type",
		item(`{"type":"function_call","name":"f","arguments":"{}"}`):                                                "input[0].call_id: is required",
		item(`{"type":"function_call","call_id":"c","arguments":"{}"}`):                                             "input[0].name: is required",
		item(`{"role":"user","content":"a","name":"n"}`):                                                            "input[0].name: is not of an item of this type",
		item(`{"role":"user","content":"a"},{"role":"tool","content":"a"}`):                                         "input[1].role: must be user",
		item(`{"type":"message","content":"a"}`):                                                                    "input[0].role: must be user",
		with(`"text":{"format":{"type":"json_object","schema":{"a":1}}}`):                                           "text.format.schema: is of json_schema alone",
		with(`"tool_choice":{"type":"function"}`):                                                                   "tool_choice.name: is required",
		with(`"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function"}]}`):                  "tool_choice.tools[0].name: is required",
		with(`"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f","x":1}]}`): "tool_choice.tools[0].x: is not known here",
		with(`"tools":[{"type":"web_search"}]`):                                                                     "tools[0].type: must be function",
		with(`"tools":[{"type":"function","function":{"name":"f"}}]`):                                               "tools[0].function: is not known here",
		with(`"tool_choice":{"type":"web_search"}`):                                                                 "tool_choice.type: must be function",
		with(`"tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"mcp"}]}`):                       "tool_choice.tools[0].type: must be function",
		with(`"text":{"format":{"type":"json_schema","schema":5}}`):                                                 "text.format.schema: must be an object",
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
	c := conversation{most: 1 << 20, room: 1 << 20, find: func(_ context.Context, completion string) (*WholeResponse, error) {
		w := NewWholeResponse(nil)
		own := proto.CloneOf(created)
		own.GetCreated().Id = completion
		_, _ = w.Add(own), w.Add(thought("a"))
		return w, w.Add(ended(completionv1.Finished_STOP))
	}}
	for i := range maxFound + 1 {
		err := c.reference(t.Context(), fmt.Sprintf("rs_%d_0", i))
		if (err != nil) != (i == maxFound) {
			t.Fatalf("reference %d: %v", i, err)
		}
	}
}

// Responses that are referred to are held as a whole, however short the items are that the
// request is about.
func TestReferencesToLongResponses(t *testing.T) {
	const each = 1000
	c := conversation{most: each, room: roomOverMost * each, find: func(_ context.Context, completion string) (*WholeResponse, error) {
		w := NewWholeResponse(nil)
		own := proto.CloneOf(created)
		own.GetCreated().Id = completion
		for _, event := range []*completionv1.CompletionEvent{own, thought("a"), text1(strings.Repeat("b", each-1))} {
			if err := w.Add(event); err != nil {
				t.Fatal(err)
			}
		}
		return w, nil
	}}
	for i := range roomOverMost + 1 {
		for range 3 { // which is one response
			err := c.reference(t.Context(), fmt.Sprintf("rs_%d_0", i))
			if (err != nil) != (i == roomOverMost) {
				t.Fatalf("reference %d: %v", i, err)
			}
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
