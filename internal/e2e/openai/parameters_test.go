package openai

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestParametersAreAll checks that the table of docs/openai.md has every parameter that
// the newest official client knows, with the request that it is of. What becomes of each,
// a test of package openai checks.
func TestParametersAreAll(t *testing.T) {
	_, dir := e2etest.NodeWith(t, programs)
	table := map[string][2]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| ([^|]+) \\| ([^|]+) \\|").FindAllStringSubmatch(e2etest.ReadDocument(t, "docs/openai.md"), -1) {
		table[row[1]] = [2]string{row[2], row[3]}
	}
	for column, where := range []struct{ file, of string }{
		{"chat/completions/completions.d.ts", "ChatCompletionCreateParamsBase"},
		{"completions.d.ts", "CompletionCreateParamsBase"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, "node_modules/openai-7/resources", where.file))
		if err != nil {
			t.Fatal(err)
		}
		_, params, _ := strings.Cut(string(text), "interface "+where.of+" {\n")
		params, _, _ = strings.Cut(params, "\n}")
		names := regexp.MustCompile(`(?m)^    (\w+)\??:`).FindAllStringSubmatch(params, -1)
		if len(names) < 15 {
			t.Errorf("%s has %d parameters", where.of, len(names))
		}
		for _, name := range names {
			row, ok := table[name[1]]
			if refused := row[0] == "400" && row[1] == "400"; !ok || row[column] == "400" && !refused {
				t.Errorf("%s of %s is in the table as %q", name[1], where.of, row)
			}
		}
	}
}
