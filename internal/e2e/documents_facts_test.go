package e2e

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/app"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/server/failure"
)

// help is what the program says of its flags.
func help(t *testing.T) string {
	t.Helper()
	var help strings.Builder
	for _, args := range [][]string{{"--help"}, {"server", "--help"}, {"bridge", "--help"}} {
		if err := app.Run(t.Context(), args, func(string) string { return "" }, &help, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	return help.String()
}

// TestReadmeNamesWhatThereIs checks the flags that the README and the documents name,
// and the files and the headings that they link to.
func TestReadmeNamesWhatThereIs(t *testing.T) {
	help := help(t)
	flags, links := 0, 0
	for _, name := range append(documents(t), "README.md", "CONTRIBUTING.md") {
		text := e2etest.ReadDocument(t, name)
		for _, flag := range regexp.MustCompile("`(--[a-z-]+)`").FindAllStringSubmatch(text, -1) {
			flags++
			if !regexp.MustCompile(flag[1] + `[ =\n]`).MatchString(help) {
				t.Errorf("%s: there is no flag %s", name, flag[1])
			}
		}
		for _, link := range regexp.MustCompile(`\]\(([^)#:]*)(?:#([^):]*))?\)`).FindAllStringSubmatch(text, -1) {
			links++
			target := name
			if link[1] != "" {
				target = filepath.Join(filepath.Dir(name), link[1])
			}
			if _, err := os.Stat(filepath.Join(e2etest.Root(), target)); err != nil {
				t.Errorf("%s: %v", name, err)
			} else if link[2] != "" && !slices.Contains(headings(e2etest.ReadDocument(t, target)), link[2]) {
				t.Errorf("%s: there is no heading #%s in %s", name, link[2], target)
			}
		}
	}
	if flags < 20 || links < 10 {
		t.Errorf("the documents name %d flags and %d files", flags, links)
	}
}

// headings returns a document's headings as one links to them.
func headings(text string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		all = append(all, strings.ReplaceAll(strings.ToLower(regexp.MustCompile(`[^\w -]`).ReplaceAllString(m[1], "")), " ", "-"))
	}
	return all
}

// TestContractDefaults checks the contract's table of flags and their defaults.
func TestContractDefaults(t *testing.T) {
	help := help(t)
	rows := regexp.MustCompile("(?m)^\\| `(--[a-z-]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(e2etest.ReadDocument(t, "docs/contract.md"), -1)
	if len(rows) < 8 {
		t.Errorf("the table has %d rows", len(rows))
	}
	for _, row := range rows {
		if value := strings.NewReplacer(" min", "m", " ", "").Replace(row[2]); !strings.Contains(help, row[1]+"="+value+"\n") && !strings.Contains(help, row[1]+"="+value+" ") {
			t.Errorf("%s is not by default %s", row[1], row[2])
		}
	}
}

// TestReadmeReasons checks the contract's table of reasons.
func TestReadmeReasons(t *testing.T) {
	// What errors_test.go sees over HTTP.
	status := map[codes.Code]string{
		codes.InvalidArgument: "400", codes.Unauthenticated: "401", codes.NotFound: "404", codes.Aborted: "409", codes.OutOfRange: "410", codes.FailedPrecondition: "422",
		codes.ResourceExhausted: "429", codes.Internal: "500", codes.Unavailable: "503", codes.DeadlineExceeded: "504",
	}
	rows := regexp.MustCompile("(?m)^\\| (`[A-Z_`, ]+`) \\| (\\d+) \\| ([A-Z_]+) \\|$").FindAllStringSubmatch(e2etest.ReadDocument(t, "docs/contract.md"), -1)
	had := map[string]bool{"ERROR_REASON_UNSPECIFIED": true}
	for _, row := range rows {
		for name := range strings.SplitSeq(strings.ReplaceAll(row[1], "`", ""), ", ") {
			had[name] = true
			if code := failure.Code(failure.Reason(completionv1.ErrorReason_value[name])); codepb.Code(code).String() != row[3] || status[code] != row[2] {
				t.Errorf("%s is %s, %v", name, status[code], code)
			}
		}
	}
	for name := range completionv1.ErrorReason_value {
		if !had[name] {
			t.Errorf("the table lacks %s", name)
		}
	}
}

// TestDocumentsNameTheCode checks the files that the documents name in code spans and
// drawings, the tests that they name, and all else that the design names of the code.
func TestDocumentsNameTheCode(t *testing.T) {
	c, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile(`[\w*./-]+(?:/|\.(?:go|md|js|proto|yaml))`)
	identifier := regexp.MustCompile(`^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$`)
	for _, name := range append(documents(t), "README.md", "CONTRIBUTING.md") {
		names := 0
		for _, span := range spans(t, name) {
			if file := files.FindString(span); file == span {
				names++
				if there, _ := filepath.Glob(filepath.Join(e2etest.Root(), file)); there == nil && !strings.HasPrefix(file, "/") {
					t.Errorf("%s: there is no file %s", name, file)
				}
			} else if word := strings.TrimSuffix(span, "()"); identifier.MatchString(word) && (name == "docs/design.md" || strings.HasPrefix(word, "Test")) {
				names++
				if !c.has(word) {
					t.Errorf("%s: there is no %s in the code", name, word)
				}
			}
		}
		if name == "docs/design.md" && names < 50 {
			t.Errorf("%s names %d things", name, names)
		}
	}
}

// TestDesignNamesThePackages checks that a stranger learns of each package.
func TestDesignNamesThePackages(t *testing.T) {
	named := spans(t, "docs/design.md")
	err := filepath.WalkDir(e2etest.Root(), func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if d.Name() == "node_modules" || d.Name() == "testdata" || d.Name() == "gen" || d.Name() == ".git" {
			return filepath.SkipDir
		}
		folder := strings.TrimPrefix(name, e2etest.Root()+"/") + "/"
		if files, _ := filepath.Glob(name + "/*.go"); files != nil && name != e2etest.Root() && !slices.Contains(named, folder) {
			t.Errorf("docs/design.md does not name %s", folder)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// spans returns a document's code spans, and the words of its drawings that are files.
func spans(t *testing.T, name string) (all []string) {
	t.Helper()
	text := e2etest.ReadDocument(t, name)
	for _, b := range e2etest.Blocks(t, name) {
		if b.Language == "text" && name != "README.md" {
			all = append(all, regexp.MustCompile(`[\w./]+\.go\b`).FindAllString(b.Text, -1)...)
		}
	}
	text = regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
	for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

// checkQuoted checks that lines stand in the code as they are quoted, comments aside.
func checkQuoted(t *testing.T, text string) {
	t.Helper()
	c, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "//") && !c.lines[line] {
			t.Errorf("not in the code: %s", line)
		}
	}
}
