package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

var (
	long     = flag.Bool("soak", false, "let TestSoak cut at least 10,000 connections in each layout")
	soakSeed = flag.Uint64("soak-seed", rand.Uint64(), "what TestSoak's random numbers begin with")
)

// soak is many completions with several readers each, whose connections are cut
// at random.
type soak struct {
	completions, tokens int // each of so many

	calls atomic.Int64
	all   chan struct{} // closed when all completions are under way
	stop  func()        // ends it: something is wrong

	readers, lost, repeated, disordered atomic.Int64
	resets, fins, stalls                atomic.Int64
}

// TestSoak checks that whatever is done to their connections, all readers of all
// completions get every event once and in order, for one call upstream each.
func TestSoak(t *testing.T) {
	completions, tokens, least, limit := 200, 30, 750, time.Minute
	switch {
	case *long:
		tokens, least, limit = 400, 10_000, 8*time.Minute
	case underRace:
		completions, least = 50, 200
	}
	t.Logf("-soak-seed=%d", *soakSeed)
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			s := &soak{completions: completions, tokens: tokens, all: make(chan struct{}), stop: cancel}
			u := e2etest.NewUpstream(t, s.generate)
			p := e2etest.Start(t, layout, u.Env())
			overHTTP, overGRPC := e2etest.NewCuttingProxy(t, p.HTTP, s.plan(1)), e2etest.NewCuttingProxy(t, p.GRPC, s.plan(2))
			cut := &e2etest.Program{HTTP: overHTTP.URL, GRPC: overGRPC.Addr}
			began := time.Now()
			s.run(ctx, t, p, cut)
			cuts := overHTTP.Cuts.Load() + overGRPC.Cuts.Load()
			numbers := fmt.Sprintf("soak, %s: %d completions of %d events, %d readers, %d cuts (%d of HTTP, %d of gRPC; %d resets, %d FINs, %d stalls) in %.1f s: %d lost, %d repeated, %d out of order, %d calls upstream",
				layout, completions, tokens+2, s.readers.Load(), cuts, overHTTP.Cuts.Load(), overGRPC.Cuts.Load(),
				s.resets.Load(), s.fins.Load(), s.stalls.Load(), time.Since(began).Seconds(),
				s.lost.Load(), s.repeated.Load(), s.disordered.Load(), u.Calls.Load())
			t.Log(numbers)
			if *long {
				fmt.Println(numbers)
			}
			if s.lost.Load()+s.repeated.Load()+s.disordered.Load() > 0 || u.Calls.Load() != int64(completions) || cuts < int64(least) {
				t.Errorf("want none lost, repeated or out of order, %d calls upstream, and at least %d cuts", completions, least)
			}
		})
	}
}

// generate is the upstream. It begins when all completions are there.
func (s *soak) generate(w http.ResponseWriter, r *http.Request) {
	switch calls := int(s.calls.Add(1)); {
	case calls == s.completions:
		close(s.all)
	case calls > s.completions:
		s.stop()
		return
	}
	model := e2etest.ModelOf(r)
	select {
	case <-s.all:
	case <-r.Context().Done():
		return
	}
	for i := range s.tokens {
		time.Sleep(rand.N(20 * time.Millisecond)) // as models do
		e2etest.Say(w, token(model, i))
	}
	e2etest.Chunk(w, `{}`, "stop")
}

func token(model string, i int) string { return fmt.Sprint(model, ".", i, words[i%len(words)]) }

// plan plans the cuts of a proxy.
func (s *soak) plan(proxy uint64) func(int) *e2etest.Cut {
	rng := rand.New(rand.NewPCG(*soakSeed, proxy))
	return func(int) *e2etest.Cut {
		c := &e2etest.Cut{After: rng.IntN(3000)}
		if rng.IntN(10) == 0 {
			c.After = 0
		}
		count, how := &s.resets, e2etest.SendReset
		if rng.IntN(2) == 0 {
			count, how = &s.fins, e2etest.SendFIN
		}
		if rng.IntN(5) == 0 {
			count, how = &s.stalls, e2etest.Stall(time.Duration(20+rng.IntN(180))*time.Millisecond, how)
		}
		c.How = func(ctx context.Context, conn *net.TCPConn) {
			count.Add(1)
			how(ctx, conn)
		}
		return c
	}
}

