package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestForeignHost checks that a page cannot spend the key from a browser on this
// machine, by a name of its own that resolves to 127.0.0.1 (DNS rebinding).
func TestForeignHost(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) { e2etest.Chunk(w, `{"content":"Hello"}`, "stop") })
			p := e2etest.Start(t, layout, u.Env(), "--allow-host=sluice.test")
			for host, code := range map[string]int{
				"evil.example": 403, "evil.example:8080": 403,
				strings.TrimPrefix(p.HTTP, "http://"): 200, "localhost:1": 200, "sluice.test:1": 200,
			} {
				before := u.Calls.Load()
				req, err := http.NewRequestWithContext(t.Context(), "POST", p.HTTP+"/v1/completions",
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
				if called := u.Calls.Load() > before; resp.StatusCode != code || called != (code == 200) {
					t.Errorf("%s: got %s, the upstream called: %v", host, resp.Status, called)
				}
			}
		})
	}
}

// What is asked of the server as a whole is looked at, too, and not answered by net/http,
// which would read its body for ever.
func TestForeignHostOptions(t *testing.T) {
	p := e2etest.Start(t, "one process", nil)
	for host, code := range map[string]int{"evil.example": 403, "localhost": 400} {
		c, err := net.Dial("tcp", strings.TrimPrefix(p.HTTP, "http://"))
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
