package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// attackOnConnections is one of them, for a few seconds: -soak makes it last longer, and
// the storm whole.
type attackOnConnections struct {
	kind  string
	count int // how many at once; of the storm, how many in all
	whole int // with -soak; 0: the same
	args  string
	most  int64 // MiB more than without, at the peak; 0: any
}

// TestAttackConnections makes connections do what they should not. Good clients are to
// notice little; what they notice is printed, as it is the machine's, too.
func TestAttackConnections(t *testing.T) {
	for _, a := range []attackOnConnections{
		{kind: "slow-headers", count: 1000, args: "--header-timeout=1s"},
		{kind: "stalled", count: 1000},
		{kind: "resets", count: 8},
		{kind: "grpc-resets", count: 8},
		{kind: "storm", count: 2000, whole: 10_000},
		{kind: "spaces", count: 100},
		{kind: "large-bodies", count: 300, whole: 1000, most: 900},
	} {
		t.Run(a.kind, func(t *testing.T) { underSiege(t, a.make) })
	}
}

func (a attackOnConnections) make(t *testing.T, secure bool) {
	duration, count := 1500*time.Millisecond, a.count
	if *long {
		duration = 10 * time.Second
		if a.whole > 0 {
			count = a.whole
		}
	}
	u := e2etest.NewUpstream(t, pacedOr(e2etest.Silence))
	s := besiege(t, fmt.Sprintf("%s, %d", a.kind, count), secure, u, a.args)
	attackers := testbed.Start(t, strings.Join([]string{"attacker", a.kind, fmt.Sprint(count), duration.String(), s.Addrs[0], s.Addrs[1], fmt.Sprint(secure)}, " "))
	defer attackers.Stop()
	summary := ""
	memory, cpu := s.Cost(func() {
		begun := time.Now()
		summary = attackers.Line()
		time.Sleep(time.Until(begun.Add(duration))) // a storm may be over before good clients can notice it
	})
	e2etest.Eventually(t, "only good clients are served", func() bool { return u.Open.Load() == 2*goodReaders })
	checkAnswers(t, s)
	fmt.Fprintf(os.Stdout, "%s for %v: %s; %v of the processor\n", a.kind, duration, summary, cpu.Round(10*time.Millisecond))
	if a.most > 0 && memory>>20 > a.most {
		t.Errorf("%d MiB more at the peak, want at most %d", memory>>20, a.most)
	}
	s.lift(t, memory, 96<<20)
}

// checkAnswers checks that new clients are served.
func checkAnswers(t *testing.T, s *siege) {
	t.Helper()
	p := s.program(t)
	for _, face := range faces {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if a, err := face.ask(ctx, p, hello); err != nil || a.text != "Hello" {
			t.Errorf("%s: got %+v, %v", face.name, a, err)
		}
		cancel()
	}
}

// program returns how clients find the program.
func (s *siege) program(t *testing.T) *e2etest.Program {
	t.Helper()
	p := &e2etest.Program{HTTP: "http://" + s.Addrs[0], GRPC: s.Addrs[1]}
	if s.secure != nil {
		p.HTTP = "https://" + s.Addrs[0]
		config := s.secure.Clone()
		config.ServerName = "127.0.0.1"
		p.TLS = &e2etest.Secured{Client: e2etest.NewClient(t, config), Config: config}
	}
	return p
}
