package browser

import (
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// testPageKey has a page in front of a server that wants a key: it asks for one, sends it
// with all that it asks for, and keeps it for the tab alone.
func testPageKey(t *testing.T, b browser) {
	d := e2etest.NewDictation(t)
	keys := e2etest.NewKeyring(t, "alice")
	program := e2etest.Start(t, "one process", d.Env(), keys.Flag())
	p := b.open(t, program.HTTP, "status of 401", "status of 503")
	p.wait(`document.activeElement.id === "key"`)
	p.wait(`document.querySelector("#status").textContent.startsWith("The models cannot be listed: send your key")`)
	p.askAnyModel("Who am I?")
	p.wait(`document.querySelector(".failure h3")?.textContent === "UNAUTHENTICATED"`)
	p.wait(`document.activeElement.id === "key"`)

	p.key(keys.Keys["alice"])
	p.enter(0)
	p.reads("#status", "Ready")
	p.wait(`document.querySelectorAll("#model option").length > 1`)
	if models := p.count("GET /v1/models"); models != 2 {
		t.Errorf("the models were listed %d times", models)
	}
	p.ask("And now?")
	d.Say("Alice")
	p.reads(answerText, "Alice")
	p.remember("#status")
	p.click("#cut")
	p.had("Lost after event 2, coming back…")
	d.Say(", it says")
	p.reads(answerText, "Alice, it says")
	p.reload() // which goes on reading, with the key
	d.Say(" here.")
	p.reads(answerText, "Alice, it says here.")
	p.click("#stop")
	p.reads("#status", "Stopped")
	e2etest.Eventually(t, "the upstream is closed", func() bool { return d.Open.Load() == 0 })
	if calls := d.Calls.Load(); calls != 1 {
		t.Errorf("%d calls upstream", calls)
	}
	if kept := eval[bool](p, `Object.values(localStorage).length + document.cookie.length === 0`); !kept {
		t.Error("the page keeps something beyond the tab")
	}

	other := b.open(t, program.HTTP, "status of 401") // another tab has no key
	other.wait(`document.activeElement.id === "key" && document.activeElement.value === ""`)

	p.click("#key")
	eval[any](p, `document.querySelector("#key").select()`)
	p.key("no key of theirs")
	p.enter(0)
	p.wait(`document.querySelector("#status").textContent.startsWith("The models cannot be listed: the key or token is not valid")`)
}
