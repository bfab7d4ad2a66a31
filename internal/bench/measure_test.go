package bench

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/auth"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// bench is what all measurements have in common. It is for one goroutine.
type bench struct {
	tb       testing.TB
	client   *testbed.Process
	sources  map[string]*testbed.Process // by role
	settle   time.Duration               // how long to wait, before memory is measured, for what is on its way to be done
	profiles string                      // the directory for profiles; "": none
	store    *testbed.Redis              // nil: it has not been needed
}

func newBench(tb testing.TB) *bench {
	b := &bench{tb: tb, client: testbed.Start(tb, "client"), sources: map[string]*testbed.Process{}}
	tb.Cleanup(b.client.Stop)
	for _, role := range []string{"upstream", "events"} {
		p := testbed.Start(tb, role)
		tb.Cleanup(p.Stop)
		b.sources[role] = p
	}
	return b
}

// measure runs a scenario on a contender that starts and ends with it, so that
// nothing is left from what it did before. The error says why there are no
// figures.
func (b *bench) measure(s scenario, c contender) (figures, error) {
	running := b.start(c)
	defer stopAll(running)
	return b.measureRunning(s, c, running)
}

// measureRunning runs a scenario on a contender's processes.
func (b *bench) measureRunning(s scenario, c contender, running []*testbed.Process) (figures, error) {
	m, err := b.prepare(s, c, running)
	if err != nil {
		return nil, err
	}
	return m.run()
}

// prepare returns a measurement that may begin, of processes that are warm.
func (b *bench) prepare(s scenario, c contender, running []*testbed.Process) (*measurement, error) {
	m := &measurement{bench: b, scenario: s, running: running, name: c.name, source: b.sources[c.source], stores: c.needsRedis()}
	if m.source == nil {
		m.source = running[0]
	}
	talksTo := m.source
	if len(running) > 0 {
		talksTo = running[len(running)-1]
	}
	warm := testbed.Pace{Tokens: min(s.pace.Tokens, 100), Recording: s.pace.Recording}
	request := func(p testbed.Pace) string { return strings.Replace(c.request(p), "{}", m.source.Addrs[0], 1) }
	m.load = load{Address: talksTo.Addrs[0], Request: request(warm), Streams: min(s.load.Streams, 20), Tokens: warm.Tokens + 1}
	if err := m.warmUp(); err != nil {
		return nil, err
	}
	m.load = s.load
	m.load.Address, m.load.Request, m.load.Tokens = talksTo.Addrs[0], request(s.pace), s.pace.Tokens+1
	if n := maxStreams(talksTo, c.files); m.load.Streams > n {
		m.load.Streams = n
	}
	return m, nil
}

// maxStreams is how many streams a process may have open at once that takes so
// many files for one.
func maxStreams(p *testbed.Process, files int) int {
	return (p.MaxFiles() - 200) / max(files, 1) // it has others, too
}

// needsRedis tells whether a contender has something in a redis-server.
func (c contender) needsRedis() bool {
	return slices.ContainsFunc(c.processes, func(role string) bool { return strings.Contains(role, "{redis}") })
}

// lacks says what a contender needs that is not there; "": nothing.
func (c contender) lacks() string {
	if c.needsRedis() {
		if _, err := exec.LookPath("redis-server"); err != nil {
			return err.Error()
		}
	}
	if c.name == "portkey" {
		if _, err := exec.LookPath("node"); err != nil {
			return err.Error()
		}
		if _, err := os.Stat(filepath.Join(portkeyFolder, "node_modules")); err != nil {
			return "it is not installed: run npm ci in internal/bench/" + portkeyFolder
		}
	}
	return ""
}

// start starts a contender's processes.
func (b *bench) start(c contender) (running []*testbed.Process) {
	b.tb.Helper()
	if c.needsRedis() && b.store == nil {
		b.store = testbed.StartRedis(b.tb)
	}
	before := b.sources[c.source]
	for _, role := range c.processes {
		if b.store != nil {
			role = strings.ReplaceAll(role, "{redis}", b.store.URL)
		}
		if strings.Contains(role, "{keys}") {
			role = strings.ReplaceAll(role, "{keys}", b.keys())
		}
		if before != nil {
			role = strings.ReplaceAll(role, "{}", before.Addrs[0])
		}
		before = testbed.Start(b.tb, role)
		running = append(running, before)
	}
	return running
}

// keys returns the name of a file that has guardKey.
func (b *bench) keys() string {
	b.tb.Helper()
	line, err := auth.HashKey("benchmark", guardKey)
	name := filepath.Join(b.tb.TempDir(), "keys")
	if err == nil {
		err = os.WriteFile(name, []byte(line+"\n"), 0o600)
	}
	if err != nil {
		b.tb.Fatal(err)
	}
	return name
}

// measurement is one scenario on one contender.
type measurement struct {
	*bench
	scenario scenario
	name     string             // the contender's
	running  []*testbed.Process // which are what is measured
	source   *testbed.Process   // where the gate is
	stores   bool               // something in bench.store
	load     load
}

