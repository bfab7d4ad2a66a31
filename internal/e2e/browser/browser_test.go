package e2e

import (
	"context"
	"encoding/json"
	"os/exec"
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

	"github.com/sluice-sse/sluice/internal/skip"
)

// TestBrowser runs everything that needs a browser in one, in a tab each.
func TestBrowser(t *testing.T) {
	b := startBrowser(t)
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b browser)
	}{
		{"the page streams", testPageStreams},
		{"the page keeps a conversation", testPageConverses},
		{"stop closes the upstream", testPageStops},
		{"a cut connection loses nothing", testPageCut},
		{"the page cuts and comes back", testPageCutsItself},
		{"hidden and shown", testPageHidden},
		{"what a model says is text", testPageText},
		{"errors are told", testPageErrors},
		{"controls have names and keys", testPageControls},
		{"what comes is in sight", testPageSight},
		{"a new start forgets all", testPageStartsAnew},
		{"the page has a key", testPageKey},
		{"trying again waits as long as asked", testPageTriesAgain},
		{"coming back is counted down", testPageCountsDown},
		{"a prompt that is not taken", testPagePrompt},
		{"nothing that axe finds", testPageAccessible},
		{"a reload keeps the conversation", testPageReload},
		{"a reload goes on reading", testPageReloadInAnswer},
		{"what was resumed can be stopped", testPageStopResumed},
		{"what is gone is told after a reload", testPageReloadGone},
		{"who leaves is waited for, and no longer", testPageLeft},
		{"who leaves for good is not waited for long", testPageLeftForGood},
		{"other pages' completions end with them", testOtherPageLeft},
		{"trying again is a new completion", testPageTriesAnew},
		{"trying again where the connection was lost is not", testPageLost},
		{"what was kept for the next page is kept for the one after that", testPageReloadTwice},
		{"a list of models that comes late disturbs nothing", testPageModelsLate},
		{"Markdown is drawn", testPageMarkdown},
		{"hostile Markdown is text", testPageHostileMarkdown},
		{"Markdown as it comes is Markdown as a whole", testPageMarkdownParts},
		{"what is selected stays so", testPageSelection},
		{"copy and source", testPageCopies},
		{"images", testPageImages},
		{"screens", testPageScreens},
		{"another origin", testOtherOrigin},
		{"forged requests cost nothing", testForgedRequest},
		{"methods that are exposed", testMethodsInBrowser},
		{"what the README shows", testReadmeInBrowser},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, b) })
	}
}

// browser is a running browser: the context that tabs derive from.
type browser struct {
	ctx    context.Context
	shared bool // all tabs have one profile, and so the same connections
}

func startBrowser(t *testing.T, options ...chromedp.ExecAllocatorOption) browser {
	t.Helper()
	i := slices.IndexFunc(chromiums, func(name string) bool { _, err := exec.LookPath(name); return err == nil })
	if i < 0 {
		skip.For(t, "no browser, none of %s is in PATH: nothing of the page is tested", strings.Join(chromiums, ", "))
	}
	// The profile is a new one, which chromedp removes.
	ctx, stop := chromedp.NewExecAllocator(context.Background(), append(options,
		chromedp.ExecPath(chromiums[i]), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-extensions", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("force-color-profile", "srgb"),
	)...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", chromiums[i], err)
	}
	return browser{ctx: ctx}
}

var chromiums = []string{"chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell"}

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
	eventually(p.t, "hear the console", func() bool {
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
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("evaluate %s: %v", expression, err)
	}
	return v
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

// wait waits until an expression is true.
func (p *tab) wait(expression string) {
	p.t.Helper()
	eventually(p.t, expression, func() bool { return eval[bool](p, expression) })
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

// ask writes a message and sends it.
func (p *tab) ask(text string) {
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
