package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
)

// documents returns the names of the documents beside the README.
func documents(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(e2etest.Root() + "/docs/*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("there are no documents: %v", err)
	}
	for i, name := range names {
		names[i] = strings.TrimPrefix(name, e2etest.Root()+"/")
	}
	return names
}

// TestReadme runs the blocks of the README from the first to the last, as they are
// written but for the ports, which are free ones, and the provider, which is
// scripted. A block without a language is what the command before it prints.
//
// What is there for the pasting of a program is also run where the completion
// fails: it says so, and ends.
func TestReadme(t *testing.T) {
	t.Parallel() // it takes long
	failing := e2etest.Start(t, "one process", e2etest.NewUpstream(t, sayAndBreak).Env(), "--model=m")
	program := func(run func(*testing.T, string) (string, error)) func(*testing.T, *shell, string) {
		return func(t *testing.T, s *shell, text string) {
			if imports.MatchString(text) {
				return // it is for browsers, as Node imports from no server: testReadmeInBrowser
			}
			out, err := run(t, s.replace(text))
			if said := strings.Join(strings.Fields(out), " "); err != nil || said != "Hello from the other side" {
				t.Errorf("it printed %q, %v", out, err)
			}
			out, err = run(t, e2etest.Addressed(text, failing))
			if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || !strings.Contains(out, "broke off") {
				t.Errorf("of a completion that fails it printed %q, %v", out, err)
			}
		}
	}
	kinds := runBlocks(t, "README.md", map[string]func(*testing.T, *shell, string){
		"js":   program(runNode),
		"go":   program(runGo),
		"text": func(t *testing.T, _ *shell, tree string) { checkLayout(t, tree) },
	})
	if kinds["sh"] < 4 || kinds["js"] < 2 || kinds["go"] != 1 || kinds[""] != 1 || kinds["text"] != 1 {
		t.Errorf("the README has %v", kinds)
	}
}

// TestDocuments does so with the documents, whose Go is quoted from the code.
func TestDocuments(t *testing.T) {
	t.Parallel()      // it takes long
	var mu sync.Mutex // guards kinds
	kinds := map[string]int{}
	t.Cleanup(func() {
		if kinds["sh"] < 10 || kinds[""] < 4 {
			t.Errorf("the documents have %v", kinds)
		}
	})
	for _, name := range documents(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := map[string]func(*testing.T, *shell, string){
				"go": func(t *testing.T, s *shell, text string) {
					if !strings.HasPrefix(text, "package main\n") {
						checkQuoted(t, text)
					} else if out, err := runGo(t, s.replace(text)); err != nil || strings.TrimSpace(out) != "Hello from the other side" {
						t.Errorf("it printed %q, %v", out, err)
					}
				},
				"js":     runDocumented,
				"python": func(*testing.T, *shell, string) {}, // there may be none here, nor its packages
				"yaml":   func(*testing.T, *shell, string) {}, // of other programs
				"text":   func(*testing.T, *shell, string) {}, // a drawing
				"nginx":  func(*testing.T, *shell, string) {}, // TestNginx has it
			}
			had := runBlocks(t, name, run)
			mu.Lock()
			defer mu.Unlock()
			for kind, n := range had {
				kinds[kind] += n
			}
		})
	}
}

// runBlocks runs the blocks of a document, those of other languages than the shell's as
// it is told, and counts them by their language.
func runBlocks(t *testing.T, document string, run map[string]func(*testing.T, *shell, string)) (kinds map[string]int) {
	t.Helper()
	s := &shell{t: t, upstream: e2etest.NewUpstream(t, sayHello), compiled: map[string]string{}}
	defer s.stop()
	kinds = map[string]int{}
	printed := ""
	for i, b := range e2etest.Blocks(t, document) {
		kinds[b.Language]++
		t.Run(fmt.Sprintf("%d %s", i+1, b.Language), func(t *testing.T) {
			switch run := run[b.Language]; {
			case run != nil:
				run(t, s, b.Text)
			case b.Language == "sh":
				printed = s.run(t, b.Text)
			case b.Language != "":
				t.Errorf("nobody runs a block of the language %q", b.Language)
			case printed == "":
				skip.For(t, "the command before it printed nothing")
			default:
				checkPrinted(t, printed, b.Text)
			}
		})
	}
	return kinds
}

