package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// reload loads the page again, and returns when it is there.
func (p *tab) reload() {
	p.t.Helper()
	p.visit(p.url)
	p.wait(`document.querySelectorAll("#model option").length > 0 && document.querySelector("#model").value !== ""`)
}

// shown returns what the conversation looks like.
func (p *tab) shown() string {
	p.t.Helper()
	return eval[string](p, `[...document.querySelectorAll("#log article")].map((a) =>
		[a.className, ...[...a.children].map((e) => e.className + ":" + e.textContent)].join("|")).join("\n")`)
}

func testPageReload(t *testing.T, b browser) {
	d := newDictation(t)
	program := start(t, "one process", d.env()).http
	p := b.open(t, program, "status of 503")
	p.wait(`document.querySelector("#model").value === "m"`)
	p.ask("One?")
	d.send(`{"reasoning_content":"Hm."}`)
	d.send(`{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"count","arguments":"{\"to\":"}}]}`)
	d.send(`{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}`)
	d.say("*Two", ".*")
	d.end()
	p.reads("#status", "Complete")
	p.ask("Three?")
	d.say("Fo")
	p.reads(answerText, "Fo")
	d.CloseClientConnections()
	p.reads("#status", "Failed")
	p.ask("Five?")
	d.say("Six")
	p.reads(answerText, "Six")
	p.click("#stop")
	p.reads("#status", "Stopped")
	// A failure can be tried again only as long as nothing else is asked for.
	p.wait(`document.querySelector(".failure button") === null`)
	want := p.shown()
	for _, part := range []string{"Hm.", "Calls count{\"to\":1}", "text:*Two.*", "markdown:Two.", "Fo", "UPSTREAM_TRUNCATED", "note:Stopped.", "Source"} {
		if !strings.Contains(want, part) {
			t.Fatalf("the page shows %q, without %s", want, part)
		}
	}
	p.click("#input")
	p.key("unsent")
	for range len(d.requests) {
		<-d.requests
	}

	p.click("[value=prompt] + span")
	p.reload()
	if got := p.shown(); got != want {
		t.Errorf("after a reload the page shows\n%s, want\n%s", got, want)
	}
	p.wait(`document.querySelector("#input").value === "unsent" && document.querySelector("[name=mode]:checked").value === "prompt"`)
	p.reads("#status", "Ready")
	p.click("[value=chat] + span")
	p.ask("?")
	var body struct {
		Messages []struct{ Role, Content string }
	}
	if err := json.Unmarshal([]byte(<-d.requests), &body); err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, m := range body.Messages {
		got = append(got, m.Role+" "+m.Content)
	}
	if want := []string{"user One?", "assistant *Two.*", "user Five?", "assistant Six", "user unsent?"}; !slices.Equal(got, want) {
		t.Errorf("then the request says %q, want %q", got, want)
	}
	d.end()
	p.reads("#status", "Complete")

	// It is the tab's alone, and goes with a new start.
	if kept := eval[int](p, `localStorage.length + document.cookie.length`); kept != 0 {
		t.Error("the page keeps something for other tabs")
	}
	p.click("#anew")
	p.reload()
	p.reads("#log", "")
	p.wait(`!document.querySelector("#welcome").hidden`)
}

