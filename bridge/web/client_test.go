package web

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/skip"
)

// The client's own tests are JavaScript, in testdata: this runs them.
func TestClient(t *testing.T) {
	const limit = "--test-timeout=60000" // what waits for ever fails by its own name
	for _, test := range []struct {
		name    string
		command []string
	}{
		{"parser", []string{"node", "--test", "--test-reporter=spec", limit, "parser.test.js"}},
		{"transport", []string{"node", "--test", "--test-reporter=spec", limit, "transport.test.js"}},
		{"method", []string{"node", "--test", "--test-reporter=spec", limit, "method.test.js"}},
		{"leave", []string{"node", "--test", "--test-reporter=spec", limit, "leave.test.js"}},
		{"resume", []string{"node", "--test", "--test-reporter=spec", limit, "resume.test.js"}},
		{"time", []string{"node", "--test", "--test-reporter=spec", limit, "time.test.js"}},
		{"types", []string{"node", filepath.Join("node_modules", "typescript", "bin", "tsc"), "--project", "."}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			node(t, test.command...)
		})
	}
}

// node runs a command of Node's in testdata.
func node(t *testing.T, command ...string) {
	t.Helper()
	if _, err := exec.LookPath(command[0]); err != nil {
		skip.For(t, "client.js is not tested without Node: %v", err)
	}
	// npm writes this file when it has installed everything.
	if _, err := os.Stat(filepath.Join("testdata", "node_modules", ".package-lock.json")); err != nil {
		skip.For(t, "client.js is not tested without its packages: run npm ci in bridge/web/testdata")
	}
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir = "testdata"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}
