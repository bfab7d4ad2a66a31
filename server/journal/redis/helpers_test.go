package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// patience is how long a test waits for what must happen soon.
const patience = 20 * time.Second

// owner is one that notes what it is told.
type owner struct{ cancels, readers atomic.Int32 }

func (o *owner) Cancel() { o.cancels.Add(1) }

func (o *owner) Readers(change int) { o.readers.Add(int32(change)) }

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal(what)
		}
	}
}

// create begins a completion.
func create(t testing.TB, j *Journal, id string) (journal.Writer, *owner) {
	t.Helper()
	o := &owner{}
	w, _, err := j.Create(t.Context(), journal.Completion{ID: id, Model: "m", CreateTime: time.Now()}, o)
	if err != nil || w == nil {
		t.Fatal(w, err)
	}
	return w, o
}

// followElsewhere has a reader follow a completion at a process that does not own it, until
// the test ends, and the owner know.
func followElsewhere(t testing.TB, j *Journal, id string, o *owner) {
	t.Helper()
	r, err := j.Follow(soon(t), id, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	eventually(t, "the reader is not told", func() bool { return o.readers.Load() == 1 })
}

// event is the event with a sequence.
func event(s int32) journal.Entry {
	return journal.Entry{Sequence: s, Data: bytes.Repeat([]byte{byte(s), byte(s >> 8)}, int(s%50))}
}

// add appends the events from first to last, in one batch.
func add(t testing.TB, w journal.Writer, first, last int32) {
	t.Helper()
	var batch []journal.Entry
	for s := first; s <= last; s++ {
		batch = append(batch, event(s))
	}
	if n, err := w.Append(t.Context(), batch); n != len(batch) || err != nil {
		t.Fatalf("append %d to %d: %d, %v", first, last, n, err)
	}
}

// end appends the end.
func end(t testing.TB, w journal.Writer, s int32) {
	t.Helper()
	if _, err := w.Append(t.Context(), []journal.Entry{{Sequence: s, Kind: journal.Finished, Data: []byte("end")}}); err != nil {
		t.Fatal(err)
	}
	w.Close()
}

// follow reads a completion from behind a sequence to its end, or to an error, and checks
// that its events are the ones that event has. When an owner is lost, it ends the
// completion, as the server does.
func follow(ctx context.Context, j *Journal, id string, after int32) (end journal.Entry, err error) {
	r, err := j.Follow(ctx, id, after)
	if err != nil {
		return journal.Entry{}, err
	}
	defer r.Close()
	for lost := false; ; {
		entries, err := r.Next(ctx)
		if errors.Is(err, journal.ErrOwnerLost) && !lost {
			lost = true
			if err := j.EndLost(ctx, id, []byte("lost")); err != nil && !errors.Is(err, journal.ErrFenced) {
				return journal.Entry{}, fmt.Errorf("EndLost: %w", err)
			}
			continue
		}
		if err != nil {
			return journal.Entry{}, err
		}
		for _, e := range entries {
			after++
			if e.Kind != journal.Event {
				_, err := r.Next(ctx)
				if err != io.EOF {
					return e, fmt.Errorf("behind the end: %w", err)
				}
				return e, nil
			}
			if want := event(after); e.Sequence != after || !bytes.Equal(e.Data, want.Data) {
				return e, fmt.Errorf("entry %d with %d bytes; want %d with %d", e.Sequence, len(e.Data), after, len(want.Data))
			}
		}
	}
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// startCluster starts a node of a cluster, with all its slots.
func startCluster(t *testing.T) *testbed.Redis {
	t.Helper()
	s := testbed.StartRedis(t, "--cluster-enabled", "yes")
	node := connect(t, s)
	if err := node.Do(t.Context(), node.B().ClusterAddslotsrange().StartSlotEndSlot().StartSlotEndSlot(0, 16383).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster is not well", func() bool {
		info, err := node.Do(t.Context(), node.B().ClusterInfo().Build()).ToString()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	return s
}

// connect returns a client of one store, whatever that is part of.
func connect(t *testing.T, s *testbed.Redis) rueidis.Client {
	t.Helper()
	node, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	return node
}

// run runs a command on the journal's store.
func run(t testing.TB, j *Journal, args ...string) {
	t.Helper()
	if err := j.client.Do(t.Context(), j.client.B().Arbitrary(args...).Build()).Error(); err != nil {
		t.Fatal(args, err)
	}
}
