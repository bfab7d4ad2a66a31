package browser

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/page"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
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
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		switch calls.Add(1) {
		case 1:
			wait(r)
			e2etest.Refuse(http.StatusTooManyRequests, "rate_limit_exceeded")(w, r)
		case 3:
			wait(r)
			e2etest.Refuse(http.StatusNotFound, "model_not_found")(w, r)
		default:
			e2etest.Chunk(w, `{"content":"at last"}`, "stop")
			_, _ = io.WriteString(w, "data: [DONE]\n\n")
		}
	})
	p := b.open(t, e2etest.Start(t, "one process", u.Env()).HTTP, "status of 4")
	p.ask("Hello")
	e2etest.Eventually(t, "the first call", func() bool { return calls.Load() == 1 })
	p.reload()
	p.reads("#status", "Coming back…")
	proceed <- true
	p.reads(".failure h3", "UPSTREAM_RATE_LIMITED")
	p.click(".failure button")
	p.reads(answerText, "at last")

	p.click("[value=prompt] + span")
	p.ask("Once upon")
	e2etest.Eventually(t, "the third call", func() bool { return calls.Load() == 3 })
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
	d := e2etest.NewDictation(t)
	proxy := e2etest.NewResetter(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p := b.open(t, proxy.URL, "net::ERR_")
	// It does not wait between its tries, so that it gives up soon.
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
		const wait = setTimeout;
		setTimeout = (f, milliseconds) => wait(f, milliseconds > 500 ? 0 : milliseconds);
	}`})
	p.reload()
	lose := func() {
		t.Helper()
		proxy.Down.Store(true)
		proxy.Cut()
		p.reads("#status", "Failed")
		p.reads(".failure h3", "CONNECTION_LOST")
		proxy.Down.Store(false)
	}
	p.ask("In mid-answer: by its id")
	d.Say("one ")
	p.reads(answerText, "one ")
	lose()
	d.Say("two ")
	p.click(".failure button")
	p.reads(answerText, "one two ")
	lose()
	d.Say("three ")
	p.reload() // which is to try again, too
	p.reads(answerText, "one two three ")
	p.wait(`document.querySelectorAll("article").length === 2 && !document.querySelector(".failure")`)
	d.End()
	p.reads("#status", "Complete")

	p.ask("Before the first token: by its key")
	e2etest.Eventually(t, "the second call", func() bool { return d.Calls.Load() == 2 })
	lose()
	p.click(".failure button")
	d.Say("once")
	p.reads(answerText, "once")

	lose()
	d.End()
	e2etest.Eventually(t, "its end", func() bool { return d.Open.Load() == 0 })
	p.ask("Something else")
	d.Say("other")
	p.reads(answerText, "other")
	p.wait(`!document.querySelector(".failure button")`)
	d.End()
	p.reads("#status", "Complete")
	want := p.shown()
	p.reload()
	if got := p.shown(); got != want {
		t.Errorf("after a reload the page shows\n%s, want\n%s", got, want)
	}
	if n := d.Calls.Load(); n != 3 {
		t.Errorf("%d calls upstream for three questions", n)
	}
}

// The list may come after the first question, or not at all.
func testPageModelsLate(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
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
	p := b.open(t, e2etest.Start(t, "one process", (&e2etest.Upstream{Server: late}).Env(), "--model=m").HTTP, "status of 5")
	p.askAnyModel("Hello")
	d.Say("so far")
	p.reads("#status", "Streaming")
	list <- false
	p.wait(`performance.getEntriesByName(new URL("/v1/models", location)).some((e) => e.responseEnd > 0)`)
	d.Say(" so good")
	p.reads(answerText, "so far so good")
	p.wait(`document.querySelector("#status").textContent === "Streaming" && document.querySelector("#stop").ariaDisabled === "false"`)
	d.End()
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
