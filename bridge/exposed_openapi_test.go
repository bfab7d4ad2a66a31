package bridge_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/sluice-sse/sluice/bridge"
)

// The description has what is exposed beside our own, all that it refers to, and what is
// answered fits it.
func TestExposedOpenAPI(t *testing.T) {
	addr, _ := newGreeter().Serve(t, "")
	everythingAddr, _ := everything(t).Serve(t, "")
	url := expose(t, addr, bridge.Config{Expose: []string{"test.v1.Greeter"}})
	other := expose(t, everythingAddr, bridge.Config{})

	greeter := newDescription(t, ask(t, url, "GET /openapi.json").body)
	for _, path := range []string{"/v1/completions", "/test.v1.Greeter/Greet", "/test.v1.Greeter/GreetOften", "/greet/{name.first}/{name.mood}", "/shelves/shelves/{name.last}/books:first"} {
		if greeter.document["paths"].(map[string]any)[path] == nil {
			t.Errorf("%s is not described", path)
		}
	}
	for _, path := range []string{"/test.v1.Other/Greet", "/test.v1.Greeter/Talk"} {
		if greeter.document["paths"].(map[string]any)[path] != nil {
			t.Errorf("%s is described", path)
		}
	}
	greet := greeter.document["paths"].(map[string]any)["/greet/{name.first}"].(map[string]any)["get"].(map[string]any)
	var names []string
	for _, p := range greet["parameters"].([]any) {
		names = append(names, p.(map[string]any)["in"].(string)+" "+p.(map[string]any)["name"].(string))
	}
	if got := strings.Join(names, ", "); got != "path name.first, query times, query moods, query text, query name.last, query name.mood" {
		t.Errorf("the parameters of a route: %s", got)
	}
	for _, m := range []string{"message", "error"} {
		body := ask(t, url, "POST /test.v1.Greeter/GreetOften\n\n{\"times\":9}").body
		if !strings.Contains(body, "event: "+m) {
			t.Fatal(body)
		}
		greeter.check(t, "/paths/~1test.v1.Greeter~1GreetOften/post/responses/200/content/text~1event-stream/schema", body)
	}
	greeter.check(t, "/components/schemas/MethodError", parsed(t, ask(t, url, "POST /test.v1.Greeter/GreetOften\n\n{\"times\":-1}").body))
	greeter.check(t, "/components/schemas/test.v1.Greeting", parsed(t, ask(t, url, "POST /test.v1.Greeter/Greet\n\n{}").body))

	of := newDescription(t, ask(t, other, "GET /openapi.json").body)
	const stream = "/paths/~1test.everything.Same~1Say/post/responses/200/content/text~1event-stream/schema"
	for _, text := range everythings {
		of.check(t, "/components/schemas/test.everything.Everything", parsed(t, text))
		of.check(t, stream, ask(t, other, "POST /test.everything.Same/Say\n\n"+text).body)
	}
	if of.fits(t, stream, "event: message\ndata: {\"aInt32\":\"x\"}\n\n") == nil {
		t.Error("what is described takes anything")
	}
}

func parsed(t *testing.T, text string) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// description is one in OpenAPI, whose schemas also look into event streams.
type description struct {
	document map[string]any
	compiler *jsonschema.Compiler
}

func newDescription(t *testing.T, text string) description {
	t.Helper()
	d := description{compiler: jsonschema.NewCompiler()}
	if err := json.Unmarshal([]byte(text), &d.document); err != nil {
		t.Fatal(err)
	}
	d.compiler.AssertContent()
	d.compiler.RegisterContentMediaType(&jsonschema.MediaType{
		Name:     "text/event-stream",
		Validate: func([]byte) error { return nil },
		UnmarshalJSON: func(stream []byte) (any, error) {
			messages, err := all(string(stream))
			var blocks []any
			for _, m := range messages {
				blocks = append(blocks, map[string]any{"event": m.Event, "data": m.Data})
			}
			return blocks, err
		},
	})
	if err := d.compiler.AddResource("openapi.json", parsed(t, text)); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d description) fits(t *testing.T, pointer string, value any) error {
	t.Helper()
	schema, err := d.compiler.Compile("openapi.json#" + pointer)
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}

func (d description) check(t *testing.T, pointer string, value any) {
	t.Helper()
	if err := d.fits(t, pointer, value); err != nil {
		t.Errorf("%s: %v\nof %v", pointer, err, value)
	}
}