// warmUp lets the contender make what it makes once.
func (m *measurement) warmUp() error {
	m.begin()
	if _, err := m.end(); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	return nil
}

// run measures. With gated streams, the moments are when all are open, when all
// have all tokens, and when all have ended.
func (m *measurement) run() (figures, error) {
	f := figures{streamCount: float64(m.load.Streams)}
	if m.scenario.memory {
		m.tell("collect")
	}
	memory, start := m.memory(), m.cpu()
	if m.scenario.pace.Gated {
		m.begin()
		m.await("open")
		m.noteCPU(f, cpuPerOpen, start, m.load.Streams)
		if m.scenario.memory {
			m.noteMemory(f, memory, perStream, liveStream)
		}
	}
	m.profile("profile", "cpu")
	allocated := m.mallocs()
	began, start := time.Now(), m.cpu()
	stored := m.beginStore()
	tokens := m.load.Streams * m.load.Tokens
	if m.scenario.pace.Gated {
		m.source.Tell("release")
		tokens -= m.load.Streams // their first
	} else {
		m.begin()
	}
	m.await("full")
	m.noteCPU(f, cpuPerToken, start, tokens)
	if len(m.running) > 0 {
		f[allocsPerToken] = float64(m.mallocs()-allocated) / float64(tokens)
	}
	stored(f, tokens)
	f[tokenRate] = float64(tokens) / time.Since(began).Seconds()
	m.profile("profiled", "cpu")
	if m.scenario.pace.Gated {
		m.source.Tell("release")
	}
	r, err := m.end()
	if err != nil {
		return nil, err
	}
	f[firstToken] = ms(r.First)
	if m.scenario.pace.Interval > 0 {
		f[latency], f[worstLatency] = ms(r.P50), ms(r.P99)
	}
	if m.scenario.memory {
		m.noteMemory(f, memory, "", keptStream)
	}
	return f, nil
}

// noteCPU notes the processor time since start for each of n.
func (m *measurement) noteCPU(f figures, unit string, start time.Duration, n int) {
	if len(m.running) > 0 {
		f[unit] = float64(m.cpu()-start) / float64(time.Microsecond) / float64(n)
	}
}

// beginStore returns what notes what the store did since then for each of n tokens.
func (m *measurement) beginStore() func(f figures, n int) {
	if !m.stores {
		return func(figures, int) {}
	}
	start, commands := m.store.CPU(), m.store.Commands()
	return func(f figures, n int) {
		f[storePerToken] = float64(m.store.CPU()-start) / float64(time.Microsecond) / float64(n)
		f[commandsPerToken] = float64(m.store.Commands()-commands) / float64(n)
	}
}

// noteMemory notes how much memory streams take, as it is and without garbage.
func (m *measurement) noteMemory(f figures, before int64, asItIs, collected string) {
	time.Sleep(m.settle)
	perStream := func() float64 { return float64(m.memory()-before) / 1024 / float64(m.load.Streams) }
	if asItIs != "" {
		f[asItIs] = perStream()
	}
	m.tell("collect")
	f[collected] = perStream()
	if asItIs != "" {
		m.profile("heap", "heap")
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// begin begins the load.
func (m *measurement) begin() {
	m.tb.Helper()
	b, err := json.Marshal(m.load)
	if err != nil {
		m.tb.Fatal(err)
	}
	m.client.Begin("load %s", b)
}

// await waits until the client says so.
func (m *measurement) await(word string) {
	m.tb.Helper()
	for m.client.Line() != word {
	}
}

// end waits for the load's end. The error says that not all came as it should.
func (m *measurement) end() (r report, err error) {
	m.tb.Helper()
	for {
		switch line := m.client.Line(); line {
		case "open", "full":
		case "done":
			return r, cmp.Or(err, r.whole())
		default:
			err = json.Unmarshal([]byte(line), &r)
		}
	}
}

// cpu, memory, mallocs and stacks are those of all of the contender's processes.

func (m *measurement) cpu() (sum time.Duration) {
	for _, p := range m.running {
		sum += p.CPU()
	}
	return sum
}

func (m *measurement) memory() (sum int64) {
	for _, p := range m.running {
		sum += p.Memory()
	}
	return sum
}

func (m *measurement) mallocs() (sum int64) {
	for _, p := range m.running {
		sum += p.Mallocs()
	}
	return sum
}

func (m *measurement) stacks() (sum int64) {
	for _, p := range m.running {
		sum += p.Stacks()
	}
	return sum
}

func (m *measurement) tell(what string) {
	for _, p := range m.running {
		p.Tell("%s", what)
	}
}

// profile has each process write a profile, or begin or end one.
func (m *measurement) profile(verb, kind string) {
	if m.profiles == "" {
		return
	}
	scenario := strings.NewReplacer("/", "-", "=", "-").Replace(m.scenario.name)
	for i, p := range m.running {
		p.Tell("%s %s", verb, filepath.Join(m.profiles, fmt.Sprintf("%s-%s-%d-%s.pprof", scenario, m.name, i+1, kind)))
	}
}

func stopAll(running []*testbed.Process) {
	for _, p := range running {
		p.Stop()
	}
}
