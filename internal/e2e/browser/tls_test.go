package browser

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// tabs is how many tabs stream at once: over HTTP/1.1, a browser has six connections to an
// origin, and the seventh stream waits for ever.
const tabs = 10

// TestBrowserTLS has ten tabs of one browser stream at once, over TLS and HTTP/2 and with a
// key, and the certificate renewed meanwhile.
func TestBrowserTLS(t *testing.T) {
	end, keys := make(chan struct{}), e2etest.NewKeyring(t, "alice")
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		for n := 0; r.Context().Err() == nil; n++ {
			select {
			case <-end:
				e2etest.Chunk(w, `{"content":" the end"}`, "stop")
				return
			case <-time.After(100 * time.Millisecond):
				e2etest.Say(w, fmt.Sprint(" ", n))
			}
		}
	})
	program := e2etest.Start(t, "one process over TLS", u.Env(), keys.Flag())
	key := sha256.Sum256(program.TLS.Authority.Certificate.RawSubjectPublicKeyInfo)
	b := startBrowser(t, chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])))
	b.shared = true
	var all []*tab
	for range tabs {
		p := b.open(t, program.HTTP, "status of 401")
		p.wait(`document.activeElement.id === "key"`)
		p.key(keys.Keys["alice"])
		p.enter(0)
		p.wait(`document.querySelectorAll("#model option").length > 1`)
		all = append(all, p)
	}
	for _, p := range all {
		p.ask("Count")
	}
	e2etest.Eventually(t, "all tabs stream", func() bool { return u.Open.Load() == tabs })
	_, addr, _ := strings.Cut(program.HTTP, "://")
	for range 2 {
		shown := e2etest.ShownBy(t, program, addr)
		program.TLS.Files.Renew(t, program.TLS.Authority)
		e2etest.Eventually(t, "the new certificate is shown", func() bool { return e2etest.ShownBy(t, program, addr) != shown })
	}
	for _, p := range all {
		before := len(p.text(answerText))
		e2etest.Eventually(t, "a tab goes on", func() bool { return len(p.text(answerText)) > before })
	}
	close(end)
	for i, p := range all {
		p.reads("#status", "Complete")
		if text := p.text(answerText); !strings.HasSuffix(text, " the end") {
			t.Errorf("tab %d reads %q", i, text)
		}
		if asked := p.count("/v1/completions"); asked != 1 {
			t.Errorf("tab %d has asked %d times", i, asked)
		}
		p.mu.Lock()
		if !slices.Contains(p.protocols, "h2 /v1/completions") {
			t.Errorf("tab %d was answered by %q", i, p.protocols)
		}
		p.mu.Unlock()
	}
	if n := u.Calls.Load(); n != tabs {
		t.Errorf("%d calls upstream", n)
	}
}
