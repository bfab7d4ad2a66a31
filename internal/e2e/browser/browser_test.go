// Package browser tests the page and client.js in Chromium, in front of the program.
package browser

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
)

func TestMain(m *testing.M) {
	e2etest.Prepare(nil)
	os.Exit(m.Run())
}

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
