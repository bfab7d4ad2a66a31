package e2e

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestAccept checks which form a client gets that asks as real ones do.
func TestAccept(t *testing.T) {
	p := e2etest.Start(t, "one process", nil, "--echo-interval=0s")
	for _, tt := range []struct {
		client string
		accept []string
		want   string // media type; empty: refused
	}{
		{"none", nil, "text/event-stream"},
		{"curl -d, fetch", []string{"*/*"}, "text/event-stream"},
		{"fetch-event-source", []string{"text/event-stream"}, "text/event-stream"},
		{"stream or anything", []string{"text/event-stream, */*"}, "text/event-stream"},
		{"openai-python, MCP", []string{"application/json, text/event-stream"}, "text/event-stream"},
		{"two lines", []string{"application/json", "text/event-stream;q=0.1"}, "text/event-stream"},
		{"a browser", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "text/event-stream"},
		{"curl --json", []string{"application/json"}, "application/json"},
		{"axios", []string{"application/json, text/plain, */*"}, "application/json"},
		{"no stream", []string{"text/event-stream;q=0, */*"}, "application/json"},
		{"no JSON", []string{"application/json;q=0, */*"}, "text/event-stream"},
		{"an image", []string{"image/png"}, ""},
		{"neither", []string{"text/event-stream;q=0, application/json;q=0"}, ""},
	} {
		t.Run(tt.client, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), "POST", p.HTTP+"/v1/completions", strings.NewReader(`{"prompt":"One two."}`))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header["Accept"] = tt.accept
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			got := resp.Header.Get("Content-Type")
			switch tt.want {
			case "":
				if resp.StatusCode != 406 || got != "application/json" {
					t.Errorf("got %s %s", resp.Status, got)
				}
				return
			case "application/json":
				c := &completionv1.Completion{}
				if err := protojson.Unmarshal(body, c); err != nil || c.GetText() != "One two." || c.GetState() != completionv1.Completion_FINISHED {
					t.Errorf("got %s, %v", body, err)
				}
			case "text/event-stream":
				if all, err := e2etest.Messages(strings.NewReader(string(body))); err != nil || len(all) != 4 {
					t.Errorf("got %s, %v", body, err)
				}
			}
			if resp.StatusCode != 200 || got != tt.want {
				t.Errorf("got %s %s, want 200 %s", resp.Status, got, tt.want)
			}
		})
	}
}

// fetch returns the status and body of an answer.
func fetch(t *testing.T, p *e2etest.Program, method, path string) (*http.Response, string) {
	t.Helper()
	resp := p.Send(t.Context(), t, method, path, "")
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// TestCancelRoute checks on each face that a completion can be cancelled, that its
// reader learns it, that the upstream's connection is closed, and that cancelling
// again, or what has ended, changes nothing.
func TestCancelRoute(t *testing.T) {
	for _, layout := range layouts {
		for i, face := range []string{"HTTP", "gRPC"} { // as openOn counts
			t.Run(layout+"/"+face, func(t *testing.T) {
				u := e2etest.NewUpstream(t, answerLives)
				p := e2etest.Start(t, layout, u.Env())
				client := p.Client(t)
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				id, end, err := readAndCancel(ctx, p, client, i, `{"model":"goes on","messages":[{"role":"user","content":"Hi"}]}`)
				if err != nil || end != "CANCELLED" {
					t.Fatalf("got %s, %v", end, err)
				}
				e2etest.Eventually(t, "the upstream's connection is closed", func() bool { return u.Open.Load() == 0 })
				if err := cancelOn(t.Context(), p, client, i, id); err != nil {
					t.Errorf("again: %v", err)
				}
				checkState(t, p, id, completionv1.Completion_CANCELLED, "token")

				a, err := faces[0].ask(t.Context(), p, `{"model":"finishes","messages":[{"role":"user","content":"Hi"}]}`)
				if err != nil {
					t.Fatal(err)
				}
				if err := cancelOn(t.Context(), p, client, i, a.id); err != nil {
					t.Errorf("after the end: %v", err)
				}
				checkState(t, p, a.id, completionv1.Completion_FINISHED, "token.")

				a, err = faces[0].ask(t.Context(), p, `{"model":"breaks","messages":[{"role":"user","content":"Hi"}]}`)
				if err != nil {
					t.Fatal(err)
				}
				checkState(t, p, a.id, completionv1.Completion_FAILED, "token")

				_, err = client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: "cmpl_x"})
				if resp, body := fetch(t, p, "POST", "/v1/completions/cmpl_x:cancel"); resp.StatusCode != 404 ||
					!strings.Contains(body, "COMPLETION_NOT_FOUND") || reason(status.Convert(err)) != "COMPLETION_NOT_FOUND" {
					t.Errorf("unknown: got %d %s, %v", resp.StatusCode, body, err)
				}
			})
		}
	}
}