func testPageReloadInAnswer(t *testing.T, b browser) {
	d := newDictation(t)
	p := b.open(t, start(t, "one process", d.env()).http)
	called := func(want int64) {
		t.Helper()
		if n := d.calls.Load(); n != want {
			t.Errorf("%d calls upstream, want %d", n, want)
		}
	}

	// In mid-answer: by its id.
	p.ask("Recite")
	d.say("one ", "two ")
	p.reads(answerText, "one two ")
	for _, word := range []string{"three ", "four "} {
		p.reload()
		p.wait(`document.querySelector("` + answerText + `")?.textContent.startsWith("one two ") === true`)
		p.reads("#status", "Streaming")
		d.say(word)
	}
	p.reads(answerText, "one two three four ")
	p.wait(`document.querySelectorAll("article").length === 2`)

	// While nobody is there, to its end.
	p.visit("about:blank")
	d.say("five")
	d.end()
	p.reload()
	p.reads(answerText, "one two three four five")
	p.reads("#status", "Complete")
	p.reload()
	p.reads(answerText, "one two three four five")
	p.reads("#status", "Ready")
	called(1)
	if posts := p.count("POST"); posts != 1 {
		t.Errorf("%d requests of method POST, want 1", posts)
	}

	// Before the first token there is no id: by the key.
	p.ask("Again")
	eventually(t, "the second call", func() bool { return d.calls.Load() == 2 })
	p.reload()
	p.reads("#status", "Coming back…")
	d.say("late")
	p.reads(answerText, "late")
	called(2)

	// What was resumed can be stopped (vercel/ai#18458).
	p.reload()
	p.reads("#status", "Streaming")
	p.key(kb.Escape)
	p.reads("#status", "Stopped")
	eventually(t, "end the completion", func() bool { return d.open.Load() == 0 })
	p.reload()
	p.reads(answerText, "late")
	p.reads(".answer:last-child .note", "Stopped.")
	called(2)

	// To another page and back, where the browser may have kept the first as it was.
	p.ask("Go on")
	d.say("there ")
	p.reads(answerText, "there ")
	p.visit("about:blank")
	eval[any](p, `history.back()`)
	p.wait(`document.body?.dataset.state === "streaming"`)
	d.say("and back")
	p.reads(answerText, "there and back")
	eval[any](p, `document.querySelector("#stop").click()`) // chromedp does not find what it knew of the page
	p.reads("#status", "Stopped")
	called(3)
}

// The server may have forgotten the completion: it was restarted, or it is long ago. What
// the page had is still there, and nothing is asked for anew.
func testPageReloadGone(t *testing.T, b browser) {
	d := newDictation(t)
	p := b.open(t, start(t, "one process", d.env(), "--max-disconnect-grace=500ms").http, "status of 404")
	forget := func(change string) {
		t.Helper()
		// After the page has kept it, and before the next one reads it.
		eval[any](p, `addEventListener("pagehide", () => {
			const kept = JSON.parse(sessionStorage.conversation);
			(`+change+`)(kept.turns.at(-1));
			sessionStorage.conversation = JSON.stringify(kept);
		})`)
		p.reload()
	}
	p.ask("Recite")
	d.say("so far")
	p.reads(answerText, "so far")
	forget(`(turn) => { turn.id = "cmpl_01M81WT7V9MYPDSVR2CHCXP87J"; }`)
	p.reads("#status", "Failed")
	p.reads(answerText, "so far")
	p.reads(".failure h3", "COMPLETION_NOT_FOUND")
	p.wait(`!document.querySelector(".failure button")`)

	p.click("#anew")
	p.ask("Another")
	eventually(t, "the second call", func() bool { return d.calls.Load() == 2 })
	forget(`(turn) => { delete turn.id; turn.begun -= 60_000; }`)
	p.reads("#status", "Ready")
	p.reads(".answer .note", "The page was left before the answer began.")
	if n := d.calls.Load(); n != 2 {
		t.Errorf("%d calls upstream, want 2", n)
	}
	if posts := p.count("POST /v1/completions$"); posts != 2 {
		t.Errorf("%d requests of method POST, want 2", posts)
	}

	// What somebody else wrote there is not taken, be it an older version of the page.
	for _, other := range []string{`{`, `7`, `{"turns":5}`, `{"turns":[null]}`, `{"turns":[{"who":"m"}]}`, `{"turns":[{"who":"m","said":{"toolCalls":5}}]}`,
		`{"turns":[{"who":"m","request":{}}]}`, `{"messages":7}`, `{"mode":"other"}`} {
		eval[any](p, `addEventListener("pagehide", () => { sessionStorage.conversation = `+quote(other)+`; })`)
		p.reload()
		p.reads("#log", "")
		p.wait(`!document.querySelector("#welcome").hidden && document.querySelector("[name=mode]:checked").value === "chat"`)
		eventually(t, "nothing else under way", func() bool { return d.open.Load() == 0 })
		p.ask("Hello?")
		d.end()
		p.reads("#status", "Complete")
	}
}

