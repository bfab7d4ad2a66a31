package redis

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
	"github.com/sluice-sse/sluice/server/journal/journaltest"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// store is a redis-server of a test's own.
type store struct {
	t    testing.TB
	args []string
	url  string
	cmd  *exec.Cmd
}

// newStore returns one that runs, and ends with the test. Without redis-server, the test
// is skipped.
func newStore(t testing.TB, args ...string) *store {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("NOT TESTED: there is no redis-server here")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	s := &store{t: t, url: fmt.Sprintf("redis://127.0.0.1:%d", port)}
	s.args = append([]string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", t.TempDir(), "--unixsocket", filepath.Join(t.TempDir(), "s")}, args...)
	s.start()
	t.Cleanup(s.stop)
	return s
}

// start starts the server, which has nothing in it.
func (s *store) start() {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", s.args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for until := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", s.url[len("redis://"):])
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(until) {
			s.t.Fatal(err)
		}
	}
}

// stop kills the server.
func (s *store) stop() {
	if s.cmd != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// open returns a journal on the store, as another process would have it. It is closed with
// the test.
func (s *store) open(t testing.TB, config Config) *Journal {
	t.Helper()
	config.URL = s.url
	j, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

// TestSuite has one process own and read.
func TestSuite(t *testing.T) {
	s := newStore(t)
	n := 0
	journaltest.Run(t, journaltest.Subject{
		Open: func(t testing.TB, limits journaltest.Limits) journal.Journal {
			n++
			return s.open(t, Config{
				Prefix:    fmt.Sprint("t", n),
				Retention: limits.Retention,
				Memory:    memory.Config{Bytes: limits.Bytes, MaxCompletion: limits.MaxCompletion},
			})
		},
		InTime:     func(t *testing.T, test func(t *testing.T)) { test(t) },
		Minute:     time.Second,
		KeepsEnded: true,
	})
}