// imports matches what a browser loads from a server.
var imports = regexp.MustCompile(`(?m)^import .* from "http`)

// sayHello answers a chat as echo does.
func sayHello(w http.ResponseWriter, _ *http.Request) {
	e2etest.Chunk(w, `{"content":"Hello from the"}`, "null")
	e2etest.Chunk(w, `{"content":" other side"}`, "stop")
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// sayAndBreak breaks off after some text, of a chat or of a legacy completion.
func sayAndBreak(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/chat/completions") {
		e2etest.Text(e2etest.Abort)(w, r)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"text":"some text"}]}`+"\n\n")
	w.(http.Flusher).Flush()
	e2etest.Abort(w, r)
}

// checkPrinted compares with what a document shows, up to what varies. Where that has
// "…", it leaves lines out.
func checkPrinted(t *testing.T, printed, shown string) {
	t.Helper()
	for _, text := range []*string{&printed, &shown} {
		for _, v := range volatile {
			*text = v.what.ReplaceAllString(*text, v.with)
		}
		var compact bytes.Buffer // protojson puts in spaces at random
		if json.Compact(&compact, []byte(*text)) == nil {
			*text = compact.String()
		}
		*text = strings.TrimSpace(*text)
	}
	head, tail, cut := strings.Cut(shown, "…\n")
	if !cut && printed != shown || !strings.HasPrefix(printed, head) || !strings.HasSuffix(printed, tail) {
		t.Errorf("it prints\n%s\nand the document shows\n%s", printed, shown)
	}
}

// checkLayout checks that the files are there whose tree is shown.
func checkLayout(t *testing.T, tree string) {
	t.Helper()
	var folder string
	for line := range strings.Lines(tree) {
		names, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		indented := strings.HasPrefix(line, " ")
		for name := range strings.SplitSeq(names, ", ") {
			if indented {
				name = folder + name
			}
			if _, err := os.Stat(filepath.Join(e2etest.Root(), name)); err != nil {
				t.Error(err)
			}
		}
		if !indented {
			folder = names
		}
	}
}

// runNode runs a module in Node and returns what it prints.
func runNode(t *testing.T, module string) (string, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		skip.For(t, "there is no node in PATH: what the README shows for it is not run")
	}
	name := filepath.Join(t.TempDir(), "readme.mjs")
	if err := os.WriteFile(name, []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	return e2etest.Output(t, exec.Command(node, name))
}

// runGo runs a program in a module of its own, which has this one as its
// dependency, offline.
func runGo(t *testing.T, text string) (string, error) {
	dir := t.TempDir()
	here, err := filepath.Abs(e2etest.Root())
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(here, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	const module = "github.com/sluice-sse/sluice"
	for name, text := range map[string]string{
		"main.go": text,
		"go.sum":  read("go.sum"),
		"go.mod": strings.Replace(read("go.mod"), "module "+module, "module example.com/readme", 1) +
			"\nrequire " + module + " v0.0.0\nreplace " + module + " => " + here + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "readme", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	return e2etest.Output(t, exec.Command(filepath.Join(dir, "readme")))
}

// runDocumented runs a module that docs/openai.md shows, with the packages of
// testdata/openai.
func runDocumented(t *testing.T, s *shell, module string) {
	node, programs := e2etest.NodeWith(t, "internal/e2e/testdata/openai")
	packages, err := filepath.Abs(filepath.Join(programs, "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "shown.mjs")
	if err := errors.Join(os.Symlink(packages, filepath.Join(dir, "node_modules")), os.WriteFile(name, []byte(s.replace(module)), 0o600)); err != nil {
		t.Fatal(err)
	}
	if out, err := e2etest.Output(t, exec.Command(node, name)); err != nil || strings.TrimSpace(out) != "Hello from the other side" {
		t.Errorf("it printed %q, %v", out, err)
	}
}
