package testbed

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/skip"
)

// Redis is a redis-server of a test's own, which keeps nothing. It is for one goroutine.
type Redis struct {
	URL  string // by which it is reached
	Addr string

	tb   testing.TB
	args []string
	cmd  *exec.Cmd
}

// StartRedis starts one, with more arguments of its own. It ends with the test, which is
// skipped where there is no redis-server.
func StartRedis(tb testing.TB, args ...string) *Redis {
	tb.Helper()
	r := newRedis(tb)
	_, port, _ := net.SplitHostPort(r.Addr)
	bus := freeAddr(tb) // else its own and 10,000, which may be none
	r.args = append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--cluster-port", strconv.Itoa(bus.Port), "--repl-diskless-sync-delay", "0",
		"--dir", tb.TempDir(), "--unixsocket", filepath.Join(tb.TempDir(), "redis.sock")}, args...)
	r.Start()
	tb.Cleanup(r.Kill)
	return r
}

// StartSentinel starts a sentinel, which alone decides which of some is the primary that it
// calls "primary"; it begins with the given one. More lines of its configuration may follow.
func StartSentinel(tb testing.TB, primary *Redis, lines ...string) *Redis {
	tb.Helper()
	r := newRedis(tb)
	r.URL += "?master_set=primary"
	_, port, _ := net.SplitHostPort(r.Addr)
	host, primaryPort, _ := net.SplitHostPort(primary.Addr)
	config := filepath.Join(tb.TempDir(), "sentinel.conf") // which it writes to
	if err := os.WriteFile(config, fmt.Appendf(nil, "port %s\nbind 127.0.0.1\ndir %s\nsentinel monitor primary %s %s 1\n%s\n",
		port, tb.TempDir(), host, primaryPort, strings.Join(lines, "\n")), 0o600); err != nil {
		tb.Fatal(err)
	}
	r.args = []string{config, "--sentinel"}
	r.Start()
	tb.Cleanup(r.Kill)
	return r
}

// newRedis returns one that is not started.
func newRedis(tb testing.TB) *Redis {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		skip.For(tb, "what several processes share is tested with redis-server: %v", err)
	}
	addr := freeAddr(tb).String()
	return &Redis{URL: "redis://" + addr, Addr: addr, tb: tb}
}

// freeAddr returns an address that is nobody's now.
func freeAddr(tb testing.TB) *net.TCPAddr {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr)
}

// Start starts it once more, with nothing in it.
func (r *Redis) Start() {
	r.tb.Helper()
	r.cmd = exec.Command("redis-server", r.args...)
	dieWithParent(r.cmd)
	if err := r.cmd.Start(); err != nil {
		r.tb.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", r.Addr)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			r.tb.Fatal(err)
		}
	}
}

// CPU returns the processor time that it has used so far.
func (r *Redis) CPU() time.Duration {
	r.tb.Helper()
	return cpuOf(r.tb, "redis-server", r.cmd.Process.Pid)
}

// Commands returns how many commands it has had, but for those of scripts.
func (r *Redis) Commands() (n int64) {
	r.tb.Helper()
	c, err := net.Dial("tcp", r.Addr)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer c.Close()
	if _, err = io.WriteString(c, "INFO commandstats\r\nQUIT\r\n"); err == nil {
		var info []byte
		info, err = io.ReadAll(c)
		for _, m := range regexp.MustCompile(`cmdstat_(\S+):calls=(\d+)`).FindAllSubmatch(info, -1) {
			if calls, _ := strconv.ParseInt(string(m[2]), 10, 64); slices.Contains(ofClients, string(m[1])) {
				n += calls
			}
		}
	}
	if err != nil {
		r.tb.Fatal(err)
	}
	return n
}

// ofClients are commands that clients send; scripts send others.
var ofClients = []string{"eval", "evalsha", "get", "set", "exists", "xrange", "del", "pexpire"}

// Signal sends it a signal.
func (r *Redis) Signal(s syscall.Signal) {
	r.tb.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		r.tb.Fatal(err)
	}
}

// Kill kills it. To call it again does nothing.
func (r *Redis) Kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}
