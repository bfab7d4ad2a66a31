package e2etest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/skip"
)

// Root returns the folder of the repository, in which the tests run.
var Root = sync.OnceValue(func() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			panic("there is no go.mod above")
		}
		dir = filepath.Dir(dir)
	}
})

// Fence is a fenced block of a document.
type Fence struct{ Language, Text string }

// ReadDocument returns the text of a document, whose name is from the root on.
func ReadDocument(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Root(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Blocks returns the fenced blocks of a document.
func Blocks(t *testing.T, name string) []Fence {
	t.Helper()
	var blocks []Fence
	for _, m := range regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$").FindAllStringSubmatch(ReadDocument(t, name), -1) {
		blocks = append(blocks, Fence{m[1], m[2]})
	}
	return blocks
}

// The addresses that the documents have.
const (
	DocumentsHTTP = "127.0.0.1:8080"
	DocumentsGRPC = "127.0.0.1:9090"
)

// Addressed puts a program's addresses in place of the documents'.
func Addressed(text string, p *Program) string {
	return strings.NewReplacer(DocumentsHTTP, strings.TrimPrefix(p.HTTP, "http://"), DocumentsGRPC, p.GRPC).Replace(text)
}

// Output runs a command that must end by itself soon, and returns what it prints.
func Output(t *testing.T, cmd *exec.Cmd) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out LockedBuffer
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

// NodeWith returns Node, and a folder of programs for it whose packages are installed: its
// name is from the root on.
func NodeWith(t *testing.T, folder string) (node, dir string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		skip.For(t, "there is no node on the PATH: install Node 20 and run npm ci in %s", folder)
	}
	dir = filepath.Join(Root(), folder)
	if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
		skip.For(t, "the clients are not installed: run npm ci in %s", folder)
	}
	return node, dir
}
