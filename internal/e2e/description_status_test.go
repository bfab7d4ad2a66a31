package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// statuses looks whether the description has the status of each answer that some test
// gets.
type statuses struct {
	*http.Transport
	described map[string]map[string]struct{ Responses map[string]any } // by path and method

	mu      sync.Mutex // guards all below
	missing map[string]bool
}

// checkStatuses runs tests, and fails if one got an answer through the default client
// whose status the description does not have.
func checkStatuses(run func() int) int {
	var description struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(completionv1.OpenAPI), &description); err != nil {
		panic(err)
	}
	s := &statuses{
		Transport: http.DefaultTransport.(*http.Transport),
		described: map[string]map[string]struct{ Responses map[string]any }{},
		missing:   map[string]bool{},
	}
	for path, operations := range description.Paths {
		s.described[path] = map[string]struct{ Responses map[string]any }{}
		for method, raw := range operations {
			var operation struct{ Responses map[string]any }
			if json.Unmarshal(raw, &operation) == nil { // the parameters of all are a list
				s.described[path][strings.ToUpper(method)] = operation
			}
		}
	}
	http.DefaultClient.Transport = s
	code := run()
	for what := range s.missing {
		fmt.Fprintf(os.Stderr, "--- FAIL: the description lacks %s\n", what)
		code = 1
	}
	return code
}

// anID matches the id of a completion in a path.
var anID = regexp.MustCompile(`^/v1/completions/[^/:]+`)

// RoundTrip implements http.RoundTripper.
func (s *statuses) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.Transport.RoundTrip(req)
	path := anID.ReplaceAllString(req.URL.Path, "/v1/completions/{id}")
	if operation, ok := s.described[path][req.Method]; ok && err == nil && operation.Responses[fmt.Sprint(resp.StatusCode)] == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.missing[fmt.Sprintf("%s %s: %d", req.Method, path, resp.StatusCode)] = true
	}
	return resp, err
}
