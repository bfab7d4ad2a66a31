package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/skip"
)

// fence is a fenced block of a document.
type fence struct{ language, text string }

// documents returns the names of the documents beside the README.
func documents(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob(root + "/docs/*.md")
	if err != nil || len(names) == 0 {
		t.Fatalf("there are no documents: %v", err)
	}
	for i, name := range names {
		names[i] = strings.TrimPrefix(name, root+"/")
	}
	return names
}

func readDocument(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func blocksOf(t *testing.T, name string) []fence {
	t.Helper()
	var blocks []fence
	for _, m := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(readDocument(t, name), -1) {
		blocks = append(blocks, fence{m[1], m[2]})
	}
	return blocks
}

// TestReadme runs the blocks of the README from the first to the last, as they are
// written but for the ports, which are free ones, and the provider, which is
// scripted. A block without a language is what the command before it prints.
//
// What is there for the pasting of a program is also run where the completion
// fails: it says so, and ends.
func TestReadme(t *testing.T) {
	failing := start(t, "one process", newUpstream(t, sayAndBreak).env(), "--model=m")
	program := func(run func(*testing.T, string) (string, error)) func(*testing.T, *shell, string) {
		return func(t *testing.T, s *shell, text string) {
			if imports.MatchString(text) {
				return // it is for browsers, as Node imports from no server: testReadmeInBrowser
			}
			out, err := run(t, s.replace(text))
			if said := strings.Join(strings.Fields(out), " "); err != nil || said != "Hello from the other side" {
				t.Errorf("it printed %q, %v", out, err)
			}
			out, err = run(t, addressed(text, failing))
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
	t.Parallel() // it takes long
	kinds := map[string]int{}
	for _, name := range documents(t) {
		t.Run(name, func(t *testing.T) {
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
			for kind, n := range runBlocks(t, name, run) {
				kinds[kind] += n
			}
		})
	}
	if kinds["sh"] < 10 || kinds[""] < 4 {
		t.Errorf("the documents have %v", kinds)
	}
}

// runBlocks runs the blocks of a document, those of other languages than the shell's as
// it is told, and counts them by their language.
func runBlocks(t *testing.T, document string, run map[string]func(*testing.T, *shell, string)) (kinds map[string]int) {
	t.Helper()
	s := &shell{t: t, upstream: newUpstream(t, sayHello)}
	defer s.stop()
	kinds = map[string]int{}
	printed := ""
	for i, b := range blocksOf(t, document) {
		kinds[b.language]++
		t.Run(fmt.Sprintf("%d %s", i+1, b.language), func(t *testing.T) {
			switch run := run[b.language]; {
			case run != nil:
				run(t, s, b.text)
			case b.language == "sh":
				printed = s.run(t, b.text)
			case b.language != "":
				t.Errorf("nobody runs a block of the language %q", b.language)
			case printed == "":
				skip.For(t, "the command before it printed nothing")
			default:
				checkPrinted(t, printed, b.text)
			}
		})
	}
	return kinds
}

// imports matches what a browser loads from a server.
var imports = regexp.MustCompile(`(?m)^import .* from "http`)

// sayHello answers a chat as echo does.
func sayHello(w http.ResponseWriter, _ *http.Request) {
	chunk(w, `{"content":"Hello from the"}`, "null")
	chunk(w, `{"content":" other side"}`, "stop")
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// sayAndBreak breaks off after some text, of a chat or of a legacy completion.
func sayAndBreak(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/chat/completions") {
		text(abort)(w, r)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"text":"some text"}]}`+"\n\n")
	w.(http.Flusher).Flush()
	abort(w, r)
}

// The addresses that the documents have.
const (
	readmeHTTP = "127.0.0.1:8080"
	readmeGRPC = "127.0.0.1:9090"
)

// addressed puts a program's addresses in place of the documents'.
func addressed(text string, p *program) string {
	return strings.NewReplacer(readmeHTTP, strings.TrimPrefix(p.http, "http://"), readmeGRPC, p.grpc).Replace(text)
}

// shell runs a document's commands, and has the programs that they start.
type shell struct {
	t        *testing.T
	upstream *upstream
	now      program // what is running
	running  []*exec.Cmd
}

func (s *shell) replace(text string) string { return addressed(text, &s.now) }

// run runs commands, each on one line, and returns what they print. A program that one
// starts goes on running until the next block that starts one.
func (s *shell) run(t *testing.T, commands string) (printed string) {
	t.Helper()
	if strings.Contains(commands, "go run") {
		s.stop()
	}
	var script []string
	for line := range strings.Lines(commands) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
		switch line = strings.TrimSpace(line); {
		case line == "", line == "go test ./...": // which is what runs this
		case strings.Contains(line, "go run"):
			s.serve(t, line)
		case strings.HasPrefix(line, "go test"):
			listTests(t, line)
		default:
			needTool(t, line)
			script = append(script, s.replace(line))
		}
	}
	if script == nil {
		return ""
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", strings.Join(script, "\n"))
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || len(out) == 0 {
		t.Errorf("%s: %v\n%s", commands, err, stderr.String())
	}
	return string(out)
}

// needTool skips the test if there is not the program that a command begins with.
func needTool(t *testing.T, command string) {
	t.Helper()
	name := regexp.MustCompile(`^(?:\w+=\$\()?(\S*)`).FindStringSubmatch(command)[1]
	if _, err := exec.LookPath(name); err != nil {
		skip.For(t, "there is no %s in PATH: what the documents show of it is not run", name)
	}
}

// serve starts a program and waits until it says where it listens.
func (s *shell) serve(t *testing.T, line string) {
	t.Helper()
	command := strings.NewReplacer(
		"--http "+readmeHTTP, "--http 127.0.0.1:0",
		"--grpc "+readmeGRPC, "--grpc 127.0.0.1:0",
		"--server "+readmeGRPC, "--server "+s.now.grpc,
		"https://api.openai.com/v1", s.upstream.URL+"/v1",
	).Replace(line)
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "SLUICE_HTTP=127.0.0.1:0", "SLUICE_GRPC=127.0.0.1:0", "SLUICE_SHUTDOWN_DELAY=0s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run's child gets its signal
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.running = append(s.running, cmd)
	deadline := time.Now().Add(2 * time.Minute) // it may have to be compiled
	for !strings.Contains(out.String(), "\n\n") {
		if time.Now().After(deadline) || syscall.Kill(cmd.Process.Pid, 0) != nil {
			t.Fatalf("%s\n%s", line, out.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
	// There may be warnings before it.
	serves := regexp.MustCompile(`(?m)^sluice serves .*$`).FindString(out.String())
	for _, where := range address.FindAllString(serves, -1) {
		if !strings.HasPrefix(where, "http://") {
			s.now.grpc = where
			continue
		}
		s.now.http = where
		calls := s.upstream.calls.Load()
		got, err := messages(s.now.post(t, `{"messages":[{"role":"user","content":"Hello from the other side"}]}`).Body)
		if err != nil || len(got) < 4 || got[len(got)-1].Event != "finished" {
			t.Errorf("%s\nanswers %v, %v", line, got, err)
		}
		if asked := s.upstream.calls.Load() > calls; asked != strings.Contains(line, "OPENAI_BASE_URL") {
			t.Errorf("%s\nasks the provider: %v", line, asked)
		}
	}
}

// stop stops the programs, the last one first.
func (s *shell) stop() {
	for _, cmd := range slices.Backward(s.running) {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		_ = cmd.Wait()
	}
	s.running, s.now = nil, program{}
}

// listTests checks that a command line is one that go test takes, and that there
// are tests or benchmarks for it. Those take minutes, and are not run.
func listTests(t *testing.T, line string) {
	t.Helper()
	pattern := "."
	for _, m := range regexp.MustCompile(`-(?:run|bench)[ =]('[^']*'|\S+)`).FindAllStringSubmatch(line, -1) {
		pattern = strings.Trim(m[1], "'")
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.Replace(line, "go test", "go test -vet=off -list '"+pattern+"'", 1))
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?m)^(Test|Benchmark)`).Match(out) {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
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
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
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
	return output(t, exec.Command(node, name))
}

// runGo runs a program in a module of its own, which has this one as its
// dependency, offline.
func runGo(t *testing.T, text string) (string, error) {
	dir := t.TempDir()
	here, err := filepath.Abs(root)
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
	return output(t, exec.Command(filepath.Join(dir, "readme")))
}

// output runs a command that must end by itself soon, and returns what it prints.
func output(t *testing.T, cmd *exec.Cmd) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })()
	err := cmd.Wait()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return out.String(), err
}
