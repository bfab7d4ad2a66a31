package openai

import (
	"io"
	"math"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// sent is a request that an upstream got.
type sent struct {
	method, url, body string
	header            http.Header
}

// recorder responds to every request with an empty stream, and sends the request.
func recorder(requests chan<- sent) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- sent{method: r.Method, url: r.URL.RequestURI(), body: string(body), header: r.Header}
		io.WriteString(w, "data: [DONE]\n\n")
	}
}

const streaming = `,"stream":true,"stream_options":{"include_usage":true}}`

// TestRequest checks what is sent upstream, to the byte: a parameter that is not set is
// not sent, one that is zero is.
func TestRequest(t *testing.T) {
	const hi = `"messages":[{"role":"user","content":"Hi"}]`
	for _, tc := range []struct {
		name    string
		request string // in proto3 JSON
		want    string // without streaming
		path    string // default /v1/chat/completions
	}{
		{
			name:    "nothing but messages",
			request: `{"model":"m",` + hi + `}`,
			want:    `{"model":"m",` + hi,
		},
		{
			name:    "nothing but a prompt",
			request: `{"model":"m","prompt":""}`,
			want:    `{"model":"m","prompt":""`,
			path:    "/v1/completions",
		},
		{
			name: "zeros are sent",
			request: `{"model":"m",` + hi + `,"temperature":0,"topP":0,"seed":"0","presencePenalty":0,"frequencyPenalty":0,
				"maxTokens":0,"user":"","reasoningEffort":""}`,
			want: `{"model":"m",` + hi + `,"max_tokens":0,"temperature":0,"top_p":0,"seed":0,"presence_penalty":0,"frequency_penalty":0,` +
				`"reasoning_effort":"","user":""`,
		},
		{
			name: "all scalars, with all their digits",
			request: `{"model":"m",` + hi + `,"temperature":0.123456789,"topP":0.7,"stop":["\n","END"],"seed":"9007199254740993",
				"presencePenalty":-0.5,"frequencyPenalty":1.25,"maxTokens":7,"user":"u","reasoningEffort":"low"}`,
			want: `{"model":"m",` + hi + `,"max_tokens":7,"temperature":0.123456789,"top_p":0.7,"stop":["\n","END"],"seed":9007199254740993,` +
				`"presence_penalty":-0.5,"frequency_penalty":1.25,"reasoning_effort":"low","user":"u"`,
		},
		{
			name:    "a legacy completion with parameters",
			request: `{"model":"m","prompt":"Once","temperature":0,"maxTokens":7,"stop":["."]}`,
			want:    `{"model":"m","prompt":"Once","max_tokens":7,"temperature":0,"stop":["."]`,
			path:    "/v1/completions",
		},
		{
			name:    "what is ours stays here",
			request: `{"model":"m",` + hi + `,"disconnectGrace":"5s","idempotencyKey":"k"}`,
			want:    `{"model":"m",` + hi,
		},
		{
			name:    "max_tokens to any model, whatever it is called",
			request: `{"model":"o3-mini",` + hi + `,"maxTokens":7}`,
			want:    `{"model":"o3-mini",` + hi + `,"max_tokens":7`,
		},
		{
			name:    "max_completion_tokens to any model",
			request: `{"model":"m",` + hi + `,"maxCompletionTokens":7}`,
			want:    `{"model":"m",` + hi + `,"max_completion_tokens":7`,
		},
		{
			name:    "a temperature to gpt-5-chat-latest, which takes it",
			request: `{"model":"gpt-5-chat-latest",` + hi + `,"temperature":0.5,"topP":0.5,"presencePenalty":0.5,"logprobs":true}`,
			want:    `{"model":"gpt-5-chat-latest",` + hi + `,"temperature":0.5,"top_p":0.5,"presence_penalty":0.5,"logprobs":true`,
		},
		{
			name:    "any effort to any model",
			request: `{"model":"gpt-6-sol",` + hi + `,"maxTokens":7,"temperature":0.5,"reasoningEffort":"x","tools":[{"function":{"name":"f"}}]}`,
			want: `{"model":"gpt-6-sol",` + hi + `,"max_tokens":7,"temperature":0.5,"tools":[{"type":"function","function":{"name":"f"}}],` +
				`"reasoning_effort":"x"`,
		},
		{
			name:    "a local model that is called o1",
			request: `{"model":"o1-open",` + hi + `,"temperature":0.5,"frequencyPenalty":1}`,
			want:    `{"model":"o1-open",` + hi + `,"temperature":0.5,"frequency_penalty":1`,
		},
		{
			name:    "messages to a model for prompts",
			request: `{"model":"davinci",` + hi + `}`,
			want:    `{"model":"davinci",` + hi,
		},
		{
			name:    "a prompt to a model for messages",
			request: `{"model":"gpt-4o","prompt":"Hi"}`,
			want:    `{"model":"gpt-4o","prompt":"Hi"`,
			path:    "/v1/completions",
		},
		{
			name: "what else has a field",
			request: `{"model":"m",` + hi + `,"parallelToolCalls":false,"logitBias":{"50256":-100,"7":0.5},"logprobs":true,"topLogprobs":0,
				"metadata":{"b":"<&>","a":""},"serviceTier":"flex","verbosity":"low"}`,
			want: `{"model":"m",` + hi + `,"logit_bias":{"50256":-100,"7":0.5},"logprobs":true,"top_logprobs":0,"parallel_tool_calls":false,` +
				`"verbosity":"low","service_tier":"flex","metadata":{"a":"","b":"<&>"}`,
		},
		{
			name:    "logprobs of a legacy completion are a number",
			request: `{"model":"m","prompt":"Hi","logprobs":true,"topLogprobs":5}`,
			want:    `{"model":"m","prompt":"Hi","logprobs":5`,
			path:    "/v1/completions",
		},
		{
			name:    "and of the tokens alone, none",
			request: `{"model":"m","prompt":"Hi","logprobs":true}`,
			want:    `{"model":"m","prompt":"Hi","logprobs":0`,
			path:    "/v1/completions",
		},
		{
			name:    "and when they are not wanted, there is nothing",
			request: `{"model":"m","prompt":"Hi","logprobs":false}`,
			want:    `{"model":"m","prompt":"Hi"`,
			path:    "/v1/completions",
		},
		{
			name: "extra as it is written: order of keys, digits, escapes",
			request: `{"model":"m",` + hi + `,"extraJson":"{ \"top_k\": 40,\n \"chat_template_kwargs\": {\"z\":{},\"a\":9007199254740993,` +
				`\"m\":1.0,\"h\":\"<&>\\u00e9\"}}"}`,
			want: `{"model":"m",` + hi + `,"top_k":40,"chat_template_kwargs":{"z":{},"a":9007199254740993,"m":1.0,"h":"<&>\u00e9"}`,
		},
		{
			name:    "extra of nothing",
			request: `{"model":"m",` + hi + `,"extraJson":" { } "}`,
			want:    `{"model":"m",` + hi,
		},
		{
			name:    "extra as a Struct",
			request: `{"model":"m",` + hi + `,"extra":{"min_p":0.05,"chat_template_kwargs":{"enable_thinking":false},"big":1000000,"none":null}}`,
			want:    `{"model":"m",` + hi + `,"big":1000000,"chat_template_kwargs":{"enable_thinking":false},"min_p":0.05,"none":null`,
		},
		{
			name: "schemas as they are written",
			request: `{"model":"m",` + hi + `,"tools":[{"function":{"name":"f","parametersJson":"{\"type\":\"object\",\"properties\":{\"z\":` +
				`{\"maximum\":18446744073709551615},\"a\":{}}}"}}],"responseFormat":{"type":"json_schema","jsonSchema":{"name":"s","schemaJson":` +
				`"{\"type\": \"object\", \"b\": [1, 2], \"a\": \"<\"}"}}}`,
			want: `{"model":"m",` + hi + `,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":` +
				`{"z":{"maximum":18446744073709551615},"a":{}}}}}],"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":` +
				`{"type":"object","b":[1,2],"a":"<"}}}`,
		},
		{
			// ai.google.dev/gemini-api/docs/thought-signatures, openrouter.ai/docs on
			// preserving reasoning_details, api-docs.deepseek.com/guides/thinking_mode
			name: "what providers want back",
			request: `{"model":"m","messages":[{"role":"assistant","reasoning":"Hm","extra":{"reasoning_details":[{"type":"reasoning.encrypted","data":"x"}]},
				"toolCalls":[{"id":"a","name":"browser.tabs.open","arguments":"{","extra":{"extra_content":{"google":{"thought_signature":"s+/="}}}}]},
				{"role":"tool","toolCallId":"a","content":"ok","name":"browser.tabs.open"}]}`,
			want: `{"model":"m","messages":[{"role":"assistant","content":null,"reasoning_content":"Hm",` +
				`"tool_calls":[{"id":"a","type":"function","function":{"name":"browser.tabs.open","arguments":"{"},` +
				`"extra_content":{"google":{"thought_signature":"s+/="}}}],"reasoning_details":[{"data":"x","type":"reasoning.encrypted"}]},` +
				`{"role":"tool","content":"ok","name":"browser.tabs.open","tool_call_id":"a"}]`,
		},
		{
			name:    "a turn that was empty",
			request: `{"model":"m","messages":[{"role":"assistant"},{"role":"assistant","content":"","name":"Ann"}]}`,
			want:    `{"model":"m","messages":[{"role":"assistant","content":""},{"role":"assistant","content":"","name":"Ann"}]`,
		},
		{
			name: "parts of each kind, and of one that has no field",
			request: `{"model":"m","messages":[{"role":"user","parts":[{"text":"Hi","extra":{"cache_control":{"type":"ephemeral"}}},
				{"inputAudio":{"data":"AAAA","format":"wav"}},{"file":{"fileData":"data:application/pdf;base64,AAAA","filename":"a.pdf"}},
				{"file":{"fileId":"file-1"}},{"extra":{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}}]}]}`,
			want: `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"Hi","cache_control":{"type":"ephemeral"}},` +
				`{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}},` +
				`{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA","filename":"a.pdf"}},` +
				`{"type":"file","file":{"file_id":"file-1"}},{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}]}]`,
		},
		{
			name: "a turn that called tools, and their answers",
			request: `{"model":"m","messages":[{"role":"developer","content":"Be brief"},
				{"role":"assistant","toolCalls":[{"index":0,"id":"a","name":"weather","arguments":"{}"},{"id":"b","name":"time"}]},
				{"role":"tool","toolCallId":"a","content":""},{"role":"tool","toolCallId":"b","content":"<noon>"}]}`,
			want: `{"model":"m","messages":[{"role":"developer","content":"Be brief"},` +
				`{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"weather","arguments":"{}"}},` +
				`{"id":"b","type":"function","function":{"name":"time","arguments":""}}]},` +
				`{"role":"tool","content":"","tool_call_id":"a"},{"role":"tool","content":"<noon>","tool_call_id":"b"}]`,
		},
		{
			name: "parts",
			request: `{"model":"m","messages":[{"role":"user","parts":[{"text":"What is this?"},{"text":""},
				{"imageUrl":{"url":"https://example.com/a.png"}},{"imageUrl":{"url":"data:,x","detail":"low"}}]}]}`,
			want: `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"What is this?"},{"type":"text","text":""},` +
				`{"type":"image_url","image_url":{"url":"https://example.com/a.png"}},` +
				`{"type":"image_url","image_url":{"url":"data:,x","detail":"low"}}]}]`,
		},
		{
			name: "tools, with a choice in a word",
			request: `{"model":"m",` + hi + `,"toolChoice":"required","tools":[{"function":{"name":"f"}},
				{"type":"function","function":{"name":"g","description":"d","parameters":{"type":"object","properties":{}},"strict":false}},
				{"function":{"name":"h","parameters":{}}}]}`,
			want: `{"model":"m",` + hi + `,"tools":[{"type":"function","function":{"name":"f"}},` +
				`{"type":"function","function":{"name":"g","description":"d","parameters":{"properties":{},"type":"object"},"strict":false}},` +
				`{"type":"function","function":{"name":"h","parameters":{}}}],"tool_choice":"required"`,
		},
		{
			name: "tools, with a choice of one",
			request: `{"model":"m",` + hi + `,"toolChoice":{"type":"function","function":{"name":"f"}},
				"tools":[{"function":{"name":"f"}}]}`,
			want: `{"model":"m",` + hi + `,"tools":[{"type":"function","function":{"name":"f"}}],` +
				`"tool_choice":{"function":{"name":"f"},"type":"function"}`,
		},
		{
			name:    "a response format",
			request: `{"model":"m",` + hi + `,"responseFormat":{"type":"json_object"}}`,
			want:    `{"model":"m",` + hi + `,"response_format":{"type":"json_object"}`,
		},
		{
			name: "a response format with a schema",
			request: `{"model":"m",` + hi + `,"responseFormat":{"type":"json_schema","jsonSchema":
				{"name":"s","description":"d","schema":{"anyOf":[{"type":"null"},{"minimum":0.5}]},"strict":true}}}`,
			want: `{"model":"m",` + hi + `,"response_format":{"type":"json_schema","json_schema":` +
				`{"name":"s","description":"d","schema":{"anyOf":[{"type":"null"},{"minimum":0.5}]},"strict":true}}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := new(completionv1.CompletionRequest)
			if err := protojson.Unmarshal([]byte(tc.request), req); err != nil {
				t.Fatal(err)
			}
			requests := make(chan sent, 1)
			if err := generate(t.Context(), serve(t, recorder(requests)), req, ignore); err != nil {
				t.Fatal(err)
			}
			got := <-requests
			if want := tc.want + streaming; got.body != want {
				t.Errorf("body\n got %s\nwant %s", got.body, want)
			}
			if tc.path == "" {
				tc.path = "/v1/chat/completions"
			}
			if got.method != "POST" || got.url != tc.path {
				t.Errorf("got %s %s, want POST %s", got.method, got.url, tc.path)
			}
		})
	}
}

// TestNotJSON checks that a request which cannot be written as JSON is not sent.
func TestNotJSON(t *testing.T) {
	for name, change := range map[string]func(*completionv1.CompletionRequest){
		"a number":   func(r *completionv1.CompletionRequest) { r.Temperature = proto.Float64(math.NaN()) },
		"extra_json": func(r *completionv1.CompletionRequest) { r.ExtraJson = `{"a":}` },
		"no object":  func(r *completionv1.CompletionRequest) { r.ExtraJson = `1` },
		"parameters_json": func(r *completionv1.CompletionRequest) {
			r.Tools = []*completionv1.Tool{{Function: &completionv1.Function{Name: "f", ParametersJson: `{"a"`}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
			req := chat()
			change(req)
			err := generate(t.Context(), e, req, ignore)
			failed, ok := err.(*failure.Error)
			if !ok || failed.Reason != failure.InvalidRequest || !strings.Contains(failed.Message, "JSON") {
				t.Errorf("got %v, want INVALID_REQUEST", err)
			}
		})
	}
}
