package openai

import (
	"context"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

var _ engine.Engine = (*Engine)(nil)

// sent is what an upstream got.
type sent struct {
	method, url, body string
	header            http.Header
}

// recorder answers every request with an empty stream and hands out what it got.
func recorder(requests chan<- sent) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- sent{method: r.Method, url: r.URL.RequestURI(), body: string(body), header: r.Header}
		io.WriteString(w, "data: [DONE]\n\n")
	}
}

const streaming = `,"stream":true,"stream_options":{"include_usage":true}}`

// TestRequest checks what really goes upstream, to the byte: a parameter that is
// unset is not sent, one that is zero is.
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
			name:    "max_completion_tokens for models that reason",
			request: `{"model":"o3-mini",` + hi + `,"maxTokens":7}`,
			want:    `{"model":"o3-mini",` + hi + `,"max_completion_tokens":7`,
		},
		{
			name:    "and for gpt-5",
			request: `{"model":"gpt-5.2",` + hi + `,"maxTokens":7,"temperature":1,"topP":0}`,
			want:    `{"model":"gpt-5.2",` + hi + `,"max_completion_tokens":7,"temperature":1,"top_p":0`,
		},
		{
			name:    "and for those that go-openai knows by name",
			request: `{"model":"gpt-6-sol",` + hi + `,"maxTokens":7,"reasoningEffort":"high"}`,
			want:    `{"model":"gpt-6-sol",` + hi + `,"max_completion_tokens":7,"reasoning_effort":"high"`,
		},
		{
			name: "a turn that called tools, and their answers",
			request: `{"model":"m","messages":[{"role":"developer","content":"Be brief"},
				{"role":"assistant","toolCalls":[{"index":0,"id":"a","name":"weather","arguments":"{}"},{"id":"b","name":"time"}]},
				{"role":"tool","toolCallId":"a","content":""},{"role":"tool","toolCallId":"b","content":"<noon>"}]}`,
			want: `{"model":"m","messages":[{"role":"developer","content":"Be brief"},` +
				`{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"weather","arguments":"{}"}},` +
				`{"id":"b","type":"function","function":{"name":"time","arguments":""}}]},` +
				`{"role":"tool","content":"","tool_call_id":"a"},{"role":"tool","content":"\u003cnoon\u003e","tool_call_id":"b"}]`,
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

// TestAddress checks URLs and headers, Azure's among them.
func TestAddress(t *testing.T) {
	legacy := &completionv1.CompletionRequest{Model: "m", Prompt: proto.String("Hi")}
	model := func(name string) *completionv1.CompletionRequest {
		req := chat()
		req.Model = name
		return req
	}
	for _, tc := range []struct {
		name   string
		config Config // its BaseURL is a path
		req    *completionv1.CompletionRequest
		url    string
		header map[string]string
	}{
		{"openai", Config{BaseURL: "/v1/", Key: key}, chat(), "/v1/chat/completions",
			map[string]string{"Authorization": "Bearer " + key, "Api-Key": "", "Accept": "text/event-stream", "Content-Type": "application/json",
				"Accept-Encoding": "", "Connection": ""}},
		{"openai, no key", Config{BaseURL: "/v1"}, chat(), "/v1/chat/completions", map[string]string{"Authorization": ""}},
		{"openai, another path", Config{BaseURL: "/a/b", APIType: "openai"}, legacy, "/a/b/completions", nil},
		{"openai, a version", Config{BaseURL: "/v1", APIVersion: "preview"}, chat(), "/v1/chat/completions?api-version=preview", nil},
		{"azure", Config{Key: key, APIType: "azure", APIVersion: "2024-10-21"}, chat(),
			"/openai/deployments/m/chat/completions?api-version=2024-10-21", map[string]string{"Authorization": "", "Api-Key": key}},
		{"azure, legacy", Config{Key: key, APIType: "azure", APIVersion: "2024-10-21"}, legacy,
			"/openai/deployments/m/completions?api-version=2024-10-21", nil},
		{"azure, a dot", Config{Key: key, APIType: "azure", APIVersion: "1"}, model("gpt-4.1"),
			"/openai/deployments/gpt-4.1/chat/completions?api-version=1", nil},
		{"azure, a model that would be a path", Config{Key: key, APIType: "azure", APIVersion: "1"}, model("../../x?y=#z"),
			"/openai/deployments/..%2F..%2Fx%3Fy=%23z/chat/completions?api-version=1", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			requests := make(chan sent, 1)
			root := strings.TrimSuffix(serve(t, recorder(requests)).config.BaseURL, "/v1")
			tc.config.BaseURL = root + tc.config.BaseURL
			if err := generate(t.Context(), newEngine(t, tc.config), tc.req, ignore); err != nil {
				t.Fatal(err)
			}
			got := <-requests
			if got.url != tc.url {
				t.Errorf("got %s, want %s", got.url, tc.url)
			}
			for field, want := range tc.header {
				if v := got.header.Get(field); v != want {
					t.Errorf("%s: got %q, want %q", field, v, want)
				}
			}
		})
	}
}

