// Package testbed is what the tests of the whole and the benchmark share: processes of
// their own for whatever is measured, and an upstream that streams at a set pace.
//
// A process is the test binary once more. What one costs is then the operating system's
// to say, and no garbage collector runs on another's behalf. It is told what to be by
// its environment: TestMain calls Perform. It prints where it listens, obeys the lines of
// its standard input, answers each with a line "done", and ends with the input, so that
// none outlives the test, however that ends.
package testbed

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/skip"
)

// roleVariable holds a role and its arguments, separated by spaces.
const roleVariable = "SLUICE_TEST_ROLE"

// Role is what a process can be. That of a server returns only an error. When one
// returns without, the process goes on until its input ends.
type Role func(g *Gate, args []string) error

// Perform plays this process's role, one of those by name, if it has one, and then does
// not return. Beside what every process obeys, it obeys commands, each with the rest of
// its line.
func Perform(roles map[string]Role, commands map[string]func(arg string) error) {
	role := os.Getenv(roleVariable)
	if role == "" {
		return
	}
	fields := strings.Fields(role)
	g := newGate()
	go obey(os.Stdin, g, commands)
	if err := roles[fields[0]](g, fields[1:]); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
	select {}
}

// obey does what a process is told, and ends it with its input.
func obey(input io.Reader, g *Gate, commands map[string]func(arg string) error) {
	var err error
	r := bufio.NewReader(input)
	for err == nil {
		var line string
		if line, err = r.ReadString('\n'); err != nil {
			os.Exit(0)
		}
		switch verb, arg, _ := strings.Cut(strings.TrimSpace(line), " "); verb {
		case "release":
			g.release()
		case "collect":
			runtime.GC() // what is in a sync.Pool stays for one more
			debug.FreeOSMemory()
		case "mallocs":
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Println("mallocs", m.Mallocs)
		case "stacks":
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Println("stacks", m.StackInuse)
		case "profile":
			var f *os.File
			if f, err = os.Create(arg); err == nil {
				err = pprof.StartCPUProfile(f)
			}
		case "profiled":
			pprof.StopCPUProfile()
		case "heap":
			var f *os.File
			if f, err = os.Create(arg); err == nil {
				err = pprof.Lookup("heap").WriteTo(f, 1) // which ends with what stacks take
			}
		default:
			err = commands[verb](arg)
		}
		fmt.Println("done")
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Process is a running process with a role. It is for one goroutine.
type Process struct {
	tb    testing.TB
	role  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
	log   string // the name of the file that has its standard error

	Addrs []string // where it listens, HTTP before gRPC
}

// Start starts a process, with what env adds to the environment, and waits until it serves.
// The caller stops it.
func Start(tb testing.TB, role string, env ...string) *Process {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	log, err := os.CreateTemp(tb.TempDir(), "log")
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(self)
	cmd.Env = append(append(os.Environ(), env...), roleVariable+"="+role)
	cmd.Stderr = log // a file: reading a pipe would take the processor's time
	p := &Process{tb: tb, role: role, cmd: cmd, log: log.Name()}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	p.lines = bufio.NewReader(stdout)
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p.Addrs = regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(p.Line(), -1)
	return p
}

// Line returns the next line that the process prints.
func (p *Process) Line() string {
	p.tb.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		log, _ := os.ReadFile(p.log)
		p.tb.Fatalf("%s ended: %v\n%s", p.role, err, log)
	}
	return strings.TrimSpace(line)
}

// Begin tells the process to do something.
func (p *Process) Begin(format string, args ...any) {
	p.tb.Helper()
	if _, err := fmt.Fprintf(p.stdin, format+"\n", args...); err != nil {
		log, _ := os.ReadFile(p.log)
		p.tb.Fatalf("%s does not listen: %v\n%s", p.role, err, log)
	}
}

// Tell tells the process to do something and waits until that is done.
func (p *Process) Tell(format string, args ...any) {
	p.tb.Helper()
	p.Begin(format, args...)
	for p.Line() != "done" {
	}
}

// Stop ends the process.
func (p *Process) Stop() {
	_ = p.stdin.Close()
	late := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_, _ = io.Copy(io.Discard, p.lines)
	if err := p.cmd.Wait(); err != nil && !p.tb.Failed() {
		log, _ := os.ReadFile(p.log)
		p.tb.Errorf("%s: %v\n%s", p.role, err, log)
	}
}

// Mallocs returns how many objects the process has allocated so far.
func (p *Process) Mallocs() int64 { return p.ask("mallocs") }

// Stacks returns how many bytes the stacks of the process's goroutines have.
func (p *Process) Stacks() int64 { return p.ask("stacks") }

// ask returns a number that the process is asked for.
func (p *Process) ask(what string) (n int64) {
	p.tb.Helper()
	p.Begin("%s", what)
	for line := p.Line(); line != "done"; line = p.Line() { // among what it prints at the start
		if of, ok := strings.CutPrefix(line, what+" "); ok {
			n, _ = strconv.ParseInt(of, 10, 64)
		}
	}
	return n
}

// CPU returns the processor time that the process has used so far.
func (p *Process) CPU() time.Duration {
	p.tb.Helper()
	return cpuOf(p.tb, p.role, p.cmd.Process.Pid)
}

// cpuOf returns the processor time of a process: that of its threads, of which Go ends
// none, as the scheduler counts it. /proc/<pid>/stat has the same in steps of 10 ms.
func cpuOf(tb testing.TB, role string, pid int) time.Duration {
	tb.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err == nil && len(threads) == 0 {
		err = errors.New("no threads in /proc")
	}
	var sum time.Duration
	for _, name := range threads {
		var b []byte
		if b, err = os.ReadFile(name); err != nil {
			break
		}
		running, _, _ := strings.Cut(string(b), " ")
		var ns int64
		if ns, err = strconv.ParseInt(running, 10, 64); err != nil {
			break
		}
		sum += time.Duration(ns)
	}
	if err != nil {
		tb.Fatalf("%s: read its processor time: %v", role, err)
	}
	return sum
}

// Memory returns how many bytes of memory the process takes: its own pages and
// its share of those that it shares.
func (p *Process) Memory() int64 {
	p.tb.Helper()
	return p.Proc("smaps_rollup", "\nPss:") << 10
}

// MaxFiles returns how many files the process may have open.
func (p *Process) MaxFiles() int {
	p.tb.Helper()
	return int(p.Proc("limits", "\nMax open files"))
}

// Proc returns the number behind a title in a file about the process.
func (p *Process) Proc(file, title string) (n int64) {
	p.tb.Helper()
	name := fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file)
	b, err := os.ReadFile(name)
	if err == nil {
		_, rest, _ := strings.Cut(string(b), title)
		_, err = fmt.Sscan(rest, &n)
	}
	if err != nil {
		p.tb.Fatalf("%s: read %s: %v", p.role, name, err)
	}
	return n
}

