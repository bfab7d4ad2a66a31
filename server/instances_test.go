package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// instances returns two servers with one journal, of which only the first one has an
// engine.
func instances(t *testing.T, eng engine.Engine, change ...func(*Config)) (owner, other *fixture) {
	t.Helper()
	owner = newFixture(t, eng, change...)
	never := script(func(context.Context, func(...*engine.Chunk) error) error {
		t.Error("the other one generates")
		return nil
	})
	return owner, newFixture(t, never, func(c *Config) { c.Journal = owner.journal })
}

// fed emits a text for each that is sent on the channel, until that is closed.
func fed(texts <-chan string) script {
	return func(ctx context.Context, emit func(...*engine.Chunk) error) error {
		for {
			select {
			case s, ok := <-texts:
				if !ok {
					return emit(stopped)
				}
				if err := emit(text(s)); err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// Who reads, gets, or begins again on another server has what its owner makes of it,
// live events included.
func TestInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		texts := make(chan string)
		owner, other := instances(t, fed(texts))
		req := prompt("x")
		req.IdempotencyKey = "k"
		id, s := owner.stream(t, t.Context(), req)
		ends := make(chan string, 3)
		follow := func(s eventStream) {
			got, err := read(s)
			if err != nil {
				t.Error(err)
			}
			ends <- got
		}
		go follow(s)
		texts <- "a"
		again, s := other.stream(t, t.Context(), req)
		if again != id {
			t.Errorf("by its key: %s; want %s", again, id)
		}
		go follow(s)
		texts <- "b"
		go follow(other.resume(t, t.Context(), id, 0))
		synctest.Wait()
		c, err := other.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
		if err != nil || c.GetState() != completionv1.Completion_RUNNING || c.GetText() != "ab" {
			t.Errorf("%v, %v", c, err)
		}
		texts <- "c"
		close(texts)
		for range 3 {
			if got := <-ends; got != "1:created 2:a 3:b 4:c 5:STOP" {
				t.Errorf("got %q", got)
			}
		}
	})
}

func TestCancelOnAnotherInstance(t *testing.T) {
	for _, by := range []string{"id", "key"} {
		t.Run(by, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				owner, other := instances(t, silent(begun, text("a")))
				req := prompt("x")
				req.IdempotencyKey = "k"
				id, s := owner.stream(t, t.Context(), req)
				for range 2 {
					if _, err := s.Recv(); err != nil {
						t.Fatal(err)
					}
				}
				cancel := &completionv1.CancelCompletionRequest{Id: id}
				if by == "key" {
					cancel = &completionv1.CancelCompletionRequest{IdempotencyKey: "k"}
				}
				c, err := other.client.CancelCompletion(t.Context(), cancel)
				if err != nil || c.GetState() != completionv1.Completion_CANCELLED || c.GetText() != "a" {
					t.Errorf("%v, %v", c, err)
				}
				if got, err := read(s); got != "3:CANCELLED" || err != nil {
					t.Errorf("its reader: %q, %v", got, err)
				}
			})
		})
	}
}

// The last reader is the last one on any server, and so is the one who comes back.
func TestLastReaderLeavesAnotherInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owner, other := instances(t, silent(begun, text("a")))
		req := prompt("x")
		req.DisconnectGrace = durationpb.New(10 * time.Second)
		leader, leaveLeader := context.WithCancel(t.Context())
		id, _ := owner.stream(t, leader, req)
		running := func(is bool, when string) {
			t.Helper()
			synctest.Wait()
			c, err := owner.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
			if err != nil || (c.GetState() == completionv1.Completion_RUNNING) != is {
				t.Errorf("%s: %v, %v", when, c, err)
			}
		}
		second, leaveSecond := context.WithCancel(t.Context())
		other.resume(t, second, id, 0)
		leaveLeader()
		time.Sleep(30 * time.Second)
		running(true, "with a reader elsewhere")
		leaveSecond()
		time.Sleep(9 * time.Second)
		running(true, "within the grace")
		third, leaveThird := context.WithCancel(t.Context())
		other.resume(t, third, id, 0)
		time.Sleep(30 * time.Second)
		running(true, "with one who came back elsewhere")
		leaveThird()
		time.Sleep(11 * time.Second)
		running(false, "after the grace")
	})
}

// An owner that is lost is so on all servers, and its completion ends once.
func TestOwnerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		texts := make(chan string)
		owner, other := instances(t, fed(texts), func(c *Config) { c.Journal = &failing{c.Journal, always(isBehindTwo)()} })
		id, s := owner.stream(t, t.Context(), prompt("x"))
		ends := make(chan error, 3)
		follow := func(s eventStream) {
			got, err := read(s)
			if got != "1:created 2:a" {
				t.Errorf("got %q", got)
			}
			ends <- err
		}
		go follow(s)
		texts <- "a"
		for range 2 {
			go follow(other.resume(t, t.Context(), id, 0))
		}
		synctest.Wait()
		texts <- "b"
		for range 3 {
			if err := <-ends; reason(err) != failure.OwnerLost {
				t.Error(err)
			}
		}
		if _, err := owner.journal.Follow(t.Context(), id, 3); err != nil {
			t.Errorf("the end: %v", err)
		}
		if _, err := owner.journal.Follow(t.Context(), id, 4); err != journal.ErrAhead {
			t.Errorf("behind the end: %v", err)
		}
	})
}

// gone is a journal of others' completions in a store that is gone.
type gone struct{ journal.Journal }

func (gone) Get(context.Context, string) (journal.Info, error) { return journal.Info{}, errStore }

// A store that is gone knows no completion's principal: its caller may try again, and is
// not told that there is none.
func TestStoreIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, silent(begun), func(c *Config) {
			c.Journal = gone{c.Journal}
			c.Principal = func(context.Context) string { return "alice" }
		})
		_, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: "cmpl_1"})
		if reason(err) != failure.UpstreamUnavailable {
			t.Errorf("get: %v", err)
		}
		if _, err := read(f.resume(t, t.Context(), "cmpl_1", 0)); reason(err) != failure.UpstreamUnavailable {
			t.Errorf("resume: %v", err)
		}
	})
}
