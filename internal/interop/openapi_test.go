package interop

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// operation is what is looked at of one in OpenAPI.
type operation struct {
	OperationID string
	Parameters  []struct{ Name, In string }
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// Each route of a service of Google's is described, by a path of its own: routes such as
// {name=users/*} and {name=rooms/*} differ in nothing but what a variable holds. What is
// answered is as it is described.
func TestOpenAPI(t *testing.T) {
	s := startServers(t)
	bridge := startBridge(t, "--server="+s.Showcase, "--expose=*")
	text := ask(t, bridge, "GET /openapi.json", nil).body
	var d struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	described := map[string]bool{}
	shapes := map[string]string{}
	for path, operations := range d.Paths {
		shape := placeholder.ReplaceAllString(path, "{}")
		if other := shapes[shape]; other != "" || strings.ContainsAny(path, "*= ") {
			t.Errorf("%s is no path, or the same as %s", path, other)
		}
		shapes[shape] = path
		for _, raw := range operations {
			var operation operation
			if json.Unmarshal(raw, &operation) != nil || !strings.HasPrefix(operation.OperationID, "google.") {
				continue // of our own
			}
			described[operation.OperationID] = true
			var names []string
			for _, p := range operation.Parameters {
				if p.In == "path" {
					names = append(names, "{"+p.Name+"}")
				}
			}
			if want := placeholder.FindAllString(path, -1); !slices.Equal(names, want) {
				t.Errorf("%s has the parameters %s", path, names)
			}
		}
	}
	routes := 0
	for _, name := range []protoreflect.FullName{"Echo", "Identity", "Messaging", "Compliance", "SequenceService"} {
		service, err := s.files.FindDescriptorByName("google.showcase.v1beta1." + name)
		if err != nil {
			t.Fatal(err)
		}
		methods := service.(protoreflect.ServiceDescriptor).Methods()
		for i := range methods.Len() {
			m := methods.Get(i)
			rule, _ := proto.GetExtension(m.Options(), annotations.E_Http).(*annotations.HttpRule)
			if m.IsStreamingClient() || rule == nil {
				continue
			}
			for n := range 2 + len(rule.GetAdditionalBindings()) {
				id := string(m.FullName())
				if n > 0 {
					id += "_" + string(rune('1'+n))
				}
				if routes++; !described[id] {
					t.Errorf("%s is not described", id)
				}
			}
		}
	}
	if routes < 60 {
		t.Errorf("there are %d routes", routes)
	}
	user := create(t, bridge, `POST /v1beta1/users`, `{"user":{"displayName":"Ada","email":"ada@example.com","heightFeet":5.5}}`)
	checkSchema(t, text, "google.showcase.v1beta1.User", ask(t, bridge, "GET /v1beta1/"+user, nil))
	checkSchema(t, text, "google.showcase.v1beta1.EnumResponse", ask(t, bridge, "GET /v1beta1/compliance/enum?unknownEnum=true", nil))
	checkSchema(t, text, "google.showcase.v1beta1.PagedExpandLegacyMappedResponse", ask(t, bridge, "POST /v1beta1/echo:pagedExpandLegacyMapped\n\n{\"content\":\"ant bee\",\"pageSize\":3}", nil))
	checkSchema(t, text, "google.showcase.v1beta1.EchoErrorDetailsResponse", ask(t, bridge, "POST /v1beta1/echo:error-details\n\n{\"singleDetailText\":\"x\"}", nil))
}

// checkSchema holds what was answered to a schema of the description, which has all of its
// members: a schema of its own takes any others.
func checkSchema(t *testing.T, description, name string, a answer) {
	t.Helper()
	if a.status != 200 || len(a.body) < len(`{"a":1}`) {
		t.Errorf("%s: %d %s", name, a.status, a.body)
	}
	parse := func(text string) any {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("openapi.json", parse(description)); err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("all.json", parse(`{"$ref":"openapi.json#/components/schemas/`+name+`","unevaluatedProperties":false}`)); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("all.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(parse(a.body)); err != nil {
		t.Errorf("%s: %v", a.body, err)
	}
}
