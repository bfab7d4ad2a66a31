package browser

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
)

// The screens that the page is made for.
var screenSizes = []struct{ width, height int64 }{{1280, 800}, {375, 667}}

func (p *tab) resize(width, height int64) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.EmulateViewport(width, height)); err != nil {
		p.t.Fatal(err)
	}
	p.wait(fmt.Sprintf("innerWidth === %d", width))
}

func (p *tab) prefer(scheme string) {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// inSight waits until the end of an element is on the screen, and not covered by what
// the user writes in.
func (p *tab) inSight(selector string) {
	p.t.Helper()
	p.wait(`(() => {
		const end = [...document.querySelectorAll(` + quote(selector) + `)].at(-1)?.getBoundingClientRect().bottom;
		return end > 0 && end <= document.querySelector("#composer").getBoundingClientRect().top;
	})()`)
}

func testPageSight(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP, "status of 503")
	for _, size := range screenSizes {
		p.resize(size.width, size.height)
		p.visit("about:blank")
		p.visit(p.url)
		p.click("#anew")
		p.ask("The first answer is followed")
		for range 40 {
			d.Say("one more line\n\n")
			p.inSight(".answer")
		}
		p.wait(`scrollY > 0`) // as all of it has come, which leaves the screen
		// Who goes up to read is left there.
		eval[any](p, `new Promise((done) => { addEventListener("scroll", done, { once: true }); scrollTo(0, 0); })`)
		d.Say("more\n\n", "and more\n\n", "the end")
		p.wait(`document.querySelector("` + answerText + `").textContent.endsWith("the end")`)
		if y := eval[int64](p, `new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(scrollY))))`); y != 0 {
			t.Errorf("at %d pixels a reader who went up is taken down to %d", size.width, y)
		}
		d.End()
		p.reads("#status", "Complete")
		p.ask("A failure is in sight, too") // who writes is at the end again
		d.Say(strings.Repeat("one more line\n\n", 40))
		p.inSight(".answer")
		d.CloseClientConnections()
		p.reads("#status", "Failed")
		p.inSight(".failure")
	}
}

func testPageStartsAnew(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP, "status of 503")
	clean := func() {
		t.Helper()
		p.reads("#status", "Ready")
		p.wait(`document.body.dataset.state === undefined && document.querySelector("#raw").textContent === ""`)
		p.wait(`[...document.querySelectorAll("aside dd")].every((dd) => dd.textContent === "–")`)
		p.wait(`document.querySelector("#log").textContent === "" && !document.querySelector("#welcome").hidden`)
		p.wait(`document.querySelector("#send").ariaDisabled === "false" && document.querySelector("#stop").ariaDisabled === "true"`)
	}
	p.ask("Fail")
	d.Say("so far")
	p.reads(answerText, "so far")
	d.CloseClientConnections()
	p.reads("#status", "Failed")
	p.click("#anew")
	clean()

	p.ask("Go on")
	d.Say("so far")
	p.reads(answerText, "so far")
	p.click("#anew") // in mid-answer: nothing of it comes after
	clean()
	e2etest.Eventually(t, "end the completion", func() bool { return d.Open.Load() == 0 })
	p.ask("Another")
	d.Say("other")
	d.End()
	p.reads("#status", "Complete")
	p.reads("#log .text", "other")
	articles := eval[int](p, `document.querySelectorAll("article").length`)
	if articles != 2 {
		t.Errorf("%d articles, want a question and its answer", articles)
	}
}

func testPageTriesAgain(t *testing.T, b browser) {
	var mu sync.Mutex
	var asked []time.Time
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		mu.Lock()
		asked = append(asked, time.Now())
		first := len(asked) == 1
		mu.Unlock()
		if first {
			e2etest.Refuse(http.StatusTooManyRequests, "rate_limit_exceeded", "Retry-After", "3")(w, r)
			return
		}
		e2etest.Chunk(w, `{"content":"at last"}`, "stop")
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	p := b.open(t, e2etest.Start(t, "one process", u.Env(), "--upstream-retries=0").HTTP, "status of 429")
	p.remember(".failure .hint")
	// It counts down until a click, which is kept until then, as is one more. The page itself
	// clicks: what comes from here may come too late.
	eval[any](p, `{
		const observer = new MutationObserver(() => {
			if (!/wait [12] s/.test(document.querySelector(".failure .hint")?.textContent)) return;
			observer.disconnect();
			for (let i = 0; i < 2; i++) document.querySelector(".failure button").click();
		});
		observer.observe(document.body, { subtree: true, childList: true, characterData: true });
	}`)
	p.ask("Hello")
	p.reads(answerText, "at last")
	if hints := eval[string](p, `remembered.join(" ")`); !regexp.MustCompile(`^It asks you to wait 3 s\. (It asks you to wait [12] s\. )?Asks again in [12] s\.`).MatchString(hints) {
		t.Errorf("the hints were %s", hints)
	}
	p.reads("#status", "Complete")
	p.wait(`!document.querySelector(".failure button")`) // it was tried
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 2 || asked[1].Sub(asked[0]) < 2900*time.Millisecond {
		t.Errorf("asked at %v, want twice, 3 s apart", asked)
	}
}

