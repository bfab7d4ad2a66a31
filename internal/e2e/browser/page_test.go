package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

const answerText = ".answer:last-child > .text"

func testPageStreams(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask("Hello")
	p.reads(".question .text", "Hello")
	for i, want := range []string{"one ", "one two ", "one two three "} {
		d.Say(strings.Fields(want)[i] + " ")
		p.reads(answerText, want)
		p.reads("#status", "Streaming")
		p.wait(`document.querySelector("#log").ariaBusy === "true"`)
	}
	d.Say("\n\nend") // white space stays
	d.End()
	p.reads(answerText, "one two three \n\nend")
	p.reads("#status", "Complete")
	p.wait(`document.querySelector("#log").ariaBusy === "false"`)
	p.reads("#events", "6")
	p.reads("#connections", "1")
	p.wait(`/^\d+\.\d\d s$/.test(document.querySelector("#first").textContent)`)
	p.wait(`/^≈ [\d.,]+$/.test(document.querySelector("#rate").textContent)`)
	p.wait(`document.querySelector("#raw").textContent.trim().split("\n").map(JSON.parse).at(-1).finished.finishReason === "STOP"`)
}

func testPageConverses(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	turn := func(question, reply string) (body string) {
		p.ask(question)
		d.Say(reply)
		d.End()
		p.reads("#status", "Complete")
		p.reads(answerText, reply)
		return <-d.Requests
	}
	messages := func(body string) string {
		var chat struct {
			Prompt   string
			Messages []struct{ Role, Content string }
		}
		if err := json.Unmarshal([]byte(body), &chat); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(chat.Messages) + chat.Prompt
	}
	turn("One?", "Two.")
	if got, want := messages(turn("Three?", "Four.")), "[{user One?} {assistant Two.} {user Three?}]"; got != want {
		t.Errorf("the second request says %s, want %s", got, want)
	}
	p.click("#anew")
	p.reads("#log", "")
	if got, want := messages(turn("Five?", "Six.")), "[{user Five?}]"; got != want {
		t.Errorf("after a new start the request says %s, want %s", got, want)
	}
	p.click("[value=prompt] + span")
	p.ask("Once upon")
	if got, want := messages(<-d.Requests), "[]Once upon"; got != want {
		t.Errorf("the request of a prompt says %s, want %s", got, want)
	}
	d.End()
	p.reads("#status", "Complete")
}

// maxStop is how long after Stop an upstream connection may still be open.
const maxStop = 100 * time.Millisecond

func testPageStops(t *testing.T, b browser) {
	// Before the first token the page does not know the completion's id: it stops it by
	// the key, long before the commit window is over.
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env(), "--commit-window=10s").HTTP)
	for _, test := range []struct {
		name   string
		words  []string // that came before
		stop   func()
		within time.Duration
	}{
		{"the button", []string{"so", " far"}, func() { p.click("#stop") }, maxStop},
		{"Escape", []string{"so", " far"}, func() { p.key(kb.Escape) }, maxStop},
		{"Escape before the first token", nil, func() { p.key(kb.Escape) }, maxStop},
	} {
		var took []time.Duration
		for range 5 {
			p.ask("Go on")
			<-d.Requests
			d.Say(test.words...)
			p.reads(answerText, strings.Join(test.words, ""))
			// From when the page is told, not the browser.
			eval[any](p, `for (const type of ["click", "keydown"])
				addEventListener(type, () => localStorage.stopped = Date.now(), true)`)
			test.stop()
			select {
			case gone := <-d.Gone:
				took = append(took, gone.Sub(time.UnixMilli(eval[int64](p, `+localStorage.stopped`))))
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: the upstream connection is open after 10 s", test.name)
			}
			p.reads("#status", "Stopped")
			p.reads(".answer:last-child .note", "Stopped.")
			p.reads(answerText, strings.Join(test.words, ""))
		}
		slices.Sort(took)
		t.Logf("%s: upstream connections closed within %v", test.name, took)
		if median := took[len(took)/2]; median > test.within { // one may be the machine's
			t.Errorf("%s: upstream connections closed after %v, want at most %v", test.name, median, test.within)
		}
	}
}

