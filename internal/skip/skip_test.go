package skip

import (
	"bytes"
	"cmp"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSkips skips where TestSeen has go test run it.
func TestSkips(t *testing.T) {
	if os.Getenv("LACK") == "" {
		return
	}
	For(t, "there is no %s", "such thing")
}

// TestSeen checks that go test shows what was skipped without -v, each time, also
// when it writes into a file, and at its place there.
func TestSeen(t *testing.T) {
	const want = "SKIPPED TestSkips: there is no such thing\n"
	goTest := func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "go", "test", "-run", "^TestSkips$", ".")
		cmd.Env = append(os.Environ(), "LACK=1")
		return cmd
	}
	for range 2 {
		cmd := goTest()
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) || strings.Contains(string(out), "(cached)") {
			t.Errorf("%v\n%s", err, out)
		}
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := goTest()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
	out, err := os.ReadFile(file.Name())
	if err != nil || !strings.HasPrefix(string(out), want+"ok") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestNothingSkipsOtherwise checks that all tests of the module skip by For.
func TestNothingSkipsOtherwise(t *testing.T) {
	looked := 0
	err := fs.WalkDir(os.DirFS("../.."), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == "node_modules" || d.Name() == "skip") {
			return cmp.Or(err, fs.SkipDir)
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		looked++
		text, err := os.ReadFile(filepath.Join("../..", path))
		if line := regexp.MustCompile(`.*\.Skip(f|Now)?\(.*`).Find(text); line != nil {
			t.Errorf("%s: %s", path, bytes.TrimSpace(line))
		}
		return err
	})
	if err != nil || looked < 10 {
		t.Errorf("%d files, %v", looked, err)
	}
}
