package browser

import (
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// The page that is left may be loaded again, so the grace, and no more, is waited for.
func testPageLeft(t *testing.T, b browser) {
	const grace = 300 * time.Millisecond
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env(), "--max-disconnect-grace="+grace.String()).HTTP)
	var took []time.Duration
	for range 5 {
		p.ask("Go on")
		d.Say("so", " far")
		p.reads(answerText, "so far")
		eval[any](p, `addEventListener("pagehide", () => localStorage.left = Date.now())`)
		p.visit("about:blank")
		var gone time.Time
		select {
		case gone = <-d.Gone:
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
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP)
	p.ask("Go on")
	d.Say("so far")
	p.reads(answerText, "so far")
	left := time.Now()
	p.visit("about:blank")
	select {
	case gone := <-d.Gone:
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
	d := e2etest.NewDictation(t)
	origin := newOrigin(t)
	program := e2etest.Start(t, "one process", d.Env(), "--cors-origin="+origin, "--commit-window=10s").HTTP
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
				<-d.Requests
				if words != "" {
					d.Say(words)
					other.wait(`window.heard === ` + quote(words))
				}
				left := time.Now()
				if leave == "close" {
					call(other, page.Close, cdp.Empty{})
				} else {
					other.visit("about:blank")
				}
				select {
				case gone := <-d.Gone:
					t.Logf("%s, %q, %s: after %v", from, words, leave, gone.Sub(left))
				case <-time.After(10 * time.Second):
					t.Errorf("%s, %q, %s: the upstream connection is open after 10 s", from, words, leave)
				}
			}
		}
	}
}