func testPageCut(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	proxy := e2etest.NewResetter(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p := b.open(t, proxy.URL, "Failed to load resource: net::ERR_(CONNECTION_RESET|INCOMPLETE_CHUNKED_ENCODING)")
	p.ask("Recite")
	want := ""
	say := func(words ...string) { d.Say(words...); want += strings.Join(words, "") }
	for _, part := range []string{"one ", "two ", "three "} {
		say(part, "and ", part)
		p.reads(answerText, want)
		p.remember("#status")
		say("then ") // it may be on its way
		proxy.Cut()
		p.wait(`remembered.some((text) => text.startsWith("Lost after event "))`)
		say("back ") // nobody reads
		p.reads("#status", "Streaming again")
		p.reads(answerText, want)
	}
	say("end")
	d.End()
	p.reads("#status", "Complete, nothing lost in 3 cuts")
	p.reads(answerText, want)
	p.reads("#connections", "4")
	if d.Calls.Load() != 1 || proxy.Cuts < 3 {
		t.Errorf("%d calls upstream, want 1; %d cuts", d.Calls.Load(), proxy.Cuts)
	}
}

func testPageCutsItself(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask("Recite")
	d.Say("one ", "two ")
	p.reads(answerText, "one two ")
	p.remember("#status")
	p.click("#cut")
	p.had("Lost after event 3, coming back…")
	d.Say("three ", "four ")
	p.reads(answerText, "one two three four ")
	d.End()
	p.reads("#status", "Complete, nothing lost in 1 cut")
	if n := d.Calls.Load(); n != 1 {
		t.Errorf("%d calls upstream, want 1", n)
	}
}

// A page that is hidden goes on reading. One that is frozen reads the rest
// afterwards; Chromium may only give it that when it is complete. Neither is a
// reason to ask for another completion.
func testPageHidden(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	ctx, closeTab := chromedp.NewContext(p.ctx, chromedp.WithNewWindow(false))
	defer closeTab()
	other := &tab{t: t, ctx: ctx}
	for i, freeze := range []bool{false, true} {
		call(p, page.BringToFront, cdp.Empty{})
		p.ask("Recite")
		d.Say("one ")
		p.reads(answerText, "one ")

		call(other, page.BringToFront, cdp.Empty{})
		p.wait(`document.visibilityState === "hidden"`)
		d.Say("two ")
		if freeze {
			call(p, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: page.SetWebLifecycleStateStateFrozen})
			d.Say("three ")
			call(p, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: page.SetWebLifecycleStateStateActive})
		}
		call(p, page.BringToFront, cdp.Empty{})
		p.wait(`document.visibilityState === "visible"`)
		if !freeze {
			p.reads(answerText, "one two ")
			d.Say("three ")
		}
		d.Say("four")
		d.End()
		p.reads("#status", "Complete")
		p.reads(answerText, "one two three four")
		if posts, all := p.count("POST /v1/completions"), p.count("/v1/completions"); posts != i+1 || all != i+1 && !freeze {
			t.Errorf("after %d completions the page has sent %d requests, %d of them POST", i+1, all, posts)
		}
		if n := d.Calls.Load(); n != int64(i+1) {
			t.Errorf("%d calls upstream, want %d", n, i+1)
		}
	}
}

func testPageErrors(t *testing.T, b browser) {
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.Contains(string(body), "refuse"):
			e2etest.Refuse(http.StatusBadRequest, "context_length_exceeded")(w, r)
		case strings.Contains(string(body), "break off"):
			e2etest.Text(e2etest.Abort)(w, r)
		}
	})
	p := b.open(t, e2etest.Start(t, "one process", u.Env()).HTTP, "status of 400")
	p.ask("refuse")
	p.reads(".failure h3", "CONTEXT_LENGTH_EXCEEDED")
	p.reads("#status", "Failed")
	p.wait(`/^HTTP 400 · request [A-Z0-9]{26} · cmpl_\w{26}$/.test(document.querySelector(".failure .facts").textContent)`)
	p.wait(`!document.querySelector(".failure button")`)

	p.remember(".answer:last-child .hint")
	p.ask("break off") // in mid-answer
	p.reads(answerText, "some text")
	p.reads(".answer:last-child .failure h3", "UPSTREAM_TRUNCATED")
	p.wait(`/^HTTP 503 · request [A-Z0-9]{26} · cmpl_\w{26}$/.test(document.querySelector(".answer:last-child .facts").textContent)`)
	p.had("It asks you to wait 1 s.")
	p.click(".answer:last-child .failure button")
	e2etest.Eventually(t, "a second call", func() bool { return u.Calls.Load() == 3 })
	p.wait(`document.querySelectorAll(".question").length === 2 && document.querySelectorAll(".answer").length === 3`)
}

func testPageControls(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.reads("#model", "mecho (embedded)") // two options
	for _, node := range call(p, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes {
		if node.Role == nil || node.Ignored {
			continue
		}
		switch role := value(node.Role); role {
		case "button", "textbox", "combobox", "radio", "log", "status", "complementary", "DisclosureTriangle":
			if value(node.Name) == "" && role != "status" {
				t.Errorf("a %s has no name", role)
			}
		}
	}
	p.click("#input")
	p.key("one")
	p.enter(chromedp.ModifierShift)
	p.key("two")
	p.wait(`document.querySelector("#input").value === "one\ntwo"`)
	p.enter(chromedp.ModifierCtrl)
	p.reads(".question .text", "one\ntwo")
	p.key("three")
	p.enter(0) // not while an answer comes
	// Escape ends what an input method composes, not the answer.
	eval[any](p, `document.querySelector("#input").dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", isComposing: true, bubbles: true })) && 0`)
	d.Say("done")
	d.End()
	p.reads("#status", "Complete")
	p.wait(`document.querySelector("#input").value === "three" && document.activeElement.id === "input"`)
	if n := d.Calls.Load(); n != 1 {
		t.Errorf("%d calls upstream, want 1", n)
	}
}

func value(v *accessibility.Value) (s string) {
	if v != nil {
		_ = json.Unmarshal(v.Value, &s) // those that are no strings are not asked for
	}
	return s
}
