package e2e

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/app"
	"github.com/sluice-sse/sluice/server/failure"
)

// TestReadmeNamesWhatThereIs checks the flags that the README names, and the files
// that it links to.
func TestReadmeNamesWhatThereIs(t *testing.T) {
	readme, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var help strings.Builder
	for _, args := range [][]string{{"--help"}, {"server", "--help"}, {"bridge", "--help"}} {
		if err := app.Run(t.Context(), args, func(string) string { return "" }, &help, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	flags := regexp.MustCompile("`(--[a-z-]+)`").FindAllSubmatch(readme, -1)
	for _, flag := range flags {
		if !regexp.MustCompile(string(flag[1]) + `[ =\n]`).MatchString(help.String()) {
			t.Errorf("there is no flag %s", flag[1])
		}
	}
	links := regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllSubmatch(readme, -1)
	for _, link := range links {
		if _, err := os.Stat(filepath.Join(root, string(link[1]))); err != nil {
			t.Error(err)
		}
	}
	if len(flags) < 5 || len(links) < 5 {
		t.Errorf("the README names %d flags and %d files", len(flags), len(links))
	}
}

// TestReadmeReasons checks the README's table of reasons.
func TestReadmeReasons(t *testing.T) {
	readme, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	// What errors_test.go sees over HTTP.
	status := map[codes.Code]string{
		codes.InvalidArgument: "400", codes.NotFound: "404", codes.Aborted: "409", codes.OutOfRange: "410", codes.FailedPrecondition: "422",
		codes.ResourceExhausted: "429", codes.Internal: "500", codes.Unavailable: "503", codes.DeadlineExceeded: "504",
	}
	rows := regexp.MustCompile("(?m)^\\| (`[A-Z_`, ]+`) \\| (\\d+) \\| ([A-Z_]+) \\|$").FindAllStringSubmatch(string(readme), -1)
	if len(rows) < 9 {
		t.Errorf("the table has %d rows", len(rows))
	}
	for _, row := range rows {
		for name := range strings.SplitSeq(strings.ReplaceAll(row[1], "`", ""), ", ") {
			if code := failure.Code(failure.Reason(completionv1.ErrorReason_value[name])); codepb.Code(code).String() != row[3] || status[code] != row[2] {
				t.Errorf("%s is %s, %v", name, status[code], code)
			}
		}
	}
}
