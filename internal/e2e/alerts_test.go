package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
)

// TestAlerts has promtool check the rules of deploy/alerts.yaml, and try them on made-up
// series.
func TestAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		skip.For(t, "the rules for alerts are checked by promtool, which Debian's package prometheus has: %v", err)
	}
	for _, args := range [][]string{
		{"check", "rules", filepath.Join(e2etest.Root(), "deploy/alerts.yaml")},
		{"test", "rules", filepath.Join(e2etest.Root(), "deploy/alerts_test.yaml")},
	} {
		if out, err := exec.CommandContext(e2etest.ShortContext(t), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

var metricName = regexp.MustCompile(`\b(sluice|gen_ai|http_server)_\w*[a-z]`)

// checkNamedMetrics checks that there are the metrics, and their labels, that are named for
// operators.
func checkNamedMetrics(t *testing.T, metrics string) {
	t.Helper()
	for file, least := range map[string]int{"deploy/alerts.yaml": 4, "docs/operating.md": 12} {
		text, err := os.ReadFile(filepath.Join(e2etest.Root(), file))
		if err != nil {
			t.Fatal(err)
		}
		names := metricName.FindAllString(string(text), -1)
		for _, name := range names {
			if !regexp.MustCompile(`\b` + name + `(_|\b)`).MatchString(metrics) {
				t.Errorf("%s: there is no %s", file, name)
			}
		}
		if len(names) < least {
			t.Errorf("%s names %q", file, names)
		}
	}
}