// TestUnsupported checks that what go-openai refuses to send is the caller's to
// put right, and goes nowhere.
func TestUnsupported(t *testing.T) {
	tools := []*completionv1.Tool{{Function: &completionv1.Function{Name: "f"}}}
	input := chat().Messages
	for _, tc := range []struct {
		name string
		req  *completionv1.CompletionRequest
		want string
	}{
		{"messages to a model for prompts", &completionv1.CompletionRequest{Model: "davinci", Messages: input}, "messages: "},
		{"a prompt to a model for messages", &completionv1.CompletionRequest{Model: "gpt-4o", Prompt: proto.String("Hi")}, "prompt: "},
		{"a temperature", &completionv1.CompletionRequest{Model: "o1", Messages: input, Temperature: proto.Float64(0.5)}, "temperature"},
		{"a penalty", &completionv1.CompletionRequest{Model: "o1", Messages: input, PresencePenalty: proto.Float64(0.5)}, "penalties"},
		{"sampling", &completionv1.CompletionRequest{Model: "gpt-6-sol", Messages: input, TopP: proto.Float64(0.5)}, "top_p"},
		{"tools", &completionv1.CompletionRequest{Model: "gpt-6-sol", Messages: input, Tools: tools}, "tools: "},
		{"an effort", &completionv1.CompletionRequest{Model: "gpt-6-sol", Messages: input, ReasoningEffort: proto.String("x")}, "reasoning_effort: "},
		{"a number that JSON does not have", &completionv1.CompletionRequest{Model: "m", Messages: input, Temperature: proto.Float64(math.NaN())}, "JSON"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
			err := generate(t.Context(), e, tc.req, ignore)
			failed, ok := err.(*failure.Error)
			if !ok || failed.Reason != failure.InvalidRequest || !strings.Contains(failed.Message, tc.want) {
				t.Errorf("got %v, want INVALID_REQUEST with %q", err, tc.want)
			}
		})
	}
}

func TestModels(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   string // the models, or the start of the error
	}{
		{"two", 200, `{"object":"list","data":[{"id":"a","object":"model","created":1,"owned_by":"x"},{"id":"b"},{"id":""}]}`, "a b"},
		{"none", 200, `{"object":"list","data":null}`, ""},
		{"odd types", 200, `{"data":[{"id":"a","created":"2024-01-01"},{"id":"b","permission":{},"parent":0}]}`, "a b"},
		{"no list", 200, `[]`, "UPSTREAM_UNAVAILABLE: "},
		{"not JSON", 200, `<html>`, "UPSTREAM_UNAVAILABLE: "},
		{"too long", 200, `{"data":[{"id":"` + strings.Repeat("a", maxModelsBody) + `"}]}`, "UPSTREAM_UNAVAILABLE: "},
		{"a wrong key", 401, `{"error":{"message":"no such key: ` + key + `"}}`, "UPSTREAM_REJECTED: "},
		{"no such path", 404, `{"error":{"message":"no such path"}}`, "UPSTREAM_REJECTED: "},
		{"a redirect", 302, ``, "UPSTREAM_REJECTED: "},
		{"busy", 429, ``, "UPSTREAM_RATE_LIMITED: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != "GET" || r.URL.Path != "/v1/models" || r.Header.Get("Authorization") != "Bearer "+key {
					t.Errorf("got %s %s with %v", r.Method, r.URL, r.Header)
				}
				w.WriteHeader(tc.status)
				io.WriteString(w, tc.body)
			})
			models, err := e.Models(t.Context())
			got := strings.Join(models, " ")
			if err != nil {
				got = err.Error()
			}
			if err == nil && got != tc.want || err != nil && (tc.want == "" || !strings.HasPrefix(got, tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if strings.Contains(got, "secret") {
				t.Errorf("the key is in %s", got)
			}
		})
	}
}

func TestModelsCancelled(t *testing.T) {
	e := serve(t, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGone)
	if _, err := e.Models(ctx); err != errGone {
		t.Errorf("got %v, want the cause of the context", err)
	}
}

func TestNew(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"http", Config{BaseURL: "http://localhost:11434/v1"}, true},
		{"https", Config{BaseURL: "https://api.openai.com/v1", Key: key, APIType: "openai"}, true},
		{"azure", Config{BaseURL: "https://x.openai.azure.com", Key: key, APIType: "azure", APIVersion: "1"}, true},
		{"no URL", Config{}, false},
		{"no scheme", Config{BaseURL: "localhost:8080"}, false},
		{"another scheme", Config{BaseURL: "ftp://secret/"}, false},
		{"no host", Config{BaseURL: "http:///v1"}, false},
		{"not a URL", Config{BaseURL: "http://[secret"}, false},
		{"a password", Config{BaseURL: "http://u:secret@localhost"}, false},
		{"a query", Config{BaseURL: "http://localhost/?k=secret"}, false},
		{"a key with its line end", Config{BaseURL: "http://localhost", Key: key + "\n"}, false},
		{"an unknown type", Config{BaseURL: "http://localhost", APIType: "OPENAI"}, false},
		{"azure without a version", Config{BaseURL: "http://localhost", Key: key, APIType: "azure"}, false},
		{"a negative timeout", Config{BaseURL: "http://localhost", ConnectTimeout: -1}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.cfg)
			if (err == nil) != tc.ok {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("a secret is in %q", err)
			}
		})
	}
}