// checkState checks a completion as it was kept.
func checkState(t *testing.T, p *e2etest.Program, id string, want completionv1.Completion_State, text string) {
	t.Helper()
	c, err := p.Client(t).GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
	if err != nil {
		t.Fatal(err)
	}
	if c.GetState() != want || c.GetText() != text || c.GetId() != id {
		t.Errorf("got %v, want it %v with the text %q", c, want, text)
	}
	if failed := want == completionv1.Completion_FAILED; failed != (c.GetError() != nil) {
		t.Errorf("the error is %v", c.GetError())
	}
}

func TestModels(t *testing.T) {
	u := e2etest.NewUpstream(t, e2etest.Silence)
	for _, layout := range layouts {
		for _, tt := range []struct {
			name string
			env  map[string]string
			want []string
		}{
			{"without an upstream", nil, []string{"echo of echo"}},
			{"with one", u.Env(), []string{"m of openai", "echo of echo"}},
		} {
			t.Run(layout+"/"+tt.name, func(t *testing.T) {
				p := e2etest.Start(t, layout, tt.env)
				resp, body := fetch(t, p, "GET", "/v1/models")
				list := &completionv1.ListModelsResponse{}
				other := protojson.UnmarshalOptions{DiscardUnknown: true} // OpenAI's form is beside it
				if err := other.Unmarshal([]byte(body), list); err != nil || resp.StatusCode != 200 {
					t.Fatalf("got %d %s, %v", resp.StatusCode, body, err)
				}
				var got []string
				for _, m := range list.GetModels() {
					got = append(got, m.GetId()+" of "+m.GetEngine())
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

func TestHealth(t *testing.T) {
	for _, layout := range layouts {
		p := e2etest.Start(t, layout, nil)
		for _, path := range []string{"/healthz", "/readyz"} {
			if resp, body := fetch(t, p, "GET", path); resp.StatusCode != 200 || body != "ok\n" {
				t.Errorf("%s: %s: got %d %q", layout, path, resp.StatusCode, body)
			}
		}
	}
}

// TestWrongPath checks what is neither there nor to be done there.
func TestWrongPath(t *testing.T) {
	p := e2etest.Start(t, "one process", nil)
	for _, tt := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/v1/completions", 405, "POST"},
		{"DELETE", "/v1/completions", 405, "POST"},
		{"GET", "/v1/completions:cancel", 405, "POST"},
		{"PUT", "/v1/completions:cancel", 405, "POST"},
		{"GET", "/v1/completions/cmpl_x:cancel", 404, ""}, // it asks for a completion of this name
		{"POST", "/v1/completions/cmpl_x", 405, "GET, HEAD"},
		{"DELETE", "/v1/completions/cmpl_x", 405, "GET, HEAD"},
		{"POST", "/v1/completions/cmpl_x/events", 405, "GET, HEAD"},
		{"POST", "/v1/models", 405, "GET, HEAD"},
		{"PUT", "/healthz", 405, "GET, HEAD"},
		{"POST", "/readyz", 405, "GET, HEAD"},
		{"POST", "/openapi.json", 405, "GET, HEAD"},
		{"GET", "/v1/nothing", 404, ""},
		{"POST", "/v2/completions", 404, ""},
		{"GET", "/v1/completions/cmpl_x", 404, ""},
		{"GET", "/v1/completions/cmpl_x/events", 404, ""},
	} {
		resp, body := fetch(t, p, tt.method, tt.path)
		a := &answer{code: resp.StatusCode}
		if err := a.refused([]byte(body)); err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.path, err)
			continue
		}
		if a.code != tt.status || resp.Header.Get("Allow") != tt.allow || strings.HasPrefix(reason(a.status), "(") || a.status.Message() == "" {
			t.Errorf("%s %s: got %d, Allow: %s, %s; want %d, %s", tt.method, tt.path, a.code, resp.Header.Get("Allow"), body, tt.status, tt.allow)
		}
	}
}

// TestGatewayHeaders checks that headers that mean something to a stock gateway
// mean nothing here.
func TestGatewayHeaders(t *testing.T) {
	for _, layout := range layouts {
		p := e2etest.Start(t, layout, nil, "--echo-interval=5ms")
		for _, header := range [][]string{
			{"Grpc-Timeout", "soon"},
			{"Grpc-Timeout", "1m"}, // a millisecond
			{"Grpc-Metadata-Completion-Id", "cmpl_x"},
			{"X-Http-Method-Override", "GET"},
		} {
			for _, accept := range []string{"text/event-stream", "application/json"} {
				resp := p.Post(t, `{"prompt":"One two three four."}`, append(header, "Accept", accept)...)
				if body, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || err != nil || !strings.Contains(string(body), "STOP") {
					t.Errorf("%s: %s: %s: got %s %s, %v", layout, header, accept, resp.Status, body, err)
				}
			}
		}
	}
}
