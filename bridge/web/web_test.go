package web

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/skip"
)

func TestRoutes(t *testing.T) {
	contentTypes := map[string]string{
		"/":             "text/html; charset=utf-8",
		"/page.css":     "text/css; charset=utf-8",
		"/page.js":      "text/javascript; charset=utf-8",
		"/answer.js":    "text/javascript; charset=utf-8",
		"/markdown.css": "text/css; charset=utf-8",
		"/copy.js":      "text/javascript; charset=utf-8",
		"/markdown.js":  "text/javascript; charset=utf-8",

		"/vendor/markdown-it.mjs": "text/javascript; charset=utf-8",
		"/vendor/LICENSE.txt":     "text/plain; charset=utf-8",
		"/ink.js":                 "text/javascript; charset=utf-8",
		"/key.js":                 "text/javascript; charset=utf-8",
		"/session.js":             "text/javascript; charset=utf-8",
		"/status.js":              "text/javascript; charset=utf-8",
		"/meter.js":               "text/javascript; charset=utf-8",
		"/client.js":              "text/javascript; charset=utf-8",
		"/client.d.ts":            "text/plain; charset=utf-8",
	}
	routes := Routes()
	if len(routes) != len(contentTypes) {
		t.Errorf("there are %d routes, want %d", len(routes), len(contentTypes))
	}
	for path, contentType := range contentTypes {
		t.Run(path, func(t *testing.T) {
			h, ok := routes[path]
			if !ok {
				t.Fatal("not served")
			}
			name := strings.TrimPrefix(path, "/")
			if name == "" {
				name = "index.html"
			}
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			first := get(h, path, "")
			if first.Code != http.StatusOK || first.Body.String() != string(want) {
				t.Errorf("got %d and %d bytes, want %d and %d", first.Code, first.Body.Len(), http.StatusOK, len(want))
			}
			tag := first.Header().Get("ETag")
			if !regexp.MustCompile(`^"[\w-]+"$`).MatchString(tag) {
				t.Errorf("ETag is %q", tag)
			}
			again := get(h, path, tag)
			if again.Code != http.StatusNotModified || again.Body.Len() != 0 {
				t.Errorf("with the tag: got %d and %d bytes, want %d and none", again.Code, again.Body.Len(), http.StatusNotModified)
			}
			if listed := get(h, path, `"other", W/`+tag); listed.Code != http.StatusNotModified {
				t.Errorf("with the tag in a list: got %d, want %d", listed.Code, http.StatusNotModified)
			}
			if other := get(h, path, `"other"`); other.Code != http.StatusOK {
				t.Errorf("with another tag: got %d, want %d", other.Code, http.StatusOK)
			}
			if got := first.Header().Get("Content-Type"); got != contentType { // which a 304 leaves as it was
				t.Errorf("Content-Type is %q, want %q", got, contentType)
			}
			for _, w := range []*httptest.ResponseRecorder{first, again} {
				for name, want := range map[string]string{
					"Referrer-Policy": "no-referrer",
					"Cache-Control":   "no-cache",
					"ETag":            tag,
				} {
					if got := w.Header().Get(name); got != want {
						t.Errorf("%d: %s is %q, want %q", w.Code, name, got, want)
					}
				}
				csp := w.Header().Get("Content-Security-Policy")
				for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
					if !strings.Contains(csp, want) {
						t.Errorf("%d: Content-Security-Policy %q has no %s", w.Code, csp, want)
					}
				}
				if strings.Contains(csp, "unsafe") {
					t.Errorf("%d: Content-Security-Policy is %q", w.Code, csp)
				}
			}
		})
	}
}

func get(h http.Handler, path, tag string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	if tag != "" {
		r.Header.Set("If-None-Match", tag)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// The client is one file, and nothing is loaded from elsewhere.
func TestClientImportsNothing(t *testing.T) {
	for _, name := range []string{"client.js", "client.d.ts"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if line := regexp.MustCompile(`(?m)^\s*import\b.*|\bimport\(.*`).Find(b); line != nil {
			t.Errorf("%s imports: %s", name, line)
		}
	}
}

// What is vendored is what its authors publish, but for the name.
func TestVendored(t *testing.T) {
	got, err := os.ReadFile("vendor/markdown-it.mjs")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/node_modules/markdown-it/dist/browser/markdown-it.esm.min.mjs")
	if err != nil {
		skip.For(t, "what is vendored is not compared without its package: run npm ci in bridge/web/testdata")
	}
	if !bytes.Equal(got, want) {
		t.Error("vendor/markdown-it.mjs is not the one of the package in testdata/package.json")
	}
}