// A page that was loaded again, and left again before it could come back, has lost
// nothing of what the first one had.
func testPageReloadTwice(t *testing.T, b browser) {
	d := newDictation(t)
	program := start(t, "one process", d.env())
	p := b.open(t, program.http, "status of 404", "ERR_")
	p.ask("Recite")
	d.say("so far")
	p.reads(answerText, "so far")
	// The server is gone, and the next one knows nothing.
	eval[any](p, `addEventListener("pagehide", () => {
		const kept = JSON.parse(sessionStorage.conversation);
		kept.turns.at(-1).id = "cmpl_01M81WT7V9MYPDSVR2CHCXP87J";
		sessionStorage.conversation = JSON.stringify(kept);
	})`)
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `{
		const real = fetch;
		fetch = (url, ...rest) => (sessionStorage.waits && String(url).endsWith("/events") ? new Promise(() => {}) : real(url, ...rest));
	}`})
	eval[any](p, `sessionStorage.waits = true`)
	p.reload()
	p.reads("#status", "Coming back…")
	eval[any](p, `sessionStorage.removeItem("waits")`)
	p.reload()
	p.reads("#status", "Failed")
	p.reads(".failure h3", "COMPLETION_NOT_FOUND")
	p.reads(answerText, "so far")
}

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

// The page that is left may be loaded again, so the grace, and no more, is waited for.
func testPageLeft(t *testing.T, b browser) {
	const grace = 300 * time.Millisecond
	d := newDictation(t)
	p := b.open(t, start(t, "one process", d.env(), "--max-disconnect-grace="+grace.String()).http)
	var took []time.Duration
	for range 5 {
		p.ask("Go on")
		d.say("so", " far")
		p.reads(answerText, "so far")
		eval[any](p, `addEventListener("pagehide", () => localStorage.left = Date.now())`)
		p.visit("about:blank")
		var gone time.Time
		select {
		case gone = <-d.gone:
		case <-time.After(10 * time.Second):
			t.Fatal("the upstream connection is open after 10 s")
		}
		p.reload()
		took = append(took, gone.Sub(time.UnixMilli(eval[int64](p, `+localStorage.left`))))
		p.reads("#status", "Stopped") // it has ended meanwhile
		p.reads(answerText, "so far")
		p.reads(".answer:last-child .note", "Stopped.")
	}
	slices.Sort(took)
	t.Logf("upstream connections closed after %v", took)
	if median := took[len(took)/2]; median > grace+maxStop || took[0] < grace-10*time.Millisecond {
		t.Errorf("upstream connections closed after %v, want %v", took, grace)
	}
}

// The grace that the page asks for is for a reload, so it is short.
func testPageLeftForGood(t *testing.T, b browser) {
	d := newDictation(t)
	p := b.open(t, start(t, "one process", d.env()).http)
	p.ask("Go on")
	d.say("so far")
	p.reads(answerText, "so far")
	left := time.Now()
	p.visit("about:blank")
	select {
	case gone := <-d.gone:
		if took := gone.Sub(left); took > 6*time.Second {
			t.Errorf("the upstream connection was closed after %v, want 5 s", took)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the upstream connection is open after 10 s")
	}
}

// A page that only uses client.js does not come back, so its completions need not wait:
// whether its tab is closed, or it goes to another page, and before the first token too.
func testOtherPageLeft(t *testing.T, b browser) {
	d := newDictation(t)
	origin := newOrigin(t)
	program := start(t, "one process", d.env(), "--cors-origin="+origin, "--commit-window=10s").http
	for _, from := range []string{program, origin} {
		for _, words := range []string{"so far", ""} {
			for _, leave := range []string{"close", "navigate"} {
				p := b.open(t, from)
				ctx, closeTab := chromedp.NewContext(p.ctx)
				defer closeTab()
				other := &tab{t: t, ctx: ctx}
				other.visit(from)
				eval[any](other, `import(`+quote(program+"/client.js")+`).then(async ({ streamCompletion }) => {
					for await (const { delta } of streamCompletion(`+quote(program+"/v1/completions")+`, { model: "m", messages: [{ role: "user", content: "Hi" }] }))
						if (delta) window.heard = delta.text;
				}) && 0`)
				<-d.requests
				if words != "" {
					d.say(words)
					other.wait(`window.heard === ` + quote(words))
				}
				left := time.Now()
				if leave == "close" {
					call(other, page.Close, cdp.Empty{})
				} else {
					other.visit("about:blank")
				}
				select {
				case gone := <-d.gone:
					t.Logf("%s, %q, %s: after %v", from, words, leave, gone.Sub(left))
				case <-time.After(10 * time.Second):
					t.Errorf("%s, %q, %s: the upstream connection is open after 10 s", from, words, leave)
				}
			}
		}
	}
}
