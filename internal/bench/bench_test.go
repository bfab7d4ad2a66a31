// Package bench is the benchmark: how much an event costs, beside what people would use
// instead.
//
//	go test -run '^$' -bench Contenders -benchtime 1x ./internal/bench
//
// Every contender is measured in turn, in each of several rounds, with the same
// upstream and the same client: contenders_test.go says who they are,
// scenarios_test.go what they have to do, measure_test.go how they are measured, and
// table_test.go how that is shown. A measurement in which a token was lost, repeated or
// out of order gives no figure. The machine should have nothing else to do: when
// processors are short, events gather on the way, come late, and cost less.
package bench

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/skip"
	"github.com/sluice-sse/sluice/internal/testbed"
)

var (
	benchRounds    = flag.Int("bench-rounds", 5, "how many rounds BenchmarkContenders measures")
	benchScenarios = flag.String("bench-scenarios", "", "which scenarios, as a regexp: Paced, FlatOut, Idle, FirstToken, Readers, Streams, Length, Open, Recorded, Recorded/stream=NAME")
	benchOf        = flag.String("bench-contenders", "", "which contenders, as a regexp: sluice-one, sluice-two, sluice-guarded, sluice-redis, sluice-openai, stock, proxy, portkey, direct, hop-sluice, hop-any, hop-stock, hop-bare")
	benchTokens    = flag.Int("bench-tokens", 1, "how many times as many tokens as usual; for profiles")
	benchProfiles  = flag.String("bench-profiles", "", "a directory for profiles of the contenders: of the processor under load, of the heap with idle streams")
	benchLimit     = flag.Duration("bench-limit", 290*time.Second, "when to stop, even if not all rounds are done")
	benchFile      = flag.String("bench-file", filepath.Join(os.TempDir(), "sluice-contenders.txt"), "where to write the figures of all rounds, for benchstat")
)

// roles are what a process of the benchmark can be.
var roles = map[string]testbed.Role{
	"upstream":      testbed.ServeUpstream,
	"events":        serveEvents,
	"client":        func(*testbed.Gate, []string) error { fmt.Println("ready"); return nil },
	"sluice":        serveSluice,
	"stock-server":  serveStockServer,
	"stock-gateway": serveStockGateway,
	"proxy":         serveProxy,
	"node":          serveNode,
	"bare":          serveBare,
}

func TestMain(m *testing.M) {
	testbed.Perform(roles, map[string]func(string) error{"load": runLoad})
	os.Exit(m.Run())
}

// BenchmarkContenders prints tables, and writes a file for benchstat.
func BenchmarkContenders(b *testing.B) {
	testbed.NeedProc(b)
	file, err := os.Create(*benchFile)
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	var chosen []scenario
	for _, s := range scenarios {
		if matches(b, *benchScenarios, s.name) && (!s.detail || *benchScenarios != "") {
			s.pace.Tokens *= *benchTokens
			chosen = append(chosen, s)
		}
	}
	r := newResults(file)
	fmt.Printf("\nload average at the start: %s", loadAverage())
	done := runRounds(b, r, chosen)
	fmt.Printf("\nMedians of %d rounds. All figures: %s\n\n", done, *benchFile)
	r.print(os.Stdout)
	b.ReportMetric(0, "ns/op") // how long all that took says nothing
}

// runRounds measures until all rounds are done or the next one would be late. It
// returns how many were.
func runRounds(tb testing.TB, r *results, chosen []scenario) int {
	start := time.Now()
	b := newBench(tb)
	b.settle, b.profiles = 200*time.Millisecond, *benchProfiles
	for _, s := range chosen {
		if s.once {
			b.measureContenders(r, s, 0)
		}
	}
	var last time.Duration
	for round := range *benchRounds {
		began := time.Now()
		if began.Add(last*5/4).Sub(start) > *benchLimit {
			return round
		}
		for _, s := range chosen {
			if !s.once {
				b.measureContenders(r, s, round)
			}
		}
		last = time.Since(began)
		fmt.Printf("round %d of %d: %.0f s\n", round+1, *benchRounds, last.Seconds())
	}
	return *benchRounds
}

// measureContenders measures a scenario on its contenders, beginning with another one in
// each round.
func (b *bench) measureContenders(r *results, s scenario, round int) {
	var chosen []contender
	for _, name := range s.of {
		c := contenderOf(name)
		if !matches(b.tb, *benchOf, name) {
			continue
		}
		if lack := c.lacks(); lack == "" {
			chosen = append(chosen, c)
		} else if round == 0 {
			fmt.Printf("NOT MEASURED: %s: %s\n", c.title, lack)
		}
	}
	for i := range chosen {
		c := chosen[(i+round)%len(chosen)]
		f, err := b.measure(s, c)
		r.add(round+1, s, c, f, err)
	}
}

func matches(tb testing.TB, expr, name string) bool {
	re, err := regexp.Compile(expr)
	if err != nil {
		tb.Fatal(err)
	}
	return re.MatchString(name)
}

// loadAverage says how busy the machine is, in runnable threads.
func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	return string(b)
}

// TestContenders checks that the benchmark works, and that no contender loses
// anything in it. Times are not for a test.
func TestContenders(t *testing.T) {
	testbed.NeedProc(t)
	r := newResults(io.Discard)
	b := newBench(t)
	for _, c := range contenders {
		if lack := c.lacks(); lack != "" {
			t.Run(c.name, func(t *testing.T) { skip.For(t, "%s", lack) })
			continue
		}
		running := b.start(c)
		for _, s := range scenarios {
			if slices.Contains(s.of, c.name) {
				s = s.small()
				f, err := b.measureRunning(s, c, running)
				r.add(1, s, c, f, err)
			}
		}
		stopAll(running)
	}
	for c, of := range r.cells {
		if of.err != nil {
			t.Errorf("%s, %s: %v", c.scenario, c.contender, of.err)
		}
	}
	r.print(t.Output())
}

// TestTokenAllocatesNothing checks that the way of a token, from the upstream to the
// client, makes no garbage: neither of itself nor by keys, limits, metrics and traces. What
// is left is room in the journal, and what happens now and then. (Between two processes,
// grpc-go allocates for each frame.)
func TestTokenAllocatesNothing(t *testing.T) {
	testbed.NeedProc(t)
	b := newBench(t)
	for _, name := range []string{"sluice-one", "sluice-guarded"} {
		s := scenario{name: "Allocations", load: load{Streams: 4}, pace: testbed.Pace{Tokens: 10_000, Gated: true}}
		f, err := b.measure(s, contenderOf(name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		fmt.Printf("%s: %.4f allocations a token\n", name, f[allocsPerToken])
		if f[allocsPerToken] > maxAllocs {
			t.Errorf("%s: %.4f allocations a token", name, f[allocsPerToken])
		}
	}
}
