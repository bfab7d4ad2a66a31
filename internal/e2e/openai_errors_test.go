package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// openAIRefusal is an error as OpenAI's API has it, in an answer or in a stream.
type openAIRefusal struct {
	Message, Type string
	Param, Code   *string
}

// readOpenAIRefusal takes an error's JSON, which has all its members and no others.
func readOpenAIRefusal(data string) (*openAIRefusal, error) {
	var body struct{ Error map[string]any }
	if err := json.Unmarshal([]byte(data), &body); err != nil || len(body.Error) != 4 {
		return nil, fmt.Errorf("%s: %v", data, err)
	}
	var typed struct{ Error openAIRefusal }
	if err := json.Unmarshal([]byte(data), &typed); err != nil || typed.Error.Message == "" || typed.Error.Type == "" || typed.Error.Code == nil {
		return nil, fmt.Errorf("%s: %v", data, err)
	}
	return &typed.Error, nil
}

// askOpenAI asks for a chat completion.
func askOpenAI(t *testing.T, p *e2etest.Program, stream bool) (resp *http.Response, body string) {
	t.Helper()
	resp = p.Send(t.Context(), t, "POST", "/openai/v1/chat/completions", ofOpenAI(e2etest.Question, stream), "Content-Type", "application/json")
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return resp, string(b)
}

// TestOpenAIUpstreamFailures holds each failure of an upstream against OpenAI's API: the
// same reason, a true status before the first chunk, an error and no end after it, and
// nothing of what the upstream said. Nobody is told to ask again for what may have cost.
func TestOpenAIUpstreamFailures(t *testing.T) {
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"OPENAI_API_KEY": e2etest.Key}
			if f.script != nil {
				env = e2etest.NewUpstream(t, f.script).Env()
			} else {
				env["OPENAI_BASE_URL"] = f.url(t) + "/v1"
			}
			p := e2etest.Start(t, "one process", env, f.args...)
			for _, stream := range []bool{false, true} {
				resp, body := askOpenAI(t, p, stream)
				whole := fmt.Sprint(resp.Header, body)
				for _, secret := range []string{e2etest.RawWords, e2etest.Key, e2etest.Internal, strings.TrimSuffix(strings.SplitAfter(env["OPENAI_BASE_URL"], "//")[1], "/v1")} {
					if strings.Contains(whole, secret) {
						t.Errorf("%q is in %s", secret, whole)
					}
				}
				status, data := f.http, body
				if stream && f.events != 0 {
					blocks := strings.Split(strings.TrimSuffix(body, "\n\n"), "\n\n")
					status, data = 200, strings.TrimPrefix(blocks[len(blocks)-1], "data: ")
					if f.events > 0 && len(blocks) != f.events+1 || strings.Contains(body, "[DONE]") {
						t.Errorf("got %s", body)
					}
				}
				got, err := readOpenAIRefusal(data)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != status || *got.Code != strings.ToLower(f.reason) || (got.Param == nil) != (f.field == "") || got.Param != nil && *got.Param != f.field {
					t.Errorf("got %d %s, want %d, %s, %q", resp.StatusCode, data, status, f.reason, f.field)
				}
				if status == 200 {
					continue
				}
				again := f.reason == "UPSTREAM_RATE_LIMITED" || f.reason == "CONNECT_TIMEOUT"
				if h := resp.Header; h.Get("X-Should-Retry") != fmt.Sprint(again) || h.Get("X-Request-Id") == "" || (h.Get("Retry-After-Ms") != "") != (f.retry > 0) ||
					f.retry > 0 && h.Get("Retry-After-Ms") != fmt.Sprint(f.retry.Milliseconds()) || (h.Get("Retry-After") != "") != (f.retry > 0) {
					t.Errorf("got the headers %v", h)
				}
			}
		})
	}
}

