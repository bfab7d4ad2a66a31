package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/page"
)

// Whoever tries again what failed means a new completion, though after a reload the page
// knows the key of the one that failed.
func testPageTriesAnew(t *testing.T, b browser) {
	proceed := make(chan bool, 10)
	wait := func(r *http.Request) {
		select {
		case <-proceed:
		case <-r.Context().Done():
		}
	}
	var calls atomic.Int64
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		switch calls.Add(1) {
		case 1:
			wait(r)
			refuse(http.StatusTooManyRequests, "rate_limit_exceeded")(w, r)
		case 3:
			wait(r)
			refuse(http.StatusNotFound, "model_not_found")(w, r)
		default:
			chunk(w, `{"content":"at last"}`, "stop")
			_, _ = io.WriteString(w, "data: [DONE]\n\n")
		}
	})
	p := b.open(t, start(t, "one process", u.env()).http, "status of 4")
	p.ask("Hello")
	eventually(t, "the first call", func() bool { return calls.Load() == 1 })
	p.reload()
	p.reads("#status", "Coming back…")
	proceed <- true
	p.reads(".failure h3", "UPSTREAM_RATE_LIMITED")
	p.click(".failure button")
	p.reads(answerText, "at last")

	p.click("[value=prompt] + span")
	p.ask("Once upon")
	eventually(t, "the third call", func() bool { return calls.Load() == 3 })
	p.reload()
	p.reads("#status", "Coming back…")
	proceed <- true
	p.reads(".failure button", "Send it as a conversation")
	p.click(".failure button")
	p.reads(answerText, "at last")
	p.reads("#status", "Complete")
}

// Whoever tries again when only the connection was lost means the same completion: a new
// one would be paid for, too.
func testPageLost(t *testing.T, b browser) {
	d := newDictation(t)
	proxy := newResetter(t, start(t, "one process", d.env()).http)
	p := b.open(t, proxy.url, "net::ERR_")
	// It does not wait between its tries, so that it gives up soon.
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
		const wait = setTimeout;
		setTimeout = (f, milliseconds) => wait(f, milliseconds > 500 ? 0 : milliseconds);
	}`})
	p.reload()
	lose := func() {
		t.Helper()
		proxy.down.Store(true)
		proxy.cut()
		p.reads("#status", "Failed")
		p.reads(".failure h3", "CONNECTION_LOST")
		proxy.down.Store(false)
	}
	p.ask("In mid-answer: by its id")
	d.say("one ")
	p.reads(answerText, "one ")
	lose()
	d.say("two ")
	p.click(".failure button")
	p.reads(answerText, "one two ")
	lose()
	d.say("three ")
	p.reload() // which is to try again, too
	p.reads(answerText, "one two three ")
	p.wait(`document.querySelectorAll("article").length === 2 && !document.querySelector(".failure")`)
	d.end()
	p.reads("#status", "Complete")

	p.ask("Before the first token: by its key")
	eventually(t, "the second call", func() bool { return d.calls.Load() == 2 })
	lose()
	p.click(".failure button")
	d.say("once")
	p.reads(answerText, "once")

	lose()
	d.end()
	eventually(t, "its end", func() bool { return d.open.Load() == 0 })
	p.ask("Something else")
	d.say("other")
	p.reads(answerText, "other")
	p.wait(`!document.querySelector(".failure button")`)
	d.end()
	p.reads("#status", "Complete")
	want := p.shown()
	p.reload()
	if got := p.shown(); got != want {
		t.Errorf("after a reload the page shows\n%s, want\n%s", got, want)
	}
	if n := d.calls.Load(); n != 3 {
		t.Errorf("%d calls upstream for three questions", n)
	}
}

// The list may come after the first question, or not at all.
func testPageModelsLate(t *testing.T, b browser) {
	d := newDictation(t)
	list := make(chan bool, 10)
	late := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/models") {
			select {
			case there := <-list:
				if !there {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
			case <-r.Context().Done():
			}
		}
		d.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(late.Close)
	p := b.open(t, start(t, "one process", (&upstream{Server: late}).env(), "--model=m").http, "status of 5")
	p.ask("Hello")
	d.say("so far")
	p.reads("#status", "Streaming")
	list <- false
	p.wait(`performance.getEntriesByName(new URL("/v1/models", location)).some((e) => e.responseEnd > 0)`)
	d.say(" so good")
	p.reads(answerText, "so far so good")
	p.wait(`document.querySelector("#status").textContent === "Streaming" && document.querySelector("#stop").ariaDisabled === "false"`)
	d.end()
	p.reads("#status", "Complete")

	// The model that was chosen is not forgotten meanwhile.
	p.visit(p.url)
	list <- true
	p.wait(`document.querySelectorAll("#model option").length === 2`)
	eval[any](p, `document.querySelector("#model").value = "echo"`)
	for range 2 {
		p.visit(p.url)
		list <- false
		p.wait(`document.querySelector("#status").textContent.startsWith("The models cannot be listed: ")`)
		p.wait(`document.querySelector("#model").value === "echo"`)
	}
}
