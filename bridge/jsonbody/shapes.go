package jsonbody

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// shape is a member of a request that others take, and this API does not.
type shape struct {
	message protoreflect.FullName
	member  string
	kinds   string // of its value, as jsontext has them; "": all
	say     string // what to send instead
}

const (
	ofRequest  = "completion.v1.CompletionRequest"
	ofMessage  = "completion.v1.Message"
	ofPart     = "completion.v1.Part"
	ofToolCall = "completion.v1.ToolCall"
	ofTool     = "completion.v1.Tool"
	ofFormat   = "completion.v1.ResponseFormat"
)

// shapes are those of OpenAI's API (github.com/openai/openai-openapi,
// CreateChatCompletionRequest, CreateCompletionRequest, CreateResponse), and what else
// is often sent. One that protojson takes has no place here.
var shapes = []shape{
	{ofRequest, "stream", "", "this is a parameter of OpenAI's API, which is at /openai/v1; here, leave it out: the answer is a stream, unless the header Accept prefers application/json"},
	{ofRequest, "stream_options", "", "this is a parameter of OpenAI's API, which is at /openai/v1; here, leave it out: the last event has the usage"},
	{ofRequest, "n", "", "this is a parameter of OpenAI's API, which is at /openai/v1; here, leave it out: a completion is one answer, and another answer is another request"},
	{ofRequest, "best_of", "", "this is a parameter of OpenAI's API, which is at /openai/v1; here, leave it out: a completion is one answer"},
	{ofRequest, "echo", "", "this is a parameter of OpenAI's API, which is at /openai/v1; here, leave it out, and put the prompt before the text yourself"},
	{ofRequest, "suffix", "", `this is a parameter of OpenAI's API, which is at /openai/v1; here, for an upstream that takes it, send it in "extra"`},
	{ofRequest, "functions", "", `this is a parameter of OpenAI's API; send "tools": [{"function": {"name": …, "parameters": …}}]`},
	{ofRequest, "function_call", "", `this is a parameter of OpenAI's API; send "tool_choice"`},
	{ofRequest, "input", "", `this is a parameter of OpenAI's Responses API; send "messages" or "prompt"`},
	{ofRequest, "instructions", "", `this is a parameter of OpenAI's Responses API; send a message with the role "system"`},
	{ofRequest, "max_output_tokens", "", `this is a parameter of OpenAI's Responses API; send "max_completion_tokens" or "max_tokens"`},
	{ofRequest, "system", "", `this is a parameter of Anthropic's API; send a message with the role "system"`},
	{ofRequest, "stop_sequences", "", `this is a parameter of Anthropic's API; send "stop"`},
	{ofRequest, "prompt", "[", "send one text; several prompts are several requests"},
	{ofRequest, "messages", `"{`, `send a list: [{"role": "user", "content": …}]`},
	{ofRequest, "response_format", `"`, `send {"type": …}`},
	{ofRequest, "logprobs", "0", `send "logprobs": true and "top_logprobs" with the number`},

	{ofMessage, "content", "[", `send the parts as "parts", each without its type: [{"text": …}, {"image_url": {"url": …}}]`},
	{ofMessage, "function_call", "", `send "tool_calls": [{"id": …, "name": …, "arguments": …}]`},
	{ofMessage, "reasoning_content", "", `send it as "reasoning"`},
	{ofMessage, "reasoning_details", "", `send it in the message's "extra"`},
	{ofMessage, "refusal", "", `leave it out, or send it as "content"`},
	{ofMessage, "annotations", "", "leave it out: it is of answers"},
	{ofMessage, "audio", "", `for an upstream that wants it back, send it in the message's "extra"`},
	{ofMessage, "tool_calls", "{", `send a list: [{"id": …, "name": …, "arguments": …}]`},

	{ofPart, "type", "", "leave it out: the other member says what the part is"},
	{ofPart, "image_url", `"`, `send {"url": …}`},
	{ofPart, "cache_control", "", `send it in the part's "extra"`},

	{ofToolCall, "type", "", "leave it out: all calls are of functions"},
	{ofToolCall, "function", "", `send "name" and "arguments" beside "id"`},
	{ofToolCall, "arguments", "{", "send the text of the JSON, as the model wrote it"},
	{ofToolCall, "extra_content", "", `send it in the call's "extra"`},

	{ofTool, "name", "", `send it in "function"`},
	{ofTool, "description", "", `send it in "function"`},
	{ofTool, "parameters", "", `send it in "function"`},
	{ofTool, "strict", "", `send it in "function"`},
	{ofTool, "input_schema", "", `send it as "parameters" in "function"`},

	{ofFormat, "schema", "", `send "json_schema": {"name": …, "schema": …} and the type "json_schema"`},
	{ofFormat, "name", "", `send it in "json_schema"`},
	{ofFormat, "strict", "", `send it in "json_schema"`},
}

// insteadOf returns what to send instead of a member of a message, or "" if there is
// nothing wrong with it.
func insteadOf(message protoreflect.FullName, member string, kind jsontext.Kind) string {
	for _, known := range shapes {
		if known.message == message && known.member == member && (known.kinds == "" || strings.ContainsRune(known.kinds, rune(kind))) {
			return known.say
		}
	}
	return ""
}