// TestOpenAIBadInput sends what is no request of OpenAI's API, or none that can be had.
func TestOpenAIBadInput(t *testing.T) {
	const chat, legacy = "/openai/v1/chat/completions", "/openai/v1/completions"
	u := e2etest.NewUpstream(t, sayAndEnd)
	p := e2etest.Start(t, "one process", u.Env(), "--max-body=64KiB", "--model=m")
	ask := func(members string) string { return `{"messages":[{"role":"user","content":"Hi"}]` + members + `}` }
	checkRefused(t, p, []badRequest{
		{path: chat, body: ``, status: 400},
		{path: chat, body: `{`, status: 400},
		{path: chat, body: `null`, status: 400},
		{path: chat, body: ask("") + "x", status: 400},
		{path: chat, body: ask(`,"n":1,"n":1`), status: 400},
		{path: chat, body: `{"messages":[{"role":"user","content":"` + "\xff" + `"}]}`, status: 400},
		{path: chat, body: `{"messages":[{"role":"user","content":"\ud800"}]}`, status: 400},
		{path: chat, body: `{"messages":` + strings.Repeat("[", 1000), status: 400},
		{path: chat, body: padded(64<<10 + 1), status: 413},
		{path: chat, body: ask(""), header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415},
		{path: chat, body: ask(""), header: []string{"Content-Encoding", "gzip"}, status: 415},
		{path: chat, body: ask(""), header: []string{"Idempotency-Key", "caf\xe9"}, status: 400},
		{path: chat, body: ask(""), header: []string{"Idempotency-Key", strings.Repeat("k", 256)}, status: 400, param: "idempotency_key"},
		{path: chat, body: ask(""), header: []string{"Origin", "https://evil.test", "Sec-Fetch-Site", "cross-site"}, status: 403, kind: "permission_error"},
		{path: chat, body: `{}`, status: 400, param: "messages"},
		{path: chat, body: ask(`,"temperature":3`), status: 400, param: "temperature"},
		{path: chat, body: ask(`,"top_logprobs":1`), status: 400, param: "top_logprobs"},
		{path: chat, body: ask(`,"tool_choice":"auto"`), status: 400, param: "tool_choice"},
		{path: chat, body: ask(`,"max_tokens":0`), status: 400, param: "max_tokens"},
		{path: chat, body: ask(`,"max_tokens":1,"max_completion_tokens":1`), status: 400, param: "max_completion_tokens"},
		{path: chat, body: ask(`,"stop":[""]`), status: 400, param: "stop[0]"},
		{path: chat, body: ask(`,"logit_bias":{"x":1}`), status: 400, param: "logit_bias"},
		{path: chat, body: ask(`,"response_format":{"type":"grammar"}`), status: 400, param: "response_format.type"},
		{path: chat, body: ask(`,"model":"` + strings.Repeat("m", 300) + `"`), status: 400, param: "model"},
		{path: chat, body: ask(`,"tools":[{"type":"function","function":{"name":""}}]`), status: 400, param: "tools[0].function.name"},
		{path: chat, body: `{"messages":[{"role":"function","content":"a"}]}`, status: 400, param: "messages[0].role"},
		{path: chat, body: `{"messages":[{"role":"tool","content":"a"}]}`, status: 400, param: "messages[0].tool_call_id"},
		{path: chat, body: `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]}`, status: 400, param: "messages[0].content[0].image_url.url"},
		{path: chat, body: `{"messages":[{"role":"user","content":"a","reasoning_content":"b"}]}`, status: 400, param: "messages[0].reasoning_content"},
		{path: chat, body: ask(`,"n":2`), status: 400, param: "n"},
		{path: chat, body: ask(`,"echo":true`), status: 400, param: "echo"},
		{path: chat, body: ask(`,"top_k":{"a":` + strings.Repeat(`{"a":`, 120) + `1` + strings.Repeat(`}`, 120) + `}`), status: 400},
		{path: legacy, body: `{}`, status: 400, param: "prompt"},
		{path: legacy, body: `{"prompt":[1,2,3]}`, status: 400, param: "prompt"},
		{path: legacy, body: `{"prompt":"a","best_of":2}`, status: 400, param: "best_of"},
		{path: legacy, body: `{"prompt":"a","echo":true}`, status: 400, param: "echo"},
		{path: legacy, body: `{"prompt":"a","max_completion_tokens":5}`, status: 400, param: "max_completion_tokens"},
		{method: "GET", path: chat, status: 405},
		{method: "DELETE", path: "/openai/v1/models/m", status: 405},
		{path: "/openai/v1/embeddings", body: `{}`, status: 404, kind: "not_found_error"},
		{path: "/v1/chat", body: `{}`, status: 404, kind: "not_found_error"},
		{method: "GET", path: "/openai/v1/models/none", status: 404, code: "model_not_found", kind: "not_found_error"},
		{method: "GET", path: "/openai/v1/models/%ff", status: 404, kind: "not_found_error"},
	})
	if calls := u.Calls.Load(); calls != 0 {
		t.Errorf("%d calls upstream", calls)
	}
	// Nothing of it is left behind.
	if resp, body := askOpenAI(t, p, true); resp.StatusCode != 200 || !strings.HasSuffix(body, "data: [DONE]\n\n") {
		t.Errorf("then got %s %s", resp.Status, body)
	}
}

func sayAndEnd(w http.ResponseWriter, _ *http.Request) {
	e2etest.Say(w, "Hello")
	e2etest.Chunk(w, `{}`, "stop")
}

// badRequest is what is refused, and how.
type badRequest struct {
	method, path, body string // default: POST
	header             []string
	status             int
	param              string // "": null
	code, kind         string // default: those of a bad request
}

// checkRefused has bad requests refused.
func checkRefused(t *testing.T, p *e2etest.Program, all []badRequest) {
	t.Helper()
	for _, tt := range all {
		if tt.method == "" {
			tt.method = "POST"
		}
		if tt.code == "" {
			tt.code = "invalid_request"
		}
		if tt.kind == "" {
			tt.kind = "invalid_request_error"
		}
		resp := p.Send(t.Context(), t, tt.method, tt.path, tt.body, tt.header...)
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s %s %.120s", tt.method, tt.path, tt.body)
		got, err := readOpenAIRefusal(string(body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		param := ""
		if got.Param != nil {
			param = *got.Param
		}
		if resp.StatusCode != tt.status || param != tt.param || *got.Code != tt.code || got.Type != tt.kind || len(body) > 2000 {
			t.Errorf("%s: got %d %s, want %d, %q, %s, %s", name, resp.StatusCode, body, tt.status, tt.param, tt.code, tt.kind)
		}
		if h := resp.Header; h.Get("X-Should-Retry") != "false" || h.Get("X-Request-Id") == "" || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: got the headers %v", name, h)
		}
	}
}
