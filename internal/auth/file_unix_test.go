//go:build unix

package auth

import (
	"crypto/rand"
	"log/slog"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFilesThatWait checks that a file which is no file, such as a pipe that nobody writes
// to, neither keeps a start waiting nor, in place of one that was read, a stop.
func TestFilesThatWait(t *testing.T) {
	name := t.TempDir() + "/pipe"
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	inTime := func(what string, f func()) {
		t.Helper()
		done := make(chan struct{})
		go func() { defer close(done); f() }()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s hangs", what)
		}
	}
	log := slog.New(slog.DiscardHandler)
	for _, c := range []Config{{APIKeys: name, Log: log}, {Tokens: Tokens{"https://a.test", "a", name}, Log: log}} {
		inTime("the start", func() {
			if _, err := New(c); err == nil {
				t.Error("a pipe is taken")
			}
		})
	}

	line, err := HashKey("alice", rand.Text())
	if err != nil {
		t.Fatal(err)
	}
	file := t.TempDir() + "/keys"
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := New(Config{APIKeys: file, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name, file); err != nil {
		t.Fatal(err)
	}
	time.Sleep(pollInterval + 200*time.Millisecond)
	inTime("the stop", a.Close)
}