func testPageCountsDown(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask("Recite")
	d.Say("one ")
	p.reads(answerText, "one ")
	p.reads("#countdown", "")
	eval[any](p, `(() => {
		Math.random = () => 0.99; // of the wait of a second, and as much as a half
		window.counted = [];
		const countdown = document.querySelector("#countdown");
		new MutationObserver(() => counted.push(countdown.textContent)).observe(countdown, { childList: true });
	})()`)
	p.click("#cut")
	p.reads("#status", "Streaming again")
	p.reads("#countdown", "")
	if got, want := eval[string](p, `counted.join()`), "in 2 s,in 1 s,"; got != want {
		t.Errorf("it counts %q, want %q", got, want)
	}
	d.End()
	p.reads("#status", "Complete, nothing lost in 1 cut")
}

func testPagePrompt(t *testing.T, b browser) {
	requests := make(chan string, 10)
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- r.URL.Path + " " + string(body)
		if strings.HasSuffix(r.URL.Path, "/chat/completions") {
			e2etest.Chunk(w, `{"content":"a river"}`, "stop")
			_, _ = io.WriteString(w, "data: [DONE]\n\n")
			return
		}
		w.Header().Set("Content-Type", "application/json") // as OpenAI says it
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":{"message":"This is a chat model and not supported in the v1/completions endpoint. `+
			`Did you mean to use v1/chat/completions?","type":"invalid_request_error","param":"model","code":null}}`)
	})
	p := b.open(t, e2etest.Start(t, "one process", u.Env()).HTTP, "status of 4", "status of 500")
	p.wait(`document.querySelector("[name=mode]:checked").value === "chat" && document.querySelector("#about-prompt").hidden`)
	p.click("[value=prompt] + span")
	p.wait(`!document.querySelector("#about-prompt").hidden`)
	p.ask("Once upon a time")
	p.reads("#status", "Failed")
	<-requests
	p.reads(".failure button", "Send it as a conversation")
	p.click(".failure button")
	p.reads("#status", "Complete")
	p.reads(answerText, "a river")
	if got := <-requests; !strings.Contains(got, "/chat/completions") || !strings.Contains(got, `"content":"Once upon a time"`) {
		t.Errorf("then it asked %s", got)
	}
	p.wait(`document.querySelector("[name=mode]:checked").value === "chat" && document.querySelector("#about-prompt").hidden`)
	p.wait(`!document.querySelector(".failure button")`)
}

// testPageAccessible has axe look at the page in all its states.
func testPageAccessible(t *testing.T, b browser) {
	axe, err := os.ReadFile(filepath.Join(e2etest.Root(), "bridge", "web", "testdata", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		skip.For(t, "axe does not look at the page without its package: run npm ci in bridge/web/testdata")
	}
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP, "status of 503")
	check := func(state string) {
		t.Helper()
		for _, size := range screenSizes {
			p.resize(size.width, size.height)
			for _, scheme := range []string{"light", "dark"} {
				p.prefer(scheme)
				for _, violation := range eval[[]string](p, `axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) =>
					violations.flatMap(({ id, help, nodes }) => nodes.map(({ html, any }) => [id, help, html, ...any.map(({ message }) => message)].join(": "))))`) {
					t.Errorf("%s, %s, %d: %s", state, scheme, size.width, violation)
				}
			}
		}
	}
	eval[any](p, string(axe)+"; 0")
	check("empty")
	p.click("[value=prompt] + span")
	check("a prompt")
	p.click("[value=chat] + span")
	p.ask("Hello")
	d.Send(`{"reasoning_content":"They said hello."}`)
	d.Send(`{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"look","arguments":"{}"}}]}`)
	d.Say(longMarkdown)
	p.wait(`document.querySelector(".answer .text")?.textContent.length > 0`)
	check("streaming")
	p.click("aside summary")
	p.remember("#status")
	p.click("#cut")
	p.wait(`remembered.some((text) => text.startsWith("Lost after event "))`)
	check("coming back")
	d.End()
	p.wait(`document.querySelector("#status").textContent.startsWith("Complete")`)
	check("finished")
	p.ask("And now?")
	d.Say("so far")
	p.reads(answerText, "so far")
	d.CloseClientConnections()
	p.reads("#status", "Failed")
	check("failed")
}

// longMarkdown has all that Markdown can be.
const longMarkdown = "# One\n\nTwo *three* **four** `five` ~~six~~ <https://example.com> [seven](https://example.com \"eight\")\n\n" +
	"### Nine\n\n- ten\n- eleven\n  1. twelve\n  2. thirteen\n\n> fourteen\n>\n> > fifteen\n\n" +
	"```go\nfunc sixteen() { fmt.Println(\"a long line that does not fit on a narrow screen, so that it can be scrolled to its end\") }\n```\n\n" +
	"| seventeen | eighteen | a wide column with much text | another wide column with much text |\n|:--|--:|:-:|---|\n| 19 | 20 | 21 | 22 |\n\n---\n\n" +
	"![an image](https://example.com/a.png)\n\n    indented code\n\nthe end\n"
