package server

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

var errStore = errors.New("the store is gone: secret words")

// failing is a journal whose appends fail for some entries.
type failing struct {
	journal.Journal
	fails func(e journal.Entry) error
}

func (f *failing) Create(ctx context.Context, c journal.Completion, o journal.Owner) (journal.Writer, journal.Completion, error) {
	w, holder, err := f.Journal.Create(ctx, c, o)
	if w != nil {
		w = &failingWriter{w, f.fails}
	}
	return w, holder, err
}

type failingWriter struct {
	journal.Writer
	fails func(e journal.Entry) error
}

func (w *failingWriter) Append(ctx context.Context, entries []journal.Entry) (int, error) {
	for i, e := range entries {
		if err := w.fails(e); err != nil {
			n, _ := w.Writer.Append(ctx, entries[:i])
			return n, err
		}
	}
	return w.Writer.Append(ctx, entries)
}

// once fails the first entry of those that are chosen; always fails all of them.
func once(choose func(e journal.Entry) bool) func() func(journal.Entry) error {
	return func() func(journal.Entry) error {
		done := false
		return func(e journal.Entry) error {
			if done || !choose(e) {
				return nil
			}
			done = true
			return errStore
		}
	}
}

func always(choose func(e journal.Entry) bool) func() func(journal.Entry) error {
	return func() func(journal.Entry) error {
		return func(e journal.Entry) error {
			if choose(e) {
				return errStore
			}
			return nil
		}
	}
}

func isFirst(e journal.Entry) bool     { return e.Sequence == 1 }
func isLast(e journal.Entry) bool      { return e.Kind != journal.Event }
func isAny(journal.Entry) bool         { return true }
func isBehindTwo(e journal.Entry) bool { return e.Sequence > 2 }

// A completion whose events the journal does not take ends all the same, for all of its
// readers, in the same way: in one that says so, or, if even that is not taken, in that
// its owner is lost.
func TestJournalFails(t *testing.T) {
	fenced := func() func(journal.Entry) error {
		return func(e journal.Entry) error {
			if e.Sequence >= 2 {
				return journal.ErrFenced
			}
			return nil
		}
	}
	chunks := []*engine.Chunk{begun, text("a"), text("b"), stopped}
	for _, tt := range []struct {
		name   string
		fails  func() func(journal.Entry) error // made anew for each
		want   string
		reason failure.Reason
	}{
		{"the last one", once(isLast), "1:created 2:a 3:b", failure.UpstreamUnavailable},
		{"the last one, each time", always(isLast), "1:created 2:a 3:b", failure.OwnerLost},
		{"the first one", once(isFirst), "", failure.UpstreamUnavailable},
		{"the first one, each time", always(isFirst), "", failure.OwnerLost},
		{"all", always(isAny), "", failure.OwnerLost},
		{"from the third on", always(isBehindTwo), "1:created 2:a", failure.OwnerLost},
		{"the owner is fenced off", fenced, "1:created", failure.OwnerLost},
	} {
		for how, eng := range map[string]engine.Engine{
			"at once": atOnce(nil, chunks...), "one by one": play(nil, chunks...),
		} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { journalFails(t, eng, tt.fails(), tt.want, tt.reason) })
			})
		}
	}
}

func journalFails(t *testing.T, eng engine.Engine, fails func(journal.Entry) error, want string, wantReason failure.Reason) {
	f := newFixture(t, eng, func(c *Config) { c.Journal = &failing{c.Journal, fails} })
	id, s := f.stream(t, t.Context(), prompt("x"))
	got, err := read(s)
	if got != want || reason(err) != wantReason {
		t.Errorf("who led it: %q, %v; want %q, %v", got, err, want, wantReason)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("the cause is in the error: %v", err)
	}
	again, errAgain := read(f.resume(t, t.Context(), id, 0))
	if again != want || !proto.Equal(status.Convert(errAgain).Proto(), status.Convert(err).Proto()) {
		t.Errorf("who reads it later: %q, %v; want %q, %v", again, errAgain, want, err)
	}
	for name, call := range map[string]func() (*completionv1.Completion, error){
		"Get": func() (*completionv1.Completion, error) {
			return f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
		},
		"Cancel": func() (*completionv1.Completion, error) {
			return f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id})
		},
	} {
		c, err := call()
		if err != nil || c.GetState() != completionv1.Completion_FAILED || !proto.Equal(c.GetError(), status.Convert(errAgain).Proto()) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	if f.run(id) != nil {
		t.Error("it still runs")
	}
	f.server.Close()
	if line := f.log.String(); !strings.Contains(line, "id="+id) || wantReason == failure.OwnerLost && !strings.Contains(line, "level=ERROR") {
		t.Errorf("the log: %s", line)
	}
}

// TestJournalFailsReadersWait has many wait for a completion of which the journal takes
// no end, in all ways in which one can.
func TestJournalFailsReadersWait(t *testing.T) {
	for _, end := range []string{"it is cancelled", "it ends", "its time is over", "the server stops"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				goOn := make(chan struct{})
				f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
					if err := emit(begun, text("a")); err != nil {
						return err
					}
					select {
					case <-goOn:
						return emit(stopped)
					case <-ctx.Done():
						return context.Cause(ctx)
					}
				}), func(c *Config) { c.Journal = &failing{c.Journal, always(isLast)()} })
				id, s := f.stream(t, t.Context(), prompt("x"))
				ends := make(chan error, 20)
				read := func(s eventStream) {
					got, err := read(s)
					if got != "1:created 2:a" {
						t.Errorf("got %q", got)
					}
					ends <- err
				}
				go read(s)
				for range 2 {
					go read(f.resume(t, t.Context(), id, 0))
				}
				synctest.Wait()
				waiting := 3
				switch end {
				case "it is cancelled":
					c, err := f.client.CancelCompletion(t.Context(), &completionv1.CancelCompletionRequest{Id: id})
					if err != nil || c.GetState() != completionv1.Completion_FAILED {
						t.Errorf("%v, %v", c, err)
					}
				case "it ends":
					close(goOn)
				case "the server stops":
					f.server.Close()
				}
				for range waiting {
					if err := <-ends; reason(err) != failure.OwnerLost {
						t.Errorf("%s: %v", end, err)
					}
				}
			})
		})
	}
}
