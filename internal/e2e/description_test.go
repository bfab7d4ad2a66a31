package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// apiDescription is the OpenAPI description that a program serves. A compiled schema
// also looks into what strings hold: the blocks of an event stream, and their JSON.
type apiDescription struct {
	document map[string]any
	compiler *jsonschema.Compiler
}

func descriptionOf(t *testing.T, p *e2etest.Program) *apiDescription {
	t.Helper()
	resp, body := fetch(t, p, "GET", "/openapi.json")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("got %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	d := &apiDescription{parsed.(map[string]any), jsonschema.NewCompiler()}
	d.compiler.AssertContent()
	d.compiler.AssertFormat()
	d.compiler.RegisterContentMediaType(&jsonschema.MediaType{
		Name:          "text/event-stream",
		Validate:      func(b []byte) error { _, err := e2etest.Messages(bytes.NewReader(b)); return err },
		UnmarshalJSON: blocks,
	})
	if err := d.compiler.AddResource("openapi.json", parsed); err != nil {
		t.Fatal(err)
	}
	return d
}

// blocks returns the blocks of a stream as objects.
func blocks(stream []byte) (any, error) {
	all, err := e2etest.Messages(bytes.NewReader(stream))
	objects := []any{}
	for _, m := range all {
		o := map[string]any{"event": m.Event, "data": m.Data}
		if m.ID != "" {
			o["id"] = m.ID
		}
		objects = append(objects, o)
	}
	return objects, err
}

// at returns what stands at a path of the document, through its references, and
// where that is. It returns nil if there is nothing.
func (d *apiDescription) at(path ...string) (map[string]any, string) {
	node, pointer := d.document, "openapi.json#"
	for _, name := range path {
		next, ok := node[name].(map[string]any)
		if !ok {
			return nil, ""
		}
		node, pointer = next, pointer+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		if to, ok := node["$ref"].(string); ok {
			node, _ = d.at(strings.Split(strings.TrimPrefix(to, "#/"), "/")...)
			pointer = "openapi.json" + to
		}
	}
	return node, pointer
}

// check holds a value against the schema at a path of the document.
func (d *apiDescription) check(value any, path ...string) error {
	node, pointer := d.at(path...)
	if node == nil {
		return fmt.Errorf("nothing is said of %q", path)
	}
	schema, err := d.compiler.Compile(strings.ReplaceAll(pointer, "{", "%7B"))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// checkAnswer holds an answer against what is said of it: its status, its headers
// and its body.
func (d *apiDescription) checkAnswer(resp *http.Response, body []byte, operation ...string) error {
	response := append(slices.Clone(operation), "responses", fmt.Sprint(resp.StatusCode))
	answer, _ := d.at(response...)
	if answer == nil {
		return fmt.Errorf("no status %d is described", resp.StatusCode)
	}
	headers, _ := answer["headers"].(map[string]any)
	for name := range headers {
		header, _ := d.at(append(response, "headers", name)...)
		value := resp.Header.Get(name)
		if value == "" && header["required"] == true {
			return fmt.Errorf("there is no %s", name)
		}
		if schema := header["schema"].(map[string]any); value != "" && schema["type"] == "string" {
			if err := d.check(value, append(response, "headers", name, "schema")...); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for _, name := range []string{"Location", "Retry-After"} {
		if resp.Header.Get(name) != "" && headers[name] == nil {
			return fmt.Errorf("no %s is described", name)
		}
	}
	if resp.StatusCode == http.StatusNoContent {
		return nil
	}
	mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	value := any(string(body))
	if mediaType == "application/json" {
		var err error
		if value, err = jsonschema.UnmarshalJSON(bytes.NewReader(body)); err != nil {
			return err
		}
	}
	return d.check(value, append(response, "content", mediaType, "schema")...)
}

// describedExchange is a request, and the status that it gets.
type describedExchange struct {
	method, path, body string
	status             int
	header             []string
	of                 string // the path in the description; default: path
}

// describedExchanges are requests of all kinds, of which some are about an ended
// completion with the key a, and the id of its last event.
func describedExchanges(id, last string) []describedExchange {
	return []describedExchange{
		{method: "POST", path: "/v1/completions", status: 200, body: `{"model":"echo","prompt":"One two."}`},
		{method: "POST", path: "/v1/completions", status: 200, body: `{"model":"echo","prompt":"One two."}`, header: []string{"Accept", "application/json"}},
		{method: "POST", path: "/v1/completions", status: 200, body: `{"messages":[{"role":"user","content":"Hi"}]}`},
		{method: "POST", path: "/v1/completions", status: 200, body: `{"messages":[{"role":"user","content":"Hi"}]}`, header: []string{"Accept", "application/json"}},
		{method: "POST", path: "/v1/completions", status: 200, body: `{"model":"refusal","messages":[{"role":"user","content":"Hi"}]}`},
		{method: "POST", path: "/v1/completions", status: 200, body: `{"model":"breaks","messages":[{"role":"user","content":"Hi"}]}`},
		{method: "POST", path: "/v1/completions", status: 503, body: `{"model":"breaks","messages":[{"role":"user","content":"Hi"}]}`, header: []string{"Accept", "application/json"}},
		{method: "POST", path: "/v1/completions", status: 429, body: `{"model":"limits","messages":[{"role":"user","content":"Hi"}]}`},
		{method: "POST", path: "/v1/completions", status: 400, body: `{"prompt":"Hi","temperature":9}`},
		{method: "POST", path: "/v1/completions", status: 400, body: `{"prompt":"Hi","promt":""}`},
		{method: "POST", path: "/v1/completions", status: 403, body: `{"prompt":"Hi"}`, header: []string{"Origin", "https://elsewhere.example"}},
		{method: "POST", path: "/v1/completions", status: 406, body: `{"prompt":"Hi"}`, header: []string{"Accept", "image/png"}},
		{method: "POST", path: "/v1/completions", status: 413, body: padded(4<<10 + 1)},
		{method: "POST", path: "/v1/completions", status: 415, body: `{"prompt":"Hi"}`, header: []string{"Content-Type", "text/plain"}},
		{method: "POST", path: "/v1/completions", status: 422, body: `{"model":"echo","prompt":"Three."}`, header: []string{"Idempotency-Key", "a"}},
		{method: "POST", path: "/v1/completions", status: 200, body: `{"prompt":"Hi"}`, header: []string{"Last-Event-ID", last}},
		{method: "POST", path: "/v1/completions", status: 409, body: `{"prompt":"Hi"}`, header: []string{"Last-Event-ID", id + "_99"}},
		{method: "POST", path: "/v1/completions", status: 404, body: `{"prompt":"Hi"}`, header: []string{"Last-Event-ID", "cmpl_x_1"}},
		{method: "GET", path: "/v1/completions/" + id, status: 200, of: "/v1/completions/{id}"},
		{method: "GET", path: "/v1/completions/cmpl_x", status: 404, of: "/v1/completions/{id}"},
		{method: "GET", path: "/v1/completions/" + id + "/events", status: 200, of: "/v1/completions/{id}/events"},
		{method: "GET", path: "/v1/completions/" + id + "/events?last_event_id=" + last, status: 204, of: "/v1/completions/{id}/events"},
		{method: "GET", path: "/v1/completions/" + id + "/events?after_sequence=1", status: 200, of: "/v1/completions/{id}/events"},
		{method: "GET", path: "/v1/completions/" + id + "/events", status: 400, header: []string{"Last-Event-ID", "3"}, of: "/v1/completions/{id}/events"},
		{method: "GET", path: "/v1/completions/" + id + "/events", status: 409, header: []string{"Last-Event-ID", id + "_99"}, of: "/v1/completions/{id}/events"},
		{method: "GET", path: "/v1/completions/cmpl_x/events", status: 404, of: "/v1/completions/{id}/events"},
		{method: "GET", path: "/v1/completions/cmpl_x/events", status: 406, header: []string{"Accept", "application/json"}, of: "/v1/completions/{id}/events"},
		{method: "POST", path: "/v1/completions/" + id + ":cancel", status: 200, of: "/v1/completions/{id}:cancel"},
		{method: "POST", path: "/v1/completions/cmpl_x:cancel", status: 404, of: "/v1/completions/{id}:cancel"},
		{method: "POST", path: "/v1/completions:cancel", status: 200, body: `{"idempotencyKey":"a"}`},
		{method: "POST", path: "/v1/completions:cancel", status: 404, body: `{"idempotency_key":"b"}`},
		{method: "POST", path: "/v1/completions:cancel", status: 400, body: `{}`},
		{method: "GET", path: "/v1/models", status: 200},
		{method: "GET", path: "/healthz", status: 200},
		{method: "GET", path: "/readyz", status: 200},
		{method: "GET", path: "/openapi.json", status: 200},
		{method: "GET", path: "/", status: 200},
		{method: "GET", path: "/client.js", status: 200},
	}
}

// TestDescriptionOfAnswers holds answers of all kinds against the description.
func TestDescriptionOfAnswers(t *testing.T) {
	u := e2etest.NewUpstream(t, answerByModel)
	for _, layout := range layouts {
		p := e2etest.Start(t, layout, u.Env(), "--echo-interval=0s", "--max-body=4KiB", "--model=tools")
		d := descriptionOf(t, p)
		begun := p.Post(t, `{"model":"echo","prompt":"One two.","idempotencyKey":"a"}`)
		told, err := e2etest.Messages(begun.Body)
		if err != nil {
			t.Fatal(err)
		}
		id, last := strings.TrimPrefix(begun.Header.Get("Location"), "/v1/completions/"), told[len(told)-1].ID
		for _, tt := range describedExchanges(id, last) {
			if tt.of == "" {
				tt.of = tt.path
			}
			resp := p.Send(t.Context(), t, tt.method, tt.path, tt.body, tt.header...)
			body, err := io.ReadAll(resp.Body)
			if err == nil && resp.StatusCode != tt.status {
				err = fmt.Errorf("got %s, want %d", resp.Status, tt.status)
			}
			if err == nil {
				err = d.checkAnswer(resp, body, "paths", tt.of, strings.ToLower(tt.method))
			}
			if err != nil {
				t.Errorf("%s: %s %s %s %q: %v\n%s", layout, tt.method, tt.path, tt.body, tt.header, err, body)
			}
		}
	}
}

// TestDescriptionOfRequests checks that the schema takes what the program takes,
// and refuses what it refuses for its form.
func TestDescriptionOfRequests(t *testing.T) {
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) { e2etest.Chunk(w, `{"content":"Yes."}`, "stop") })
	p := e2etest.Start(t, "one process", u.Env(), "--model=m")
	d := descriptionOf(t, p)
	for _, tt := range []struct {
		body string
		ok   bool
	}{
		{`{"prompt":"Hi"}`, true},
		{`{"prompt":"Hi","maxTokens":5,"topP":0.5,"seed":"9007199254740993"}`, true},
		{`{"prompt":"Hi","max_tokens":5,"top_p":0.5,"seed":7,"disconnect_grace":"1.5s"}`, true},
		{`{"prompt":"Hi","stop":["a","b"]}`, true},
		{`{"prompt":"Hi","stop":"a"}`, true},
		{`{"prompt":"Hi","extra":{"top_k":5,"chat_template_kwargs":{"enable_thinking":false}}}`, true},
		{`{"prompt":"Hi","extraJson":"{\"top_k\":5}"}`, true},
		{`{"prompt":"Hi","logit_bias":{"50256":-100}}`, true},
		{`{"messages":[{"role":"user","content":"Hi"}]}`, true},
		{`{"messages":[{"role":"user","parts":[{"text":"Hi"},{"image_url":{"url":"https://example.com/a.png"}}]}]}`, true},
		{`{"messages":[{"role":"user","parts":[{"extra":{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}}]}]}`, true},
		{`{"messages":[{"role":"user","parts":[{"text":"Hi","imageUrl":{"url":"https://example.com/a.png"}}]}]}`, false},
		{`{"messages":[{"role":"assistant","toolCalls":[{"id":"c","name":"f","arguments":"{}"}]},{"role":"tool","toolCallId":"c","content":"1"}]}`, true},
		{`{"messages":[{"role":"user","content":"Hi"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"b":{},"a":{}}},"strict":true}}],"tool_choice":"auto"}`, true},
		{`{"messages":[{"role":"user","content":"Hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"}}}}`, true},
		{`{}`, false},
		{`{"prompt":"Hi","messages":[{"role":"user","content":"Hi"}]}`, false},
		{`{"prompt":5}`, false},
		{`{"prompt":"Hi","stream":true}`, false},
		{`{"prompt":"Hi","max_tokens":"many"}`, false},
		{`{"prompt":"Hi","disconnect_grace":"soon"}`, false},
		{`{"prompt":"Hi","stop":[["a"]]}`, false},
		{`{"prompt":"Hi","extra":[]}`, false},
		{`{"messages":[{"role":"user","parts":[{"type":"text","text":"Hi"}]}]}`, false},
		{`{"messages":[{"role":"user","content":{"text":"Hi"}}]}`, false},
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.check(value, "components", "schemas", "CompletionRequest"); (err == nil) != tt.ok {
			t.Errorf("%s: the schema says %v", tt.body, err)
		}
		resp := p.Post(t, tt.body)
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 && tt.ok || resp.StatusCode != 400 && !tt.ok {
			t.Errorf("%s: got %s %s", tt.body, resp.Status, body)
		}
	}
}

// TestDescriptionIsStrict checks the checks: a stream is looked into.
func TestDescriptionIsStrict(t *testing.T) {
	d := descriptionOf(t, e2etest.Start(t, "one process", nil))
	const id = "id: cmpl_A_1\n\n"
	for stream, ok := range map[string]bool{
		"event: delta\ndata: {\"sequence\":1,\"delta\":{\"text\":\"a\"}}\n" + id:           true,
		"event: delta\ndata: {\"sequence\":1,\"delta\":{\"text\":1}}\n" + id:               false,
		"event: delta\ndata: {\"sequence\":1}\n" + id:                                      false,
		"event: delta\ndata: {\"sequence\":1,\"delta\":{}}\n\n":                            false, // no id
		"event: gamma\ndata: {\"sequence\":1,\"delta\":{}}\n" + id:                         false,
		"event: error\ndata: {\"sequence\":1,\"delta\":{}}\n" + id:                         false,
		"event: finished\ndata: {\"sequence\":1,\"finished\":{\"finishReason\":9}}\n" + id: false,
	} {
		if err := d.check(stream, "components", "schemas", "EventStream"); (err == nil) != ok {
			t.Errorf("%q: %v", stream, err)
		}
	}
}
