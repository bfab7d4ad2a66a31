package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestLongHeaders checks that a header which the HTTP face takes gets the same answer in
// both layouts: what of it goes on to a server elsewhere must fit there.
func TestLongHeaders(t *testing.T) {
	keys := e2etest.NewKeyring(t, "alice")
	long, many := strings.Repeat("x", 50<<10), make([]string, 2500)
	for i := range many {
		many[i] = "x"
	}
	for _, layout := range layouts {
		p := e2etest.Start(t, layout, nil, keys.Flag(), "--allow-host=*", "--echo-interval=0s")
		for _, tc := range []struct {
			name   string
			values []string
			want   int
		}{
			{"Authorization", []string{"Bearer " + long}, 401},
			{"Authorization", []string{long}, 401},
			{"Authorization", many, 401},
			{"Authorization", []string{"Bearer " + strings.Repeat(" ", 30<<10) + keys.Keys["alice"]}, 401},
			{"Traceparent", []string{long}, 200},
			{"Tracestate", []string{long}, 200},
			{"Baggage", []string{long}, 200},
			{"Baggage", many, 200},
			{"X-Forwarded-For", []string{long}, 200},
			{"X-Forwarded-For", many, 200},
			{"X-Forwarded-Host", []string{long}, 200},
			{"X-Request-Id", []string{long}, 200},
			{"X-Request-Id", many, 200},
			{"Host", []string{long}, 400},
			{"X-Unknown", []string{long}, 200},
		} {
			for _, path := range []string{"/v1/models", "/v1/completions", "/openai/v1/chat/completions"} {
				method, body := "POST", hello
				if path == "/v1/models" {
					method, body = "GET", ""
				}
				req, err := http.NewRequestWithContext(t.Context(), method, p.HTTP+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", keys.Of("alice"))
				req.Header[tc.name] = tc.values
				if tc.name == "Host" {
					req.Host = tc.values[0]
				}
				resp, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != tc.want {
					t.Errorf("%s: %s, %s of %d times %d bytes: got %s, want %d", layout, path, tc.name, len(tc.values), len(tc.values[0]), resp.Status, tc.want)
				}
			}
		}
	}
}

// TestSmallServerHeader checks that a header which the bridge takes and its server does not
// is refused as too large, and is not to be tried again.
func TestSmallServerHeader(t *testing.T) {
	keys := e2etest.NewKeyring(t, "alice")
	p := &e2etest.Program{Log: &e2etest.LockedBuffer{}}
	p.GRPC = e2etest.StartOne(t, p, nil, "server", "--grpc=127.0.0.1:0", "--max-header=4KiB", keys.Flag())[0]
	p.HTTP = e2etest.StartOne(t, p, nil, "bridge", "--http=127.0.0.1:0", "--server="+p.GRPC)[0]
	e2etest.Eventually(t, "the bridge is ready", func() bool { return e2etest.StatusOf(t, p.HTTP+"/readyz") == 200 })
	for _, path := range []string{"/v1/completions", "/openai/v1/chat/completions"} {
		resp := p.Send(t.Context(), t, "POST", path, hello, "Content-Type", "application/json", "Authorization", "Bearer "+strings.Repeat("x", 10<<10))
		if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Retry-After") != "" {
			t.Errorf("%s: got %s, %v", path, resp.Status, resp.Header)
		}
	}
}
