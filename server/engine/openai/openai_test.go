package openai

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

var _ engine.Engine = (*Engine)(nil)

// TestAddress checks the URLs and headers of requests, also for Azure.
func TestAddress(t *testing.T) {
	legacy := &completionv1.CompletionRequest{Model: "m", Prompt: proto.String("Hi")}
	model := func(name string) *completionv1.CompletionRequest {
		req := chat()
		req.Model = name
		return req
	}
	for _, tc := range []struct {
		name   string
		config Config // its BaseURL is a path
		req    *completionv1.CompletionRequest
		url    string
		header map[string]string
	}{
		{"openai", Config{BaseURL: "/v1/", Key: key}, chat(), "/v1/chat/completions",
			map[string]string{"Authorization": "Bearer " + key, "Api-Key": "", "Accept": "text/event-stream", "Content-Type": "application/json",
				"Accept-Encoding": "", "Connection": ""}},
		{"openai, no key", Config{BaseURL: "/v1"}, chat(), "/v1/chat/completions", map[string]string{"Authorization": ""}},
		{"openai, another path", Config{BaseURL: "/a/b", APIType: "openai"}, legacy, "/a/b/completions", nil},
		{"openai, a version", Config{BaseURL: "/v1", APIVersion: "preview"}, chat(), "/v1/chat/completions?api-version=preview", nil},
		{"azure", Config{Key: key, APIType: "azure", APIVersion: "2024-10-21"}, chat(),
			"/openai/deployments/m/chat/completions?api-version=2024-10-21", map[string]string{"Authorization": "", "Api-Key": key}},
		{"azure, legacy", Config{Key: key, APIType: "azure", APIVersion: "2024-10-21"}, legacy,
			"/openai/deployments/m/completions?api-version=2024-10-21", nil},
		{"azure, a dot", Config{Key: key, APIType: "azure", APIVersion: "1"}, model("gpt-4.1"),
			"/openai/deployments/gpt-4.1/chat/completions?api-version=1", nil},
		{"azure, a model that would be a path", Config{Key: key, APIType: "azure", APIVersion: "1"}, model("../../x?y=#z"),
			"/openai/deployments/..%2F..%2Fx%3Fy=%23z/chat/completions?api-version=1", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			requests := make(chan sent, 1)
			root := strings.TrimSuffix(serve(t, recorder(requests)).config.BaseURL, "/v1")
			tc.config.BaseURL = root + tc.config.BaseURL
			if err := generate(t.Context(), newEngine(t, tc.config), tc.req, ignore); err != nil {
				t.Fatal(err)
			}
			got := <-requests
			if got.url != tc.url {
				t.Errorf("got %s, want %s", got.url, tc.url)
			}
			for field, want := range tc.header {
				if v := got.header.Get(field); v != want {
					t.Errorf("%s: got %q, want %q", field, v, want)
				}
			}
		})
	}
}

func TestModels(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
		want   string // the models, or the start of the error
	}{
		{"two", 200, `{"object":"list","data":[{"id":"a","object":"model","created":1,"owned_by":"x"},{"id":"b"},{"id":""}]}`, "a b"},
		{"none", 200, `{"object":"list","data":null}`, ""},
		{"odd types", 200, `{"data":[{"id":"a","created":"2024-01-01"},{"id":"b","permission":{},"parent":0}]}`, "a b"},
		{"no list", 200, `[]`, "UPSTREAM_UNAVAILABLE: "},
		{"not JSON", 200, `<html>`, "UPSTREAM_UNAVAILABLE: "},
		{"too long", 200, `{"data":[{"id":"` + strings.Repeat("a", maxModelsBody) + `"}]}`, "UPSTREAM_UNAVAILABLE: "},
		{"a wrong key", 401, `{"error":{"message":"no such key: ` + key + `"}}`, "UPSTREAM_REJECTED: "},
		{"no such path", 404, `{"error":{"message":"no such path"}}`, "UPSTREAM_REJECTED: "},
		{"a redirect", 302, ``, "UPSTREAM_REJECTED: "},
		{"busy", 429, ``, "UPSTREAM_RATE_LIMITED: "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != "GET" || r.URL.Path != "/v1/models" || r.Header.Get("Authorization") != "Bearer "+key {
					t.Errorf("got %s %s with %v", r.Method, r.URL, r.Header)
				}
				w.WriteHeader(tc.status)
				io.WriteString(w, tc.body)
			})
			models, err := e.Models(t.Context())
			got := strings.Join(models, " ")
			if err != nil {
				got = err.Error()
			}
			if err == nil && got != tc.want || err != nil && (tc.want == "" || !strings.HasPrefix(got, tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if strings.Contains(got, "secret") {
				t.Errorf("the key is in %s", got)
			}
		})
	}
}

func TestModelsCancelled(t *testing.T) {
	e := serve(t, func(http.ResponseWriter, *http.Request) {})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGone)
	if _, err := e.Models(ctx); err != errGone {
		t.Errorf("got %v, want the cause of the context", err)
	}
}

func TestNew(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"http", Config{BaseURL: "http://localhost:11434/v1"}, true},
		{"https", Config{BaseURL: "https://api.openai.com/v1", Key: key, APIType: "openai"}, true},
		{"azure", Config{BaseURL: "https://x.openai.azure.com", Key: key, APIType: "azure", APIVersion: "1"}, true},
		{"no URL", Config{}, false},
		{"no scheme", Config{BaseURL: "localhost:8080"}, false},
		{"another scheme", Config{BaseURL: "ftp://secret/"}, false},
		{"no host", Config{BaseURL: "http:///v1"}, false},
		{"not a URL", Config{BaseURL: "http://[secret"}, false},
		{"a password", Config{BaseURL: "http://u:secret@localhost"}, false},
		{"a query", Config{BaseURL: "http://localhost/?k=secret"}, false},
		{"a key with its line end", Config{BaseURL: "http://localhost", Key: key + "\n"}, false},
		{"an unknown type", Config{BaseURL: "http://localhost", APIType: "OPENAI"}, false},
		{"azure without a version", Config{BaseURL: "http://localhost", Key: key, APIType: "azure"}, false},
		{"a negative timeout", Config{BaseURL: "http://localhost", ConnectTimeout: -1}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.cfg)
			if (err == nil) != tc.ok {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("a secret is in %q", err)
			}
		})
	}
}
