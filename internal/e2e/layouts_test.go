package e2e

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// volatile matches what differs between two completions that are the same.
var volatile = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`cmpl[_-][0-9A-Z]{26}`), "ID"},
	{regexp.MustCompile(`"created":[1-9]\d+`), `"created":TIME`},
	{regexp.MustCompile(`"createTime":\s*"[-0-9T:.]+Z"`), `"createTime":"TIME"`},
	{regexp.MustCompile(`X-Request-Id: [A-Z2-7]{26}\n`), "X-Request-Id: RANDOM\n"},
	{regexp.MustCompile(`Date: .*\n`), "Date: NOW\n"},
	{regexp.MustCompile(`Content-Length: \d+\n`), "Content-Length: THAT\n"}, // a time's digits vary; client and server count
}

// answerByModel answers with what the model is called.
func answerByModel(w http.ResponseWriter, r *http.Request) {
	switch e2etest.ModelOf(r) {
	case "tools":
		e2etest.Chunk(w, `{"role":"assistant","content":null,"reasoning_content":"Let me\nsee."}`, "null")
		e2etest.Chunk(w, `{"content":"I shall look: \u2028 </script> \u0000 \ud83d\ude00"}`, "null")
		e2etest.Chunk(w, `{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"look","arguments":""}}]}`, "null")
		e2etest.Chunk(w, `{"tool_calls":[{"index":0,"function":{"arguments":"{\"at\":"}},{"index":1,"id":"call_2","function":{"name":"f","arguments":"{}"}}]}`, "null")
		e2etest.Chunk(w, `{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}`, "tool_calls")
		_, _ = io.WriteString(w, `data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}`+"\n\ndata: [DONE]\n\n")
	case "refusal":
		e2etest.Chunk(w, `{"refusal":"I shall not."}`, "content_filter")
	case "breaks":
		e2etest.Text(e2etest.Abort)(w, r)
	case "limits":
		e2etest.Refuse(429, "rate_limit_exceeded", "Retry-After", "7")(w, r)
	}
}

