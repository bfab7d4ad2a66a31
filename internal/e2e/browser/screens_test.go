package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// testPageScreens looks at the page in many ways: nothing may stick out. With
// SLUICE_SCREENSHOTS set, what it looks like is written to that directory.
func testPageScreens(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	p := b.open(t, e2etest.Start(t, "one process", d.Env()).HTTP, "status of 503")
	screens(p, "1-welcome")
	p.ask("How does a lock lift a boat, and what does it cost in water?")
	d.Send(`{"reasoning_content":"They want the mechanism and then a figure. A lock of 30 m by 5 m with a lift of 3 m takes 450 m³."}`)
	d.Say("The boat enters the chamber and the lower gates close behind it. ",
		"Somebody opens the upper sluices: water runs in by its own weight, and the boat rises with it.\n\n",
		"Each passage costs one chamber of water. For a chamber of 30 m by 5 m and a lift of 3 m:\n\n",
		"    30 × 5 × 3 = 450 m³\n\n", "A side pond saves about a third of that, ")
	p.wait(`document.querySelector("` + answerText + `")?.textContent.endsWith("that, ") ?? false`)
	screens(p, "2-streaming")
	p.click("aside summary")
	p.remember("#status")
	p.click("#cut")
	p.had("Lost after event 7, coming back…")
	screens(p, "3-cut")
	p.click("aside summary")
	d.Say("and two ponds about half.")
	d.End()
	p.reads("#status", "Complete, nothing lost in 1 cut")
	screens(p, "4-complete")
	p.ask("And all that Markdown can be?")
	d.Say(longMarkdown)
	d.End()
	p.reads("#status", "Complete")
	screens(p, "5-markdown")
	d.Close() // the upstream is gone
	p.ask("And going down?")
	p.wait(`document.querySelector(".failure") !== null`)
	screens(p, "6-error")
}

func screens(p *tab, name string) {
	p.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		p.prefer(scheme)
		for _, size := range []struct{ width, height int64 }{{1280, 800}, {360, 740}} {
			p.resize(size.width, size.height)
			eval[any](p, `scrollTo(0, document.documentElement.scrollHeight)`)
			if width := eval[int64](p, `document.documentElement.scrollWidth`); width > size.width {
				p.t.Errorf("%s: the page is %d wide on a screen of %d", name, width, size.width)
			}
			directory := os.Getenv("SLUICE_SCREENSHOTS")
			if directory == "" {
				continue
			}
			png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
			if err == nil {
				err = os.WriteFile(filepath.Join(directory, fmt.Sprintf("%s-%s-%d.png", name, scheme, size.width)), png, 0o644)
			}
			if err != nil {
				p.t.Fatal(err)
			}
		}
	}
}
