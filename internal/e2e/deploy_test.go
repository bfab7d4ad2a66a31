package e2e

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/app"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
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
	files, _ := filepath.Glob(filepath.Join(e2etest.Root(), "deploy/*"))
	looked := 0
	for _, name := range append(files, filepath.Join(e2etest.Root(), "docs/operating.md")) {
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

// TestDeployedTimes checks that who stops the program waits for longer than it may take.
func TestDeployedTimes(t *testing.T) {
	number := func(file, pattern string) int {
		text, err := os.ReadFile(filepath.Join(e2etest.Root(), "deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindSubmatch(text)
		if m == nil {
			t.Fatalf("%s: there is no %s", file, pattern)
		}
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	delay, drain := number("kubernetes.yaml", `--shutdown-delay=(\d+)s`), number("kubernetes.yaml", `--drain-timeout=(\d+)s`)
	if grace := number("kubernetes.yaml", `terminationGracePeriodSeconds: (\d+)`); grace <= delay+drain {
		t.Errorf("Kubernetes waits for %d s, and the program for %d", grace, delay+drain)
	}
	if noticed := number("kubernetes.yaml", `periodSeconds: (\d+)`) * number("kubernetes.yaml", `failureThreshold: (\d+)`); noticed >= delay {
		t.Errorf("it takes %d s to notice what is to be seen for %d", noticed, delay)
	}
	var help strings.Builder
	if err := app.Run(t.Context(), []string{"--help"}, func(string) string { return "" }, &help, io.Discard); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`--drain-timeout=(\d+)s`).FindStringSubmatch(help.String())
	if m == nil {
		t.Fatal("--help does not say how long a drain takes")
	}
	if drain, err := strconv.Atoi(m[1]); err != nil || number("sluice.service", `TimeoutStopSec=(\d+)s`) <= drain+5 {
		t.Errorf("systemd does not wait for a drain of %s s, %v", m[1], err)
	}
}
