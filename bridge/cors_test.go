package bridge_test

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/bridge"
)

func TestOtherOrigins(t *testing.T) {
	const ours, theirs = "http://sluice.test", "https://pages.test"
	tests := []struct {
		name    string
		allowed []string
		header  []string
		code    int
		allow   string // of the answer's Access-Control-Allow-Origin
	}{
		{"no browser", nil, nil, 200, ""},
		{"the same origin", nil, []string{"Origin", ours, "Sec-Fetch-Site", "same-origin"}, 200, ""},
		{"the same origin, an older browser", nil, []string{"Origin", ours}, 200, ""},
		{"another origin", nil, []string{"Origin", theirs, "Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"another origin, an older browser", nil, []string{"Origin", theirs}, 403, ""},
		{"a page from a file", nil, []string{"Origin", "null", "Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"another origin, allowed", []string{theirs}, []string{"Origin", theirs, "Sec-Fetch-Site", "cross-site"}, 200, theirs},
		{"another than the allowed", []string{"https://else.test"}, []string{"Origin", theirs, "Sec-Fetch-Site", "cross-site"}, 403, ""},
		{"all allowed", []string{"*"}, []string{"Origin", theirs, "Sec-Fetch-Site", "cross-site"}, 200, "*"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBridge(t, func(s eventStream) error {
				return errors.Join(named(s, "cmpl_x"), created(s), finished(s, 2))
			}, bridge.Config{CORSOrigins: tt.allowed})
			// No Content-Type: what a page may send without asking first.
			req := httptest.NewRequest("POST", ours+"/v1/completions", strings.NewReader(`{"prompt":"x"}`))
			for i := 0; i < len(tt.header); i += 2 {
				req.Header.Set(tt.header[i], tt.header[i+1])
			}
			r := newRecorder()
			exchange(t, b, r, req)
			if got := r.header.Get("Access-Control-Allow-Origin"); r.code != tt.code || got != tt.allow {
				t.Errorf("%d, allowed %q; want %d, %q\n%s", r.code, got, tt.code, tt.allow, body(r))
			}
		})
	}
}

func TestOriginsMustBeOrigins(t *testing.T) {
	for _, origin := range []string{"example.com", "https://example.com/path", "https://", ""} {
		if _, err := bridge.New(nil, bridge.Config{CORSOrigins: []string{origin}}); err == nil {
			t.Errorf("%q is allowed", origin)
		}
	}
}

// A page's browser asks first whether it may send what OpenAI's client adds to a
// request; without one of these it sends nothing.
func TestOpenAIClientInPages(t *testing.T) {
	b := newBridge(t, func(eventStream) error { return nil }, bridge.Config{CORSOrigins: []string{"https://pages.test"}})
	req := httptest.NewRequest("OPTIONS", "http://sluice.test/openai/v1/chat/completions", nil)
	for name, value := range map[string]string{
		"Origin":                        "https://pages.test",
		"Access-Control-Request-Method": "POST",
		"Access-Control-Request-Headers": "authorization,content-type,idempotency-key,openai-organization,openai-project,x-stainless-arch,x-stainless-helper-method," +
			"x-stainless-lang,x-stainless-os,x-stainless-package-version,x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout",
	} {
		req.Header.Set(name, value)
	}
	r := newRecorder()
	exchange(t, b, r, req)
	if got := r.header.Get("Access-Control-Allow-Headers"); r.code != 204 || !strings.Contains(strings.ToLower(got), "x-stainless-retry-count") {
		t.Errorf("%d, %v", r.code, r.header)
	}
}
