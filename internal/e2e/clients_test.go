package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// The first connections of a client are reset, each after so many bytes of the
// answer, its header included; the upstream says more than that for each.
const (
	connectionsCut = 3
	bytesOfEach    = 900
	tokensOfEach   = 12
)

// clients are programs that read with well-known clients of other people's, and
// what each says when it stops.
var clients = []struct {
	script  string
	get     bool // the events of a completion that another program began
	stopped string
	again   int // how often it gets the terminal event when the end of its answer is cut
}{
	{script: "fetch-event-source.js", stopped: "resolved", again: 2},
	{script: "eventsource-client.js", stopped: "closed", again: 1},
	{script: "eventsource-client-get.js", get: true, stopped: "closed", again: 1},
	{script: "eventsource.js", get: true, stopped: "closed on 204", again: 1},
}

// TestClients resets the connections of clients that come back by themselves,
// several times in the middle and once between the last event and the end of the
// answer. They get the whole, once, for one call upstream, and stop for good.
func TestClients(t *testing.T) {
	node, dir := e2etest.NodeWith(t, "internal/e2e/testdata/clients")
	for _, c := range clients {
		t.Run(c.script, func(t *testing.T) {
			t.Parallel() // they wait for a second before they come back
			connected := make(chan struct{}, connectionsCut)
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) { speakPerConnection(w, r, connected) })
			p := e2etest.Start(t, "two processes", u.Env())
			proxy := e2etest.NewCuttingProxy(t, p.HTTP, func(n int) *e2etest.Cut {
				switch {
				case n < connectionsCut:
					connected <- struct{}{}
					return &e2etest.Cut{After: bytesOfEach, How: e2etest.SendReset}
				case n == connectionsCut:
					return &e2etest.Cut{Last: true, How: e2etest.SendReset}
				}
				return nil
			})
			args := []string{proxy.URL + "/v1/completions", repeatable("m", "")}
			if c.get {
				resp := p.Post(t, args[1])
				_ = resp.Body.Close()
				args = []string{proxy.URL + resp.Header.Get("Location") + "/events"}
			}
			got := runClient(t, dir, node, append([]string{c.script}, args...)...)
			var want strings.Builder
			for i := range connectionsCut * tokensOfEach {
				want.WriteString(token("m", i))
			}
			if got.Text != want.String() {
				t.Errorf("the text is %q, not %q", got.Text, want.String())
			}
			const last = connectionsCut*tokensOfEach + 2
			for i, id := range got.IDs {
				if _, sequence, err := native.ParseID(id); err != nil || int(sequence) != min(i+1, last) {
					t.Fatalf("event %d has the id %q", i+1, id)
				}
			}
			if n := len(got.IDs) - last + 1; n != c.again || got.Stopped != c.stopped {
				t.Errorf("%d times the terminal event, then %s; want %d times, then %s", n, got.Stopped, c.again, c.stopped)
			}
			if n := proxy.Cuts.Load(); n < connectionsCut || u.Calls.Load() != 1 {
				t.Errorf("%d cuts and %d calls upstream", n, u.Calls.Load())
			}
		})
	}
}

// speakPerConnection speaks a little for each connection of the client's, so
// that each is cut while the completion runs.
func speakPerConnection(w http.ResponseWriter, r *http.Request, connected <-chan struct{}) {
	for i := range connectionsCut * tokensOfEach {
		if i%tokensOfEach == 0 {
			select {
			case <-connected:
			case <-r.Context().Done():
				return
			}
		}
		e2etest.Say(w, token("m", i))
	}
	e2etest.Chunk(w, `{}`, "stop")
}

// clientReport is what a client tells when it stops.
type clientReport struct {
	Events, IDs []string
	Text        string
	Stopped     string
}

// runClient runs a client's program until it ends by itself.
func runClient(t *testing.T, dir, node string, args ...string) clientReport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 45*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var got clientReport
	if err == nil {
		err = json.Unmarshal(out, &got)
	}
	if err != nil {
		t.Fatalf("node %s: %v\n%s%s", args[0], err, out, stderr.String())
	}
	return got
}
