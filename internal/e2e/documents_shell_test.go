package e2e

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
)

// shell runs a document's commands, and has the programs that they start.
type shell struct {
	t        *testing.T
	upstream *e2etest.Upstream
	now      e2etest.Program // what is running
	running  []*exec.Cmd
	compiled map[string]string // tests, by their package
}

func (s *shell) replace(text string) string { return e2etest.Addressed(text, &s.now) }

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
			s.listTests(t, line)
		default:
			needTool(t, line)
			script = append(script, s.replace(line))
		}
	}
	if script == nil {
		return ""
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", strings.Join(script, "\n"))
	cmd.Dir = e2etest.Root()
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
		"--http "+e2etest.DocumentsHTTP, "--http 127.0.0.1:0",
		"--grpc "+e2etest.DocumentsGRPC, "--grpc 127.0.0.1:0",
		"--server "+e2etest.DocumentsGRPC, "--server "+s.now.GRPC,
		"https://api.openai.com/v1", s.upstream.URL+"/v1",
	).Replace(line)
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = e2etest.Root()
	cmd.Env = append(os.Environ(), "SLUICE_HTTP=127.0.0.1:0", "SLUICE_GRPC=127.0.0.1:0", "SLUICE_SHUTDOWN_DELAY=0s")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run's child gets its signal
	out := &e2etest.LockedBuffer{}
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
	for _, where := range e2etest.Address.FindAllString(serves, -1) {
		if !strings.HasPrefix(where, "http://") {
			s.now.GRPC = where
			continue
		}
		s.now.HTTP = where
		calls := s.upstream.Calls.Load()
		got, err := e2etest.Messages(s.now.Post(t, `{"messages":[{"role":"user","content":"Hello from the other side"}]}`).Body)
		if err != nil || len(got) < 4 || got[len(got)-1].Event != "finished" {
			t.Errorf("%s\nanswers %v, %v", line, got, err)
		}
		if asked := s.upstream.Calls.Load() > calls; asked != strings.Contains(line, "OPENAI_BASE_URL") {
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
	s.running, s.now = nil, e2etest.Program{}
}

// listTests checks that a command line is one that go test takes, and that there
// are tests or benchmarks for it. Those take minutes, and are not run. Of each package the
// tests are linked once, and not, as go test does, for each line; and of no more packages
// than it takes.
func (s *shell) listTests(t *testing.T, line string) {
	t.Helper()
	pattern := "."
	for _, m := range regexp.MustCompile(`-(?:run|bench)[ =]('[^']*'|\S+)`).FindAllStringSubmatch(line, -1) {
		pattern = strings.Trim(m[1], "'")
	}
	names := regexp.MustCompile(` \./\S+`)
	flags := regexp.MustCompile(` -[\w-]+`).ReplaceAllStringFunc(names.ReplaceAllString(strings.TrimPrefix(line, "go test"), ""), func(f string) string {
		if flag.Lookup("test."+f[2:]) != nil { // one of go test's own
			return " -test." + f[2:]
		}
		return f
	})
	list := exec.CommandContext(t.Context(), "go", append([]string{"list", "-f", "{{if .TestGoFiles}}{{.ImportPath}}{{end}}"}, strings.Fields(strings.Join(names.FindAllString(line, -1), " "))...)...)
	list.Dir = e2etest.Root()
	packages, err := list.Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	for name := range strings.FieldsSeq(string(packages)) {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", s.testsOf(t, name)+" -test.list '"+pattern+"'"+flags)
		cmd.Dir = e2etest.Root()
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
		if regexp.MustCompile(`(?m)^(Test|Benchmark)`).Match(out) {
			return
		}
	}
	t.Errorf("%s: there is none", line)
}

// testsOf returns the program that the tests of a package are.
func (s *shell) testsOf(t *testing.T, name string) string {
	t.Helper()
	if file := s.compiled[name]; file != "" {
		return file
	}
	file := filepath.Join(s.t.TempDir(), "tests")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-ldflags=-s -w", "-c", "-o", file, name)
	cmd.Dir = e2etest.Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.compiled[name] = file
	return file
}