// Cost returns how much more memory the process had at its peak while something was
// done than before, and the processor time that it took.
func (p *Process) Cost(do func()) (memory int64, cpu time.Duration) {
	p.tb.Helper()
	p.Tell("collect")
	before, used := p.Proc("status", "\nVmRSS:"), p.CPU()
	// https://docs.kernel.org/filesystems/proc.html: 5 resets the peak.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0); err != nil {
		p.tb.Fatal(err)
	}
	do()
	return (p.Proc("status", "\nVmHWM:") - before) << 10, p.CPU() - used
}

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.tb.Fatal(err)
	}
}

// AwaitLog waits until the process has written something on its standard error.
func (p *Process) AwaitLog(text string) {
	p.tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		log, err := os.ReadFile(p.log)
		if err == nil && bytes.Contains(log, []byte(text)) {
			return
		}
		if time.Now().After(deadline) {
			p.tb.Fatalf("%s has not logged %q within 10 s, but\n%s", p.role, text, log)
		}
	}
}

// Log returns what the process has logged.
func (p *Process) Log() string {
	p.tb.Helper()
	log, err := os.ReadFile(p.log)
	if err != nil {
		p.tb.Fatal(err)
	}
	return string(log)
}

// Wait waits for the process's end and returns how it ended.
func (p *Process) Wait() *os.ProcessState {
	p.tb.Helper()
	late := time.AfterFunc(20*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_, _ = io.Copy(io.Discard, p.lines)
	_ = p.cmd.Wait()
	return p.cmd.ProcessState
}

// NeedProc skips where the operating system does not tell what a process costs.
func NeedProc(tb testing.TB) {
	for _, name := range []string{"/proc/self/schedstat", "/proc/self/smaps_rollup"} {
		if _, err := os.ReadFile(name); err != nil {
			skip.For(tb, "what a process costs is measured on Linux alone: %v", err)
		}
	}
}
