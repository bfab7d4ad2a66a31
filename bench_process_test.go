package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A contender, a source of events and the client are this test binary too, each
// in a process of its own: what one costs is then the operating system's to say,
// and no garbage collector runs on another's behalf.
//
// A process is told what to be by its environment. It prints where it listens,
// obeys the lines of its standard input, answers each with a line "done", and
// ends with the input, so that none outlives the benchmark, however that ends.

// roleVariable holds a role and its arguments, separated by spaces.
const roleVariable = "SLUICE_TEST_ROLE"

// roles says what a process can be. A server's function returns only an error;
// that of the client returns at once.
var roles = map[string]func(g *gate, args []string) error{
	"upstream":      serveUpstream,
	"events":        serveEvents,
	"client":        func(*gate, []string) error { fmt.Println("ready"); return nil },
	"sluice":        serveSluice,
	"main":          runMain,
	"stock-server":  serveStockServer,
	"stock-gateway": serveStockGateway,
	"proxy":         serveProxy,
	"bare":          serveBare,
}

// perform is main for a process with a role.
func perform(role string) {
	fields := strings.Fields(role)
	g := newGate()
	go obey(os.Stdin, g)
	if err := roles[fields[0]](g, fields[1:]); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		os.Exit(1)
	}
	select {}
}

// obey does what a process is told, and ends it with its input.
func obey(commands io.Reader, g *gate) {
	var err error
	r := bufio.NewReader(commands)
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
		case "load":
			err = runLoad(arg)
		}
		fmt.Println("done")
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// process is a running process with a role, seen from the benchmark. It is for
// one goroutine.
type process struct {
	tb    testing.TB
	role  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
	log   string   // the name of the file that has its standard error
	addrs []string // where it listens
}

// startProcess starts a process and waits until it serves. The caller stops it.
func startProcess(tb testing.TB, role string) *process {
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
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = log // a file: reading a pipe would take the processor's time
	p := &process{tb: tb, role: role, cmd: cmd, log: log.Name()}
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
	for _, addr := range address.FindAllString(p.line(), -1) {
		p.addrs = append(p.addrs, strings.TrimPrefix(addr, "http://"))
	}
	return p
}

// line returns the next line that the process prints.
func (p *process) line() string {
	p.tb.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		said, _ := os.ReadFile(p.log)
		p.tb.Fatalf("%s ended: %v\n%s", p.role, err, said)
	}
	return strings.TrimSpace(line)
}

// begin tells the process to do something.
func (p *process) begin(format string, args ...any) {
	p.tb.Helper()
	if _, err := fmt.Fprintf(p.stdin, format+"\n", args...); err != nil {
		said, _ := os.ReadFile(p.log)
		p.tb.Fatalf("%s does not listen: %v\n%s", p.role, err, said)
	}
}

// tell tells the process to do something and waits until that is done.
func (p *process) tell(format string, args ...any) {
	p.tb.Helper()
	p.begin(format, args...)
	for p.line() != "done" {
	}
}

func stopAll(running []*process) {
	for _, p := range running {
		p.stop()
	}
}

// stop ends the process.
func (p *process) stop() {
	_ = p.stdin.Close()
	late := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_, _ = io.Copy(io.Discard, p.lines)
	if err := p.cmd.Wait(); err != nil && !p.tb.Failed() {
		said, _ := os.ReadFile(p.log)
		p.tb.Errorf("%s: %v\n%s", p.role, err, said)
	}
}

// cpu returns the processor time that the process has used so far: that of its
// threads, of which Go ends none, as the scheduler counts it. /proc/<pid>/stat
// has the same in steps of 10 ms.
func (p *process) cpu() time.Duration {
	p.tb.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
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
		p.tb.Fatalf("%s: read its processor time: %v", p.role, err)
	}
	return sum
}

// memory returns how many bytes of memory the process takes: its own pages and
// its share of those that it shares.
func (p *process) memory() int64 {
	p.tb.Helper()
	return p.proc("smaps_rollup", "\nPss:") << 10
}

// maxFiles returns how many files the process may have open.
func (p *process) maxFiles() int {
	p.tb.Helper()
	return int(p.proc("limits", "\nMax open files"))
}

// proc returns the number behind a title in a file about the process.
func (p *process) proc(file, title string) (n int64) {
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
