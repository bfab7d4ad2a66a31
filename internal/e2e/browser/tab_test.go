package browser

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// tab is a tab with a page in it, in a profile of its own unless those of the browser share one.
type tab struct {
	t   *testing.T
	ctx context.Context
	url string

	mu         sync.Mutex // guards all below
	requests   []string   // that the page sent: method, space, path
	protocols  []string   // by which it was answered: version, space, path
	logs       []string   // what it gave to console.log
	complaints []string   // of the page, or of the browser about it
}

// open opens a URL. The test fails if the console, the browser's log or the
// content security policy have anything to say that matches none of tolerated.
func (b browser) open(t *testing.T, url string, tolerated ...string) *tab {
	t.Helper()
	p := &tab{t: t, url: url}
	options := []chromedp.ContextOption{chromedp.WithListener(p.exchanged)}
	if !b.shared {
		options = append(options, chromedp.WithNewBrowserContext())
	}
	ctx, closeTab := chromedp.NewContext(b.ctx, options...)
	p.ctx = ctx
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	var listening sync.WaitGroup
	console := chromedp.Console(ctx)
	listening.Go(func() {
		for m, err := range console {
			if err != nil {
				return
			}
			p.hear(m, tolerated)
		}
	})
	t.Cleanup(func() {
		p.quiet()
		closeTab()
		listening.Wait()
		if t.Failed() {
			t.Logf("the page sent %q", p.requests)
		}
	})
	call(p, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
		addEventListener("securitypolicyviolation", (e) => console.error("policy:", e.violatedDirective, e.blockedURI));`})
	p.visit(url)
	return p
}

func (p *tab) visit(url string) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.Navigate(url)); err != nil {
		p.t.Fatal(err)
	}
}

// exchanged hears of requests and of their answers.
func (p *tab) exchanged(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.Method+" "+pathOf(e.Request.URL))
	case *network.EventResponseReceived:
		p.protocols = append(p.protocols, e.Response.Protocol+" "+pathOf(e.Response.URL))
	}
}

func pathOf(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	_, path, _ := strings.Cut(rest, "/")
	return "/" + path
}

const lastWords = "the test is over"

func (p *tab) hear(m chromedp.ConsoleMessage, tolerated []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Type == chromedp.ConsoleLog || m.Text == lastWords {
		p.logs = append(p.logs, m.Text)
		return
	}
	for _, pattern := range tolerated {
		if regexp.MustCompile(pattern).MatchString(m.Text) {
			return
		}
	}
	p.complaints = append(p.complaints, m.String()+" "+m.URL)
}

// quiet fails the test if there were complaints. What the page says last tells
// that all before it was heard.
func (p *tab) quiet() {
	eval[any](p, `console.log("`+lastWords+`")`)
	e2etest.Eventually(p.t, "hear the console", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return slices.Contains(p.logs, lastWords)
	})
	for _, complaint := range p.complaints {
		p.t.Errorf("the console says: %s", complaint)
	}
}

// count returns how many requests the page sent that match a pattern.
func (p *tab) count(pattern string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, request := range p.requests {
		if regexp.MustCompile(pattern).MatchString(request) {
			n++
		}
	}
	return n
}

// eval returns the value of an expression, or of the promise that it is.
func eval[T any](p *tab, expression string) T {
	p.t.Helper()
	v, err := evaluate[T](p, expression)
	if err != nil {
		p.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
}

func evaluate[T any](p *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// call runs a command of the browser's protocol.
func call[P, R any](p *tab, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	r, err := chromedp.Run(p.ctx, func(ctx context.Context, target *chromedp.Target) (R, error) {
		return cdp.Call(ctx, target, command, params)
	})
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return r
}

// wait waits until an expression is true. Meanwhile there may come another page.
func (p *tab) wait(expression string) {
	p.t.Helper()
	e2etest.Eventually(p.t, expression, func() bool {
		is, err := evaluate[bool](p, expression)
		if err != nil && !strings.Contains(err.Error(), "navigated") {
			p.t.Fatalf("evaluate %s: %v", expression, err)
		}
		return is
	})
}

// reads waits until the text of an element is as wanted.
func (p *tab) reads(selector, want string) {
	p.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		got := p.text(selector)
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s reads %q after 10 s, not %q", selector, got, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// remember has the page remember the texts that an element, the last one that a selector
// finds, has from now on: what stays for a second may be gone before anybody looks.
func (p *tab) remember(selector string) {
	p.t.Helper()
	eval[any](p, `{
		window.remembering?.disconnect();
		window.remembered = [];
		window.remembering = new MutationObserver(() => {
			const text = [...document.querySelectorAll(`+quote(selector)+`)].at(-1)?.textContent;
			if (text !== undefined && text !== remembered.at(-1)) remembered.push(text);
		});
		remembering.observe(document.body, { subtree: true, childList: true, characterData: true });
	}`)
}

// had waits until the element that is remembered has had a text.
func (p *tab) had(text string) {
	p.t.Helper()
	p.wait(`remembered.includes(` + quote(text) + `)`)
}

// text returns the text of the last element that a selector finds.
func (p *tab) text(selector string) string {
	p.t.Helper()
	return eval[string](p, `[...document.querySelectorAll(`+quote(selector)+`)].at(-1)?.textContent ?? ""`)
}

func (p *tab) click(selector string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS(selector))); err != nil {
		p.t.Fatalf("click %s: %v", selector, err)
	}
}

// key presses keys of the keyboard.
func (p *tab) key(keys string) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.KeyEvent(keys)); err != nil {
		p.t.Fatal(err)
	}
}

// ask writes a message and sends it, once the page knows of a model: before the list has
// come, it can name none.
func (p *tab) ask(text string) {
	p.t.Helper()
	p.wait(`document.querySelector("#model").value !== ""`)
	p.askAnyModel(text)
}

// askAnyModel does so whatever the page knows.
func (p *tab) askAnyModel(text string) {
	p.t.Helper()
	p.click("#input")
	p.key(text)
	p.enter(0)
}

// enter presses Enter. It is one event of key and text, as of a keyboard: kb.Enter
// would break the line even if the page prevents that.
func (p *tab) enter(modifiers chromedp.Modifier) {
	p.t.Helper()
	press := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Modifiers: int64(modifiers),
		Key: "Enter", Code: "Enter", Text: "\r", WindowsVirtualKeyCode: 13}
	call(p, input.DispatchKeyEvent, press)
	press.Type, press.Text = input.DispatchKeyEventTypeKeyUp, ""
	call(p, input.DispatchKeyEvent, press)
}

// quote makes a string an expression.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // of a string
	}
	return string(b)
}
