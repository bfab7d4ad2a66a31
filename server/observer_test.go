package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

// observations is an Observer that notes what it is told.
type observations struct {
	mu    sync.Mutex
	notes []string
	ended []Ended
}

type observedKey struct{}

func (o *observations) note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.notes = append(o.notes, fmt.Sprintf(format, args...))
}

func (o *observations) Began(_, generate context.Context, b Began) context.Context {
	o.note("began %s", b.Request.GetModel())
	return context.WithValue(generate, observedKey{}, b.ID)
}

func (o *observations) Ended(generate context.Context, e Ended) {
	o.note("ended %s", e.Outcome)
	o.mu.Lock()
	defer o.mu.Unlock()
	if generate.Value(observedKey{}) != e.ID {
		o.notes = append(o.notes, "in another context")
	}
	o.ended = append(o.ended, e)
}

func (o *observations) Reads(context.Context, string) { o.note("reads") }

// TestObserver checks what is told of a completion, and that the engine runs in the
// context that the observer has made.
func TestObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &observations{}
		var seen any
		eng := script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
			seen = ctx.Value(observedKey{})
			return emit(text("a"), stopped)
		})
		f := newFixture(t, eng, func(c *Config) { c.Observer = o })
		id, s := f.stream(t, t.Context(), prompt("x"))
		if _, err := read(s); err != nil {
			t.Fatal(err)
		}
		if _, err := read(f.resume(t, t.Context(), id, 0)); err != nil {
			t.Fatal(err)
		}
		f.server.ended.Wait()
		if seen != id {
			t.Errorf("the engine's context has %v, want %s", seen, id)
		}
		want := []string{"began m", "ended finished", "reads", "reads"}
		if slices.Sort(o.notes); !slices.Equal(o.notes, want) {
			t.Errorf("%q, want %q", o.notes, want)
		}
		if e := o.ended[0]; e.Events != 3 || e.Model != "m" || !e.Journaled || e.Usage.GetTotalTokens() != 3 || e.FinishReason != completionv1.Finished_STOP {
			t.Errorf("%+v", e)
		}
		if got := f.server.Stats(); got != (Stats{}) {
			t.Errorf("there are %+v", got)
		}
	})
}

// TestRefusalIsNotObserved checks that a call that is refused begins and reads nothing.
func TestRefusalIsNotObserved(t *testing.T) {
	o := &observations{}
	f := newFixture(t, play(nil), func(c *Config) { c.Observer = o })
	_, err := f.client.CreateCompletion(t.Context(), &completionv1.CompletionRequest{})
	if reason(err) != failure.InvalidRequest {
		t.Fatal(err)
	}
	if _, err := read(f.resume(t, t.Context(), "cmpl_x", 0)); reason(err) != failure.CompletionNotFound {
		t.Fatal(err)
	}
	if len(o.notes) > 0 {
		t.Errorf("%q", o.notes)
	}
}

// TestOutcomeIsOneWord checks that observer and log have the same word for each way to
// end, and that it is the reason's if there is one.
func TestOutcomeIsOneWord(t *testing.T) {
	fails := func(err error) script { return play(err, text("a")) }
	ends := map[string]struct {
		engine script
		act    func(ctx context.Context, f *fixture, id string, leave func())
	}{
		"finished": {engine: play(nil, text("a"), stopped)},
		"cancelled": {silent(text("a")), func(ctx context.Context, f *fixture, id string, _ func()) {
			_, _ = f.client.CancelCompletion(ctx, &completionv1.CancelCompletionRequest{Id: id})
		}},
		"abandoned": {silent(text("a")), func(_ context.Context, _ *fixture, _ string, leave func()) { leave() }},
		"draining":  {silent(text("a")), func(_ context.Context, f *fixture, _ string, _ func()) { f.server.Close() }},

		"first_token_timeout":  {engine: silent()},
		"idle_timeout":         {engine: silent(text("a"))},
		"upstream_truncated":   {engine: play(nil, text("a"))},
		"upstream_unavailable": {engine: fails(errors.New("broken"))},
	}
	for value, name := range completionv1.ErrorReason_name {
		word := strings.ToLower(name)
		if _, known := ends[word]; !known && value != 0 {
			entry := ends[word]
			entry.engine = fails(failure.New(failure.Reason(value), "no"))
			ends[word] = entry
		}
	}
	for want, end := range ends {
		t.Run(want, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &observations{}
				f := newFixture(t, end.engine, func(c *Config) { c.Observer = o })
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				req := prompt("x")
				req.DisconnectGrace = durationpb.New(0)
				id, s := f.stream(t, ctx, req)
				if end.act != nil {
					if _, err := s.Recv(); err != nil {
						t.Fatal(err)
					}
					end.act(ctx, f, id, leave)
				}
				_, err := read(s)
				f.server.ended.Wait()
				got := o.ended[0].Outcome
				if got != want || !strings.Contains(f.log.String(), " outcome="+want+" ") {
					t.Errorf("observer: %s; log: %s", got, f.log)
				}
				if r := reason(err); r != noReason && strings.ToLower(r.String()) != want {
					t.Errorf("status: %v", err)
				}
			})
		})
	}
}
