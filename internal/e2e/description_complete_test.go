package e2e

import (
	"os"
	"slices"
	"testing"

	"go.yaml.in/yaml/v3"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestDescriptionIsComplete checks that the description has every route and every
// reason, and that its examples are of the kind that it says.
func TestDescriptionIsComplete(t *testing.T) {
	d := descriptionOf(t, e2etest.Start(t, "one process", nil))
	written, err := os.ReadFile(e2etest.Root() + "/proto/completion/v1/http.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var routes struct {
		HTTP struct {
			Rules []struct {
				Get, Post string
				More      []struct{ Get, Post string } `yaml:"additional_bindings"`
			}
		}
	}
	if err := yaml.Unmarshal(written, &routes); err != nil || len(routes.HTTP.Rules) < 5 {
		t.Fatalf("%d rules, %v", len(routes.HTTP.Rules), err)
	}
	for _, rule := range routes.HTTP.Rules {
		for _, binding := range append(rule.More, struct{ Get, Post string }{rule.Get, rule.Post}) {
			for method, path := range map[string]string{"get": binding.Get, "post": binding.Post} {
				if o, _ := d.at("paths", path, method); path != "" && o == nil {
					t.Errorf("%s %s is not described", method, path)
				}
			}
		}
	}

	d.checkReasons(t)
	d.checkExamples(t)
}

// checkReasons checks that the description has all reasons, in their order.
func (d *apiDescription) checkReasons(t *testing.T) {
	t.Helper()
	var reasons []any
	for number := range completionv1.ErrorReason_name {
		if number > 0 { // no reason
			reasons = append(reasons, completionv1.ErrorReason(number).String())
		}
	}
	slices.SortFunc(reasons, func(a, b any) int {
		return int(completionv1.ErrorReason_value[a.(string)] - completionv1.ErrorReason_value[b.(string)])
	})
	reason, _ := d.at("components", "schemas", "ErrorInfo", "properties", "reason")
	if len(reasons) == 0 || !slices.Equal(reasons, reason["enum"].([]any)) {
		t.Errorf("the reasons are %q, described are %q", reasons, reason["enum"])
	}
}

// checkExamples checks that the examples are of the kind that the description says.
func (d *apiDescription) checkExamples(t *testing.T) {
	t.Helper()
	examples := 0
	paths, _ := d.at("paths")
	for path := range paths {
		for _, place := range [][]string{{"post", "requestBody"}, {"post", "responses", "200"}, {"get", "responses", "200"}} {
			content, _ := d.at(append(append([]string{"paths", path}, place...), "content")...)
			for mediaType := range content {
				at := append(append([]string{"paths", path}, place...), "content", mediaType)
				all, _ := d.at(append(at, "examples")...)
				for name, example := range all {
					examples++
					if err := d.check(example.(map[string]any)["value"], append(at, "schema")...); err != nil {
						t.Errorf("the example %s of %q: %v", name, at, err)
					}
				}
			}
		}
	}
	if examples < 5 {
		t.Errorf("%d examples", examples)
	}
}
