package browser

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// newOrigin serves an empty page from an origin of its own.
func newOrigin(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><title>elsewhere</title><link rel="icon" href="data:,">`)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// What a page of another origin asks, and what it gets to see of the answer.
const askFromElsewhere = `(async () => {
  const response = await fetch(PROGRAM + "/v1/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": MODEL, "Authorization": "Bearer b" },
    body: JSON.stringify({ model: MODEL, messages: [{ role: "user", content: "Hi" }] }),
  });
  const text = await response.text();
  const resumed = await fetch(PROGRAM + (response.headers.get("Location") ?? "/v1/completions/x") + "/events", {
    headers: { "Last-Event-ID": text.match(/^id: (.*_1)$/m)?.[1] ?? "" },
  });
  return [response.status, response.headers.get("Location"), response.headers.get("Retry-After"),
    response.headers.get("X-Request-Id"), text.match(/^event: .*$/mg)?.at(-1), (await resumed.text()).match(/^event: .*$/m)?.[0]].join("|");
})().catch((error) => "" + error)`

func fromElsewhere(p *tab, program, model string) string {
	p.t.Helper()
	return eval[string](p, strings.NewReplacer("PROGRAM", quote(program), "MODEL", quote(model)).Replace(askFromElsewhere))
}

func testOtherOrigin(t *testing.T, b browser) {
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "busy") {
			e2etest.Refuse(http.StatusTooManyRequests, "rate_limit_exceeded", "Retry-After", "7")(w, r)
			return
		}
		e2etest.Chunk(w, `{"content":"Hello"}`, "null")
		e2etest.Chunk(w, `{"content":" you"}`, "stop")
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	friend, stranger := newOrigin(t), newOrigin(t)
	program := e2etest.Start(t, "one process", u.Env(), "--cors-origin="+friend, "--cors-origin=https://example.com").HTTP

	p := b.open(t, friend, "status of 429")
	if got := fromElsewhere(p, program, "m"); !regexp.MustCompile(
		`^200\|/v1/completions/cmpl_\w{26}\|\|[A-Z0-9]{26}\|event: finished\|event: delta$`).MatchString(got) {
		t.Errorf("an origin that is allowed sees %q", got)
	}
	if got := fromElsewhere(p, program, "busy"); !regexp.MustCompile(`^429\|/v1/completions/cmpl_\w{26}\|7\|[A-Z0-9]{26}\|`).MatchString(got) {
		t.Errorf("an origin that is allowed sees %q of a refusal", got)
	}
	if p.count("^OPTIONS /v1/completions$") == 0 || p.count("^OPTIONS .*/events$") == 0 {
		t.Error("the browser asked for no permission")
	}
	calls := u.Calls.Load()

	p = b.open(t, stranger, "has been blocked by CORS policy", "net::ERR_FAILED")
	if got, want := fromElsewhere(p, program, "m"), "TypeError: Failed to fetch"; got != want {
		t.Errorf("an origin that is not allowed sees %q, want %q", got, want)
	}
	if n := u.Calls.Load() - calls; n != 0 {
		t.Errorf("an origin that is not allowed made %d calls upstream", n)
	}
}

// Some requests a browser sends to other origins without asking. They must not
// cost anything.
func testForgedRequest(t *testing.T, b browser) {
	u := e2etest.NewUpstream(t, e2etest.Silence)
	program := e2etest.Start(t, "one process", u.Env(), "--cors-origin=https://example.com").HTTP
	p := b.open(t, newOrigin(t), "has been blocked by CORS policy", "net::ERR_FAILED", "status of")
	for _, contentType := range []string{`""`, `"text/plain"`, `"application/x-www-form-urlencoded"`} {
		eval[any](p, `fetch(`+quote(program)+` + "/v1/completions", { method: "POST", mode: "no-cors", signal: AbortSignal.timeout(500),
			body: new Blob([JSON.stringify({ model: "m", prompt: "Hi" })], { type: `+contentType+` }) }).catch(() => null)`)
		if n := u.Calls.Load(); n != 0 {
			t.Fatalf("a page of any origin can have completions generated, with the content type %s", contentType)
		}
	}
}

// testReadmeInBrowser runs what the README has for a browser on a page of another
// origin, as a module and as it is written but for the address.
func testReadmeInBrowser(t *testing.T, b browser) {
	origin := newOrigin(t)
	program := e2etest.Start(t, "two processes", nil, "--echo-interval=1ms", "--cors-origin="+origin, "--expose=completion.v1.CompletionService")
	ran := 0
	for _, f := range e2etest.Blocks(t, "README.md") {
		if f.Language != "js" {
			continue
		}
		ran++
		p := b.open(t, origin)
		eval[any](p, `{
			const module = document.createElement("script");
			module.type = "module";
			module.textContent = `+quote(e2etest.Addressed(f.Text, program))+`;
			document.body.append(module);
		}`)
		want := []string{"Hello", " from", " the", " other", " side"}
		e2etest.Eventually(t, "read the console", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.logs) >= len(want)
		})
		if !slices.Equal(p.logs, want) {
			t.Errorf("%s\nsaid %q, want %q", f.Text, p.logs, want)
		}
	}
	if ran < 2 {
		t.Errorf("the README has %d blocks for a browser", ran)
	}
}
