package bench

import (
	"slices"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// scenario is one kind of load on contenders.
type scenario struct {
	name string   // as benchstat shows it, and the flag chooses it
	of   []string // the names of the contenders
	pace testbed.Pace
	load load // without what depends on the contender

	memory bool // whether memory is measured, with all streams open and silent
	once   bool // whether one round is enough: it is long, and about whether it works
	detail bool // whether it is measured only when the flag chooses it
}

var (
	endToEnd = []string{"sluice-one", "sluice-two", "sluice-guarded", "sluice-redis", "sluice-openai", "stock", "proxy", "portkey"}
	hop      = []string{"hop-sluice", "hop-any", "hop-stock", "hop-bare"}
	everyone = slices.Concat(endToEnd, hop)
)

// scenarios are what there is to know. Streams that are gated have all had their
// first token when the measuring begins: what is measured is tokens, and neither
// the opening of streams nor the contender's first seconds.
var scenarios = slices.Concat([]scenario{
	{name: "Paced", of: slices.Concat(everyone, []string{"direct"}), load: load{Streams: 500},
		pace: testbed.Pace{Tokens: 100, Interval: 20 * time.Millisecond, Gated: true}},
	{name: "FlatOut", of: everyone, load: load{Streams: 50}, pace: testbed.Pace{Tokens: 2000, Gated: true}},
	{name: "Idle", of: everyone, load: load{Streams: 1000}, pace: testbed.Pace{Tokens: 1, Gated: true}, memory: true},

	// Fifty at a time: one is opened every 5 ms and lasts for 250.
	{name: "FirstToken", of: slices.Concat(endToEnd, []string{"direct"}), load: load{Streams: 120, Every: 5 * time.Millisecond},
		pace: testbed.Pace{Tokens: 12, Interval: 20 * time.Millisecond}},

	// One completion.
	{name: "Readers/readers=10", of: []string{"sluice-one"}, load: load{Streams: 10, Readers: true},
		pace: testbed.Pace{Tokens: 500, Interval: 2 * time.Millisecond, Gated: true}},
	{name: "Readers/readers=100", of: []string{"sluice-one"}, load: load{Streams: 100, Readers: true},
		pace: testbed.Pace{Tokens: 500, Interval: 2 * time.Millisecond, Gated: true}},

	// 5,000 tokens a second, from ever more streams.
	{name: "Streams/streams=50", of: []string{"sluice-one"}, load: load{Streams: 50},
		pace: testbed.Pace{Tokens: 100, Interval: 10 * time.Millisecond, Gated: true}},
	{name: "Streams/streams=500", of: []string{"sluice-one"}, load: load{Streams: 500},
		pace: testbed.Pace{Tokens: 10, Interval: 100 * time.Millisecond, Gated: true}},
	{name: "Streams/streams=5000", of: []string{"sluice-one"}, load: load{Streams: 5000},
		pace: testbed.Pace{Tokens: 1, Interval: time.Second, Gated: true}},

	// As many events in short completions as in long ones, two at a time.
	{name: "Length/events=1000", of: []string{"sluice-one"}, load: load{Streams: 200, AtOnce: 2}, pace: testbed.Pace{Tokens: 1000}},
	{name: "Length/events=100000", of: []string{"sluice-one"}, load: load{Streams: 2}, pace: testbed.Pace{Tokens: 100_000}},

	// Or as many as the limit of open files allows: on one process two a stream.
	{name: "Open", of: []string{"sluice-one", "sluice-two"}, load: load{Streams: 10_000}, memory: true, once: true,
		pace: testbed.Pace{Tokens: 3, Interval: time.Second, Gated: true}},
}, recorded())

// recorded returns the scenarios in which the upstream sends what other servers have
// sent: one of all together, and one of each.
func recorded() []scenario {
	all := []scenario{{name: "Recorded", pace: testbed.Pace{Recording: testbed.AnyRecording}}}
	for _, name := range testbed.Recordings {
		all = append(all, scenario{name: "Recorded/stream=" + name, pace: testbed.Pace{Recording: name}, detail: true})
	}
	for i := range all {
		all[i].of, all[i].load = endToEnd[:2], load{Streams: 4 * len(testbed.Recordings)}
		all[i].pace.Tokens, all[i].pace.Gated = 2000, true
	}
	return all
}

// small is a scenario that is over at once, which shows that it works.
func (s scenario) small() scenario {
	s.load.Streams = min(s.load.Streams, 4)
	s.pace.Tokens = min(s.pace.Tokens, 5)
	s.pace.Interval = min(s.pace.Interval, 2*time.Millisecond)
	return s
}

// The units of what is measured. A benchstat file has all; the tables choose.
const (
	cpuPerToken    = "cpu-µs/token"
	allocsPerToken = "allocs/token" // of the contender's processes
	cpuPerOpen     = "cpu-µs/open"  // a stream's opening, up to its first token
	latency        = "p50-ms"       // of a token
	worstLatency   = "p99-ms"
	firstToken     = "first-ms"
	perStream      = "KiB/stream"      // more than before, with the streams open
	liveStream     = "live-KiB/stream" // the same, after the garbage has been collected
	keptStream     = "kept-KiB/stream" // and once the streams have ended
	tokenRate      = "tokens/s"        // that came, of all streams
	streamCount    = "streams"

	storePerToken    = "store-cpu-µs/token" // of redis-server, which no other figure counts
	commandsPerToken = "store-commands/token"
)

// figures are what one measurement found, by unit.
type figures map[string]float64