// TestLayoutsAgree checks that two processes answer with the same bytes as one.
func TestLayoutsAgree(t *testing.T) {
	if *shared {
		return // it compares the two others
	}
	u := e2etest.NewUpstream(t, answerByModel)
	env := u.Env()
	args := []string{"--echo-interval=0s", "--max-body=1KiB"}
	one, two := e2etest.Start(t, layouts[0], env, args...), e2etest.Start(t, layouts[1], env, args...)
	ask := func(model string) string {
		return `{"model":"` + model + `","messages":[{"role":"user","content":"Hi"}]}`
	}
	for _, tt := range []struct {
		name, method, path, body string
		accept                   []string // default: a stream, and the whole
		header                   []string
	}{
		{name: "echo", method: "POST", path: "/v1/completions", body: `{"model":"echo","prompt":"One two\nthree."}`},
		{name: "echo of nothing", method: "POST", path: "/v1/completions", body: `{"model":"echo","prompt":""}`},
		{name: "tools", method: "POST", path: "/v1/completions", body: ask("tools")},
		{name: "refusal", method: "POST", path: "/v1/completions", body: ask("refusal")},
		{name: "error after text", method: "POST", path: "/v1/completions", body: ask("breaks")},
		{name: "error", method: "POST", path: "/v1/completions", body: ask("limits")},
		{name: "invalid", method: "POST", path: "/v1/completions", body: `{}`},
		{name: "too large", method: "POST", path: "/v1/completions", body: padded(1025)},
		{name: "unacceptable", method: "POST", path: "/v1/completions", body: ask("tools"), accept: []string{"image/png"}},
		{name: "unknown completion", method: "GET", path: "/v1/completions/cmpl_x"},
		{name: "unknown completion's events", method: "GET", path: "/v1/completions/cmpl_x/events", accept: []string{""}},
		{name: "cancel an unknown completion", method: "POST", path: "/v1/completions/cmpl_x:cancel"},
		{name: "no UTF-8: completion", method: "GET", path: "/v1/completions/%ff"},
		{name: "no UTF-8: events", method: "GET", path: "/v1/completions/%ff/events", accept: []string{""}},
		{name: "no UTF-8: cancel", method: "POST", path: "/v1/completions/%ff:cancel"},
		{name: "no UTF-8: header", method: "POST", path: "/v1/completions", body: `{"prompt":"Hi"}`, header: []string{"Idempotency-Key", "caf\xe9"}},
		{name: "models", method: "GET", path: "/v1/models"},
		{name: "OpenAI: tools", method: "POST", path: "/openai/v1/chat/completions", body: ask("tools")},
		{name: "OpenAI: tools, streamed", method: "POST", path: "/v1/chat/completions", body: `{"model":"tools","stream":true,"messages":[{"role":"user","content":"Hi"}]}`},
		{name: "OpenAI: error after text", method: "POST", path: "/openai/v1/chat/completions", body: `{"model":"breaks","stream":true,"messages":[{"role":"user","content":"Hi"}]}`},
		{name: "OpenAI: error", method: "POST", path: "/openai/v1/chat/completions", body: ask("limits")},
		{name: "OpenAI: invalid", method: "POST", path: "/openai/v1/chat/completions", body: `{"messages":[{"role":"x"}]}`},
		{name: "OpenAI: too large", method: "POST", path: "/openai/v1/chat/completions", body: padded(1025)},
		{name: "OpenAI: legacy", method: "POST", path: "/openai/v1/completions", body: `{"model":"echo","prompt":"One two","stream":true}`},
		{name: "OpenAI: no UTF-8 in a header", method: "POST", path: "/openai/v1/completions", body: `{"prompt":"Hi"}`, header: []string{"Idempotency-Key", "caf\xe9"}},
		{name: "OpenAI: no UTF-8 in a path", method: "GET", path: "/openai/v1/models/%ff"},
		{name: "OpenAI: models", method: "GET", path: "/openai/v1/models"},
		{name: "OpenAI: no such model", method: "GET", path: "/openai/v1/models/a/b"},
		{name: "OpenAI: no such path", method: "GET", path: "/openai/v1/chat"},
		{name: "no such path", method: "GET", path: "/v1/completion"},
		{name: "no such method", method: "PATCH", path: "/v1/completions"},
		{name: "alive", method: "GET", path: "/healthz"},
		{name: "ready", method: "GET", path: "/readyz"},
		{name: "description", method: "GET", path: "/openapi.json"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.accept == nil {
				tt.accept = []string{"", "application/json"}
			}
			for _, accept := range tt.accept {
				first, id := exchange(t, one, tt.method, tt.path, tt.body, accept, tt.header...)
				second, otherID := exchange(t, two, tt.method, tt.path, tt.body, accept, tt.header...)
				if first != second {
					t.Errorf("Accept: %s: one process\n%s\ntwo processes\n%s", accept, first, second)
				}
				if id == "" {
					continue
				}
				for _, suffix := range []string{"", "/events"} {
					first, _ := exchange(t, one, "GET", id+suffix, "", "")
					second, _ := exchange(t, two, "GET", otherID+suffix, "", "")
					if first != second {
						t.Errorf("GET …%s: one process\n%s\ntwo processes\n%s", suffix, first, second)
					}
				}
			}
		})
	}
}

// exchange returns a whole answer as it is on the wire, but for what varies, and
// the path of the completion that it names.
func exchange(t *testing.T, p *e2etest.Program, method, path, body, accept string, header ...string) (answer, location string) {
	t.Helper()
	if accept != "" {
		header = append([]string{"Accept", accept}, header...)
	}
	resp := p.Send(t.Context(), t, method, path, body, header...)
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", resp.Proto, resp.Status)
	for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(resp.Header[name], ", "))
	}
	fmt.Fprintf(&b, "\n%s", reply)
	answer = b.String()
	for _, v := range volatile {
		answer = v.what.ReplaceAllString(answer, v.with)
	}
	return answer, resp.Header.Get("Location")
}
