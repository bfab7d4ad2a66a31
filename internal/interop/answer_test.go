package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// answer is what came back, in one form whoever has answered.
type answer struct {
	status   int
	messages []string // in JSON
	failure  string   // the message of the status that the call ended with; "": with none
	details  []any
	header   http.Header
	body     string
}

// failed is what all three say of an error, grpc-gateway without "error" around it.
type failed struct {
	Error *failed

	Message string
	Details []any
}

// ask sends a request, which is a line "METHOD /path", header lines and, behind an empty line,
// a body.
// The answer is one message, or a stream of the bridge's, or else one that stream reads.
func ask(t *testing.T, base, request string, stream func(*answer) error) answer {
	t.Helper()
	head, body, _ := strings.Cut(request, "\n\n")
	lines := strings.Split(head, "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, content)
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	req.Header.Set("X-Goog-Api-Client", "rest/0.0.0 gapic/0.0.0") // the showcase wants it
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v after %s", request, err, b)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: string(b)}
	switch {
	case a.status != http.StatusOK:
		err = a.fail(a.body)
	case a.streams():
		err = a.readEvents()
	case stream != nil:
		err = stream(&a)
	default:
		a.messages = []string{a.body}
	}
	if err != nil {
		t.Errorf("%s: %v: %d %s", request, err, a.status, a.body)
	}
	return a
}

// streams tells whether it is a stream of the bridge's.
func (a *answer) streams() bool { return a.header.Get("Content-Type") == sse.MediaType }

// readEvents reads a stream of the bridge's.
func (a *answer) readEvents() error {
	r := sse.NewReader(strings.NewReader(a.body), 1<<20)
	for {
		m, err := r.Next()
		if err != nil {
			return fmt.Errorf("the stream ends without a terminal event: %w", err)
		}
		switch m.Event {
		case "message":
			a.messages = append(a.messages, m.Data)
			continue
		case "error":
			if err := a.fail(m.Data); err != nil {
				return err
			}
		case "finished":
		default:
			return fmt.Errorf("an event %q", m.Event)
		}
		if _, err := r.Next(); err != io.EOF {
			return fmt.Errorf("after the end: %v", err)
		}
		return nil
	}
}

// readShowcase reads a stream of the showcase's.
func (a *answer) readShowcase() error {
	if a.body == "" { // of no messages
		return nil
	}
	var all []json.RawMessage
	err := json.Unmarshal([]byte(a.body), &all)
	for _, one := range all {
		a.messages = append(a.messages, string(one))
	}
	return err
}

// readGateway reads a stream of grpc-gateway's.
func (a *answer) readGateway() error {
	for d := json.NewDecoder(strings.NewReader(a.body)); ; {
		var line struct{ Result, Error json.RawMessage }
		switch err := d.Decode(&line); {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case line.Error != nil:
			if err := a.fail(string(line.Error)); err != nil {
				return err
			}
		default:
			a.messages = append(a.messages, string(line.Result))
		}
	}
}

func (a *answer) fail(text string) error {
	var f failed
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return fmt.Errorf("%s: %w", text, err)
	}
	if f.Error != nil {
		f = *f.Error
	}
	a.failure, a.details = f.Message, f.Details
	return nil
}

// same sends a request to the bridge, and to another in front of the same server, and
// compares the answers.
func (s *servers) same(t *testing.T, bridge, other, request string, message protoreflect.FullName, stream func(*answer) error) {
	t.Helper()
	got := ask(t, bridge, request, nil)
	if !got.streams() && got.failure == "" {
		stream = nil
	}
	s.compare(t, request, message, got, ask(t, other, request, stream))
}

// compare holds the bridge's answer against another's. The messages of one say what is
// unset, too: they are compared as messages, those that are none ("") as JSON.
func (s *servers) compare(t *testing.T, request string, message protoreflect.FullName, got, want answer) {
	t.Helper()
	if got.status != want.status || got.failure != want.failure || len(got.messages) != len(want.messages) {
		t.Errorf("%s\ngot  %d %s\nwant %d %s", request, got.status, got.body, want.status, want.body)
		return
	}
	if got.failure != "" && !sameDetails(got.details, want.details) {
		t.Errorf("%s\ngot the details  %v\nwant %v", request, got.details, want.details)
	}
	for i := range got.messages {
		if !s.equal(t, message, got.messages[i], want.messages[i]) {
			t.Errorf("%s\ngot  %s\nwant %s", request, got.messages[i], want.messages[i])
		}
	}
}

// sameDetails compares the details of an error. Those of the showcase's lack their types.
func sameDetails(got, want []any) bool {
	return slices.EqualFunc(got, want, func(got, want any) bool {
		one, ok := got.(map[string]any)
		other, okToo := want.(map[string]any)
		if ok && okToo && other["@type"] == nil {
			delete(one, "@type")
		}
		return reflect.DeepEqual(got, want)
	})
}

func (s *servers) equal(t *testing.T, message protoreflect.FullName, a, b string) bool {
	t.Helper()
	if message != "" {
		return proto.Equal(s.message(t, message, a), s.message(t, message, b))
	}
	var one, other any
	return json.Unmarshal([]byte(a), &one) == nil && json.Unmarshal([]byte(b), &other) == nil && reflect.DeepEqual(one, other)
}
