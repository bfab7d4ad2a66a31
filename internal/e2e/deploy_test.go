package e2e

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/app"
)

// TestDeployedFlags checks that there are the flags that the units, manifests and
// instructions in deploy and docs/operating.md use.
func TestDeployedFlags(t *testing.T) {
	var help strings.Builder
	if err := app.Run(t.Context(), []string{"--help"}, func(string) string { return "" }, &help, io.Discard); err != nil {
		t.Fatal(err)
	}
	var bridge strings.Builder
	if err := app.Run(t.Context(), []string{"bridge", "--help"}, func(string) string { return "" }, &bridge, io.Discard); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(root, "deploy/*"))
	looked := 0
	for _, name := range append(files, filepath.Join(root, "docs/operating.md")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, flag := range regexp.MustCompile("(?m)(?:^ExecStart=.*|- |`)(--[a-z][a-z0-9-]+)").FindAllStringSubmatch(string(text), -1) {
			looked++
			if !regexp.MustCompile(`(?m)^ .*` + flag[1] + `(=| |$)`).MatchString(help.String() + bridge.String()) {
				t.Errorf("%s: there is no %s", name, flag[1])
			}
		}
	}
	if looked < 20 {
		t.Errorf("only %d flags are found", looked)
	}
}
