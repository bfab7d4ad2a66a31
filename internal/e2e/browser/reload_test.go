package browser

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp/kb"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
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
	d := e2etest.NewDictation(t)
	program := e2etest.Start(t, "one process", d.Env()).HTTP
	p := b.open(t, program, "status of 503")
	p.wait(`document.querySelector("#model").value === "m"`)
	p.ask("One?")
	d.Send(`{"reasoning_content":"Hm."}`)
	d.Send(`{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"count","arguments":"{\"to\":"}}]}`)
	d.Send(`{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}`)
	d.Say("*Two", ".*")
	d.End()
	p.reads("#status", "Complete")
	p.ask("Three?")
	d.Say("Fo")
	p.reads(answerText, "Fo")
	d.CloseClientConnections()
	p.reads("#status", "Failed")
	p.ask("Five?")
	d.Say("Six")
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
	for range len(d.Requests) {
		<-d.Requests
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
	got := sentMessages(t, <-d.Requests)
	if want := []string{"user One?", "assistant *Two.*", "user Five?", "assistant Six", "user unsent?"}; !slices.Equal(got, want) {
		t.Errorf("then the request says %q, want %q", got, want)
	}
	d.End()
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

// sentMessages returns the roles and the texts of a request.
func sentMessages(t *testing.T, request string) (messages []string) {
	t.Helper()
	var body struct {
		Messages []struct{ Role, Content string }
	}
	if err := json.Unmarshal([]byte(request), &body); err != nil {
		t.Fatal(err)
	}
	for _, m := range body.Messages {
		messages = append(messages, m.Role+" "+m.Content)
	}
	return messages
}

func testPageReloadInAnswer(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)

	// In mid-answer: by its id.
	p.ask("Recite")
	d.Say("one ", "two ")
	p.reads(answerText, "one two ")
	for _, word := range []string{"three ", "four "} {
		p.reload()
		p.wait(`document.querySelector("` + answerText + `")?.textContent.startsWith("one two ") === true`)
		p.reads("#status", "Streaming")
		d.Say(word)
	}
	p.reads(answerText, "one two three four ")
	p.wait(`document.querySelectorAll("article").length === 2`)

	// While nobody is there, to its end.
	p.visit("about:blank")
	d.Say("five")
	d.End()
	p.reload()
	p.reads(answerText, "one two three four five")
	p.reads("#status", "Complete")
	p.reload()
	p.reads(answerText, "one two three four five")
	p.reads("#status", "Ready")
	checkCalls(t, d, 1)
	if posts := p.count("POST"); posts != 1 {
		t.Errorf("%d requests of method POST, want 1", posts)
	}

	// Before the first token there is no id: by the key.
	p.ask("Again")
	e2etest.Eventually(t, "the second call", func() bool { return d.Calls.Load() == 2 })
	p.reload()
	p.reads("#status", "Coming back…")
	d.Say("late")
	p.reads(answerText, "late")
	checkCalls(t, d, 2)
	d.End()
	p.reads("#status", "Complete")
}

// checkCalls checks how often the upstream was called.
func checkCalls(t *testing.T, d *e2etest.Dictation, want int64) {
	t.Helper()
	if n := d.Calls.Load(); n != want {
		t.Errorf("%d calls upstream, want %d", n, want)
	}
}

// A completion that was resumed can be stopped (vercel/ai#18458), and resumed on the way
// back from another page.
func testPageStopResumed(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask("Again")
	d.Say("late")
	p.reads(answerText, "late")
	p.reload()
	p.reads("#status", "Streaming")
	p.key(kb.Escape)
	p.reads("#status", "Stopped")
	e2etest.Eventually(t, "end the completion", func() bool { return d.Open.Load() == 0 })
	p.reload()
	p.reads(answerText, "late")
	p.reads(".answer:last-child .note", "Stopped.")
	checkCalls(t, d, 1)

	// To another page and back, where the browser may have kept the first as it was.
	p.ask("Go on")
	d.Say("there ")
	p.reads(answerText, "there ")
	p.visit("about:blank")
	eval[any](p, `setTimeout(() => history.back())`) // not at once: the evaluation would go with the page
	p.wait(`document.body?.dataset.state === "streaming"`)
	d.Say("and back")
	p.reads(answerText, "there and back")
	eval[any](p, `document.querySelector("#stop").click()`) // chromedp does not find what it knew of the page
	p.reads("#status", "Stopped")
	checkCalls(t, d, 2)
}

// The server may have forgotten the completion: it was restarted, or it is long ago. What
// the page had is still there, and nothing is asked for anew.
func testPageReloadGone(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env(), "--max-disconnect-grace=500ms").HTTP, "status of 404")
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
	d.Say("so far")
	p.reads(answerText, "so far")
	forget(`(turn) => { turn.id = "cmpl_01M81WT7V9MYPDSVR2CHCXP87J"; }`)
	p.reads("#status", "Failed")
	p.reads(answerText, "so far")
	p.reads(".failure h3", "COMPLETION_NOT_FOUND")
	p.wait(`!document.querySelector(".failure button")`)

	p.click("#anew")
	p.ask("Another")
	e2etest.Eventually(t, "the second call", func() bool { return d.Calls.Load() == 2 })
	forget(`(turn) => { delete turn.id; turn.begun -= 60_000; }`)
	p.reads("#status", "Ready")
	p.reads(".answer .note", "The page was left before the answer began.")
	if n := d.Calls.Load(); n != 2 {
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
		e2etest.Eventually(t, "nothing else under way", func() bool { return d.Open.Load() == 0 })
		p.ask("Hello?")
		d.End()
		p.reads("#status", "Complete")
	}
}

// A page that was loaded again, and left again before it could come back, has lost
// nothing of what the first one had.
func testPageReloadTwice(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	program := e2etest.Start(t, "one process", d.Env())
	p := b.open(t, program.HTTP, "status of 404", "ERR_")
	p.ask("Recite")
	d.Say("so far")
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
