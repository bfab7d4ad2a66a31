package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestForeignHost checks that a page cannot spend the key from a browser on this
// machine, by a name of its own that resolves to 127.0.0.1 (DNS rebinding).
func TestForeignHost(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) { chunk(w, `{"content":"Hello"}`, "stop") })
			p := start(t, layout, u.env(), "--allow-host=sluice.test")
			for host, code := range map[string]int{
				"evil.example": 403, "evil.example:8080": 403,
				strings.TrimPrefix(p.http, "http://"): 200, "localhost:1": 200, "sluice.test:1": 200,
			} {
				before := u.calls.Load()
				req, err := http.NewRequestWithContext(t.Context(), "POST", p.http+"/v1/completions",
					strings.NewReader(`{"model":"m","messages":[{"role":"user","content":"Hi"}]}`))
				if err != nil {
					t.Fatal(err)
				}
				req.Host = host
				req.Header.Set("Origin", "http://"+host)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if called := u.calls.Load() > before; resp.StatusCode != code || called != (code == 200) {
					t.Errorf("%s: got %s, the upstream called: %v", host, resp.Status, called)
				}
			}
		})
	}
}

// What is asked of the server as a whole is looked at, too, and not answered by net/http,
// which would read its body for ever.
func TestForeignHostOptions(t *testing.T) {
	p := start(t, "one process", nil)
	for host, code := range map[string]int{"evil.example": 403, "localhost": 400} {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.http, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, "OPTIONS * HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != code {
			t.Errorf("%s: got %s, want %d", host, resp.Status, code)
		}
	}
}