// run lets the readers of all completions read to the end over connections that
// are cut.
func (s *soak) run(ctx context.Context, t *testing.T, p, cut *e2etest.Program) {
	t.Helper()
	rng := rand.New(rand.NewPCG(*soakSeed, 0))
	var ids sync.Map // by model
	var done sync.WaitGroup
	for i := range s.completions {
		model := fmt.Sprint("m", i)
		for range 1 + rng.IntN(5) {
			r := &soakReader{
				reader:   reader{p: cut, request: repeatable(model, model)},
				soak:     s,
				rng:      rand.New(rand.NewPCG(*soakSeed, rng.Uint64())),
				received: make([]bool, s.tokens+3),
			}
			s.readers.Add(1)
			done.Go(func() {
				if err := r.readAll(ctx); err != nil {
					t.Errorf("%s, after %q: %v", model, r.last, err)
				} else if r.text.String() != s.text(model) {
					t.Errorf("%s: a reader has the text %q", model, r.text.String())
				}
				if other, ok := ids.LoadOrStore(model, r.id); ok && other != r.id {
					t.Errorf("%s is %s and %s", model, other, r.id)
				}
			})
		}
	}
	done.Wait()
	client := p.Client(t)
	for model, id := range ids.Range {
		c, err := client.GetCompletion(ctx, &completionv1.GetCompletionRequest{Id: id.(string)})
		if err != nil || c.GetState() != completionv1.Completion_FINISHED || c.GetText() != s.text(model.(string)) {
			t.Errorf("%s: %v, %v", model, c, err)
		}
	}
}

// text is the whole text of a completion.
func (s *soak) text(model string) string {
	var text strings.Builder
	for i := range s.tokens {
		text.WriteString(token(model, i))
	}
	return text.String()
}

// soakReader is a reader who comes back until he has the terminal event.
type soakReader struct {
	reader
	soak     *soak
	rng      *rand.Rand
	next     int32  // the sequence after the last one
	received []bool // by sequence
	text     strings.Builder
}

func (r *soakReader) readAll(ctx context.Context) error {
	r.next = 1
	for ctx.Err() == nil {
		way := ways[r.rng.IntN(len(ways))]
		if r.id == "" { // there is nothing to GET yet
			way = ways[r.rng.IntN(2)]
		}
		got, err := way.read(r.reader, ctx)
		if got.id != "" {
			r.id = got.id
		}
		for _, m := range got.events {
			if err := r.receive(m); err != nil {
				return err
			}
		}
		switch {
		case got.status != nil:
			return fmt.Errorf("%s: %d %w", way.name, got.http, got.status.Err())
		case ended(got.events):
			return nil
		case err == nil:
			return fmt.Errorf("%s: the stream (%d) ended without a terminal event", way.name, got.http)
		}
	}
	return ctx.Err()
}

func (r *soakReader) receive(m sse.Message) error {
	event := &completionv1.CompletionEvent{}
	if err := protojson.Unmarshal([]byte(m.Data), event); err != nil {
		return err
	}
	sequence := event.GetSequence()
	if m.ID != native.FormatID(r.id, sequence) || sequence < 1 || int(sequence) >= len(r.received) {
		return fmt.Errorf("event %d of %d has the id %q", sequence, len(r.received)-1, m.ID)
	}
	switch {
	case sequence >= r.next:
		r.soak.lost.Add(int64(sequence - r.next))
		r.next = sequence + 1
	case r.received[sequence]:
		r.soak.repeated.Add(1)
	default: // it was counted as lost
		r.soak.lost.Add(-1)
		r.soak.disordered.Add(1)
	}
	r.received[sequence] = true
	r.last = m.ID
	r.text.WriteString(event.GetDelta().GetText())
	return nil
}
