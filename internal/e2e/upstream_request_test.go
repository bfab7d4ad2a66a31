package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// What callers write and the upstream must read in the same order, with the same
// digits and without escapes: models write arguments in the order of the schema.
const (
	schema = `{"type":"object","properties":{"z":{"type":"string"},"a":{"maximum":18446744073709551615},"m":{"const":"<&>"}},"required":["z","a"]}`
	kwargs = `{"enable_thinking":false,"a":9007199254740993}`
)

// TestRequestAsWritten checks on each face that schemas and extra reach the upstream
// as they are written, and that what providers want back in a history does.
func TestRequestAsWritten(t *testing.T) {
	history := `{"role":"user","content":"Open a tab"},` +
		`{"role":"assistant","content":null,"tool_calls":[{"id":"a","name":"browser.tabs.open","arguments":"{}",` +
		`"extra":{"extra_content":{"google":{"thought_signature":"c2ln"}}}}],"reasoning":"Hm","extra":{"reasoning_details":[{"type":"reasoning.encrypted","data":"x"}]}},` +
		`{"role":"tool","tool_call_id":"a","content":"done"},{"role":"assistant","content":""},{"role":"user","name":"Ann","content":"<ok>"}`
	http1 := `{"model":"m","messages":[` + history + `],"tools":[{"function":{"name":"mcp/server.tabs","parameters":` + schema + `}}],` +
		`"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":` + schema + `}},"extra":{"top_k":40,"chat_template_kwargs":` + kwargs + `},` +
		`"parallel_tool_calls":false,"logit_bias":{"7":-100},"logprobs":true,"top_logprobs":2,"metadata":{"k":"v"},"service_tier":"flex","verbosity":"low","max_completion_tokens":9}`
	want := []string{
		`{"role":"assistant","content":null,"reasoning_content":"Hm","tool_calls":[{"id":"a","type":"function",` +
			`"function":{"name":"browser.tabs.open","arguments":"{}"},"extra_content":{"google":{"thought_signature":"c2ln"}}}],` +
			`"reasoning_details":[{"data":"x","type":"reasoning.encrypted"}]}`,
		`{"role":"assistant","content":""}`,
		`{"role":"user","content":"<ok>","name":"Ann"}`,
		`"function":{"name":"mcp/server.tabs","parameters":` + schema + `}`,
		`"json_schema":{"name":"s","schema":` + schema + `}`,
		`"top_k":40,"chat_template_kwargs":` + kwargs,
		`"parallel_tool_calls":false`, `"logit_bias":{"7":-100}`, `"logprobs":true,"top_logprobs":2`, `"metadata":{"k":"v"}`,
		`"service_tier":"flex"`, `"verbosity":"low"`, `"max_completion_tokens":9`,
	}
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			bodies := make(chan string, 1)
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				bodies <- string(body)
				e2etest.Chunk(w, `{"content":"4"}`, "stop")
			})
			p := e2etest.Start(t, layout, u.Env())
			check := func(face string, a *answer, err error) {
				t.Helper()
				if err != nil || a.status != nil {
					t.Fatalf("%s: got %v, %v", face, a, err)
				}
				got := <-bodies
				for _, w := range want {
					if !strings.Contains(got, w) {
						t.Errorf("%s: the upstream misses %s\nin %s", face, w, got)
					}
				}
			}
			for _, face := range facesOver(true) {
				a, err := face.ask(t.Context(), p, http1)
				check(face.name, a, err)
			}
			for _, face := range facesOver(false) {
				a, err := face.ask(t.Context(), p, asText(t, http1))
				check(face.name, a, err)
			}
		})
	}
}

// asText is the request as callers over gRPC make it, with schemas and extra as text.
func asText(t *testing.T, request string) string {
	t.Helper()
	req := new(completionv1.CompletionRequest)
	if err := protojson.Unmarshal([]byte(request), req); err != nil {
		t.Fatal(err)
	}
	f, s := req.GetTools()[0].GetFunction(), req.GetResponseFormat().GetJsonSchema()
	f.Parameters, f.ParametersJson = nil, schema
	s.Schema, s.SchemaJson = nil, schema
	req.Extra, req.ExtraJson = nil, `{"top_k":40,"chat_template_kwargs":`+kwargs+`}`
	req.Messages[1].Content = nil
	b, err := protojson.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
