package e2e

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
)

// tabs is how many tabs stream at once: over HTTP/1.1, a browser has six connections to an
// origin, and the seventh stream waits for ever.
const tabs = 10

// TestBrowserTLS has ten tabs of one browser stream at once, over TLS and HTTP/2 and with a
// key, and the certificate renewed meanwhile.
func TestBrowserTLS(t *testing.T) {
	end, keys := make(chan struct{}), newKeyring(t, "alice")
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		for n := 0; r.Context().Err() == nil; n++ {
			select {
			case <-end:
				chunk(w, `{"content":" the end"}`, "stop")
				return
			case <-time.After(100 * time.Millisecond):
				say(w, fmt.Sprint(" ", n))
			}
		}
	})
	program := start(t, "one process over TLS", u.env(), keys.flag())
	key := sha256.Sum256(program.tls.authority.Certificate.RawSubjectPublicKeyInfo)
	b := startBrowser(t, chromedp.Flag("ignore-certificate-errors-spki-list", base64.StdEncoding.EncodeToString(key[:])))
	b.shared = true
	var all []*tab
	for range tabs {
		p := b.open(t, program.http, "status of 401")
		p.wait(`document.activeElement.id === "key"`)
		p.key(keys.keys["alice"])
		p.enter(0)
		p.wait(`document.querySelectorAll("#model option").length > 1`)
		all = append(all, p)
	}
	for _, p := range all {
		p.ask("Count")
	}
	eventually(t, "all tabs stream", func() bool { return u.open.Load() == tabs })
	_, addr, _ := strings.Cut(program.http, "://")
	for range renewals {
		shown := shownBy(t, program, addr)
		program.tls.files.Renew(t, program.tls.authority)
		eventually(t, "the new certificate is shown", func() bool { return shownBy(t, program, addr) != shown })
	}
	for _, p := range all {
		before := len(p.text(answerText))
		eventually(t, "a tab goes on", func() bool { return len(p.text(answerText)) > before })
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
	if n := u.calls.Load(); n != tabs {
		t.Errorf("%d calls upstream", n)
	}
}
