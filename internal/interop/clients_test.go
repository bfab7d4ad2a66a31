package interop

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/skip"
)

// Programs that are not Go read what other people's servers stream: by fetch, by client.js,
// and by two kinds of EventSource.
func TestClients(t *testing.T) {
	s := startServers(t)
	if _, err := exec.LookPath("node"); err != nil {
		skip.For(t, "there is no node on the PATH: install Node 20")
	}
	if _, err := os.Stat("../e2e/testdata/clients/node_modules"); err != nil {
		skip.For(t, "the clients are not installed: run npm ci in internal/e2e/testdata/clients")
	}
	cmd := exec.CommandContext(t.Context(), "node", "testdata/read.mjs",
		startBridge(t, "--server="+s.Showcase, "--expose=*"),
		startBridge(t, "--server="+s.Gateway, "--expose=*", "--descriptors="+s.descriptors),
		startBridge(t, "--server="+s.Bin, "--expose=hello.HelloService"))
	cmd.Stderr = t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"fetch":[200,{"content":"a b"}],"clientJS":["a","b",1],"failed":["a",503,"later","users/1"],"proto2":10,` +
		`"post":["a","b","finished"],"get":["first x","second x","finished"]}`
	if got := strings.TrimSpace(string(out)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
