package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestCauseInLog checks that operators learn what callers must not.
func TestCauseInLog(t *testing.T) {
	u := e2etest.NewUpstream(t, e2etest.Refuse(401, "invalid_api_key"))
	p := e2etest.Start(t, "one process", u.Env())
	if _, err := askSSE(t.Context(), p, e2etest.Question); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{e2etest.RawWords, e2etest.Internal, "401", "[key]"} {
		e2etest.Eventually(t, want+" in the log", func() bool { return strings.Contains(p.Log.String(), want) })
	}
}

// TestServerAway checks the bridge in front of no server: not ready, and a
// refusal in its own words.
func TestServerAway(t *testing.T) {
	p := &e2etest.Program{Log: &e2etest.LockedBuffer{}, GRPC: e2etest.ClosedPort(t)}
	p.HTTP = e2etest.StartOne(t, p, nil, "bridge", "--http=127.0.0.1:0", "--server="+p.GRPC)[0]
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/v1/models": 503, "/v1/completions/cmpl_1": 503} {
		resp, err := http.Get(p.HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		reply, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want || strings.Contains(string(reply), p.GRPC) {
			t.Errorf("%s: %d %s, want %d and no address", path, resp.StatusCode, reply, want)
		}
	}
	for _, face := range facesOver(true) {
		a, err := face.ask(t.Context(), p, e2etest.Question)
		if err != nil {
			t.Fatal(err)
		}
		if reason(a.status) != "UPSTREAM_UNAVAILABLE" || strings.Contains(a.raw, p.GRPC) {
			t.Errorf("%s: %s", face.name, a.raw)
		}
		checkRefusal(t, face, a, 503, true)
	}
}

// TestCommitWindow checks a stream whose upstream is silent until after the
// commit window: headers and heartbeats, then the failure as the error event that
// the body of a refusal would have been.
func TestCommitWindow(t *testing.T) {
	const window = 100 * time.Millisecond
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			fail := make(chan struct{})
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-fail:
				case <-r.Context().Done():
				}
				e2etest.Refuse(429, "rate_limit_exceeded", "Retry-After", "7")(w, r)
			})
			p := e2etest.Start(t, layout, u.Env(), "--commit-window="+window.String(), "--heartbeat=50ms")
			before := time.Now()
			resp := p.Post(t, e2etest.Question)
			if waited := time.Since(before); waited < window {
				t.Errorf("the headers came after %v", waited)
			}
			id := strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/")
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(id, "cmpl_") {
				t.Errorf("got %d, %v", resp.StatusCode, resp.Header)
			}
			heartbeats := make([]byte, len(": hb\n")*3)
			if _, err := io.ReadFull(resp.Body, heartbeats); err != nil || string(heartbeats) != ": hb\n: hb\n: hb\n" {
				t.Fatalf("got %q, %v", heartbeats, err)
			}
			close(fail)
			rest, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			block := strings.ReplaceAll(string(rest), ": hb\n", "")

			refusal := p.Post(t, e2etest.Question, "Accept", "application/json")
			reply, err := io.ReadAll(refusal.Body)
			if err != nil || refusal.StatusCode != 429 {
				t.Fatalf("got %d, %v", refusal.StatusCode, err)
			}
			want := fmt.Sprintf("event: error\ndata: %sretry: 1000\nid: %s_1\n\n", reply, id)
			if block != want {
				t.Errorf("got %q\nwant %q", block, want)
			}
		})
	}
}

// TestKeyStaysHome checks that no redirect takes the key to another host.
func TestKeyStaysHome(t *testing.T) {
	var elsewhere http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { elsewhere = r.Header.Clone() }))
	defer other.Close()
	u := e2etest.NewUpstream(t, e2etest.Refuse(307, "", "Location", other.URL+"/v1/chat/completions"))
	p := e2etest.Start(t, "one process", u.Env())
	a, err := askSSE(t.Context(), p, e2etest.Question)
	if err != nil || reason(a.status) != "UPSTREAM_REJECTED" {
		t.Fatalf("got %v, %v", a, err)
	}
	if elsewhere != nil {
		t.Errorf("the redirect was followed: %v", elsewhere)
	}
}

// TestAskedOnceMore checks that a request which is refused only for a name is asked
// once more, on each face, and that the next one is right at once.
func TestAskedOnceMore(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			var refused atomic.Int64
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				switch {
				case strings.Contains(string(body), `"max_tokens"`):
					refused.Add(1)
					e2etest.RefuseInWords(400, `{"error":{"message":"%s","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}`)(w, r)
				case strings.Contains(string(body), `"stream_options"`):
					refused.Add(1)
					e2etest.RefuseInWords(422, `{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"%s"}]}`)(w, r)
				default:
					e2etest.Chunk(w, `{"content":"4"}`, "stop")
				}
			})
			p := e2etest.Start(t, layout, u.Env())
			for _, face := range faces {
				a, err := face.ask(t.Context(), p, `{"model":"m","max_tokens":7,"messages":[{"role":"user","content":"2+2"}]}`)
				if err != nil || a.status != nil || a.text != "4" {
					t.Errorf("%s: got %v, %v", face.name, a, err)
				}
			}
			if n := refused.Load(); n != 2 {
				t.Errorf("%d were refused, want one for each name", n)
			}
		})
	}
}

// TestWrongBaseURL checks that the log says what was asked for and what came back.
func TestWrongBaseURL(t *testing.T) {
	u := e2etest.NewUpstream(t, e2etest.Text(e2etest.Body("")))
	env := u.Env()
	env["OPENAI_BASE_URL"] = u.URL
	p := e2etest.Start(t, "one process", env)
	if a, err := askSSE(t.Context(), p, e2etest.Question); err != nil || reason(a.status) != "UPSTREAM_REJECTED" {
		t.Fatalf("got %v, %v", a, err)
	}
	e2etest.Eventually(t, "what was asked for in the log", func() bool {
		return strings.Contains(p.Log.String(), "the upstream answered 404 to POST /chat/completions: 404 page not found")
	})
}

// TestOrdinaryKey checks that a key which is an ordinary word leaves the log legible.
func TestOrdinaryKey(t *testing.T) {
	u := e2etest.NewUpstream(t, e2etest.RefuseInWords(400, `{"error":{"message":"unexpected text, key x","type":"t","code":"odd"}}%.0s`))
	env := u.Env()
	env["OPENAI_API_KEY"] = "x"
	p := e2etest.Start(t, "one process", env)
	if _, err := askSSE(t.Context(), p, e2etest.Question); err != nil {
		t.Fatal(err)
	}
	e2etest.Eventually(t, "the words in the log", func() bool { return strings.Contains(p.Log.String(), "unexpected text, key [key]") })
}
