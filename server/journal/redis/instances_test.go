package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

func (o *owner) Cancel()            { o.cancels.Add(1) }
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

// TestFollowElsewhere has readers in two processes, who come at all times.
func TestFollowElsewhere(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	w, o := create(t, a, "c")
	var readers sync.WaitGroup
	const last = 2000
	for sequence := int32(1); sequence <= last; {
		for _, j := range []*Journal{a, b} {
			after := sequence - 1
			readers.Go(func() {
				if e, err := follow(soon(t), j, "c", after); err != nil || e.Sequence != last+1 {
					t.Errorf("from %d: ends with %d, %v", after, e.Sequence, err)
				}
			})
		}
		n := min(last-sequence, sequence%64)
		add(t, w, sequence, sequence+n)
		sequence += n + 1
	}
	end(t, w, last+1)
	readers.Wait()
	for _, j := range []*Journal{a, b} {
		if info, err := j.Get(t.Context(), "c"); err != nil || !info.Ended || info.Last != last+1 || info.Model != "m" {
			t.Errorf("%+v, %v", info, err)
		}
	}
	if o.cancels.Load() != 0 {
		t.Error("cancelled")
	}
}

// TestTold has the owner hear of another process.
func TestTold(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	w, o := create(t, a, "c")
	add(t, w, 1, 1)
	var open []journal.Reader
	for n := range int32(3) {
		r, err := b.Follow(soon(t), "c", 0)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r)
		eventually(t, "a reader that comes is not told", func() bool { return o.readers.Load() == n+1 })
	}
	for n, r := range open {
		r.Close()
		r.Close()
		eventually(t, "a reader that goes is not told", func() bool { return o.readers.Load() == int32(2-n) })
	}
	if err := b.Cancel(t.Context(), "c"); err != nil {
		t.Error(err)
	}
	eventually(t, "a cancel is not told", func() bool { return o.cancels.Load() > 0 })
	if err := b.EndLost(t.Context(), "c", nil); !errors.Is(err, journal.ErrFenced) {
		t.Errorf("EndLost of one that runs: %v", err)
	}
	end(t, w, 2)
}

// TestReadersOfTheDead has the readers go of a process that dies.
func TestReadersOfTheDead(t *testing.T) {
	s := testbed.StartRedis(t)
	a := open(t, s, Config{Lease: 400 * time.Millisecond})
	b := open(t, s, Config{Lease: 400 * time.Millisecond})
	w, o := create(t, a, "c")
	add(t, w, 1, 1)
	if _, err := b.Follow(soon(t), "c", 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reader is not told", func() bool { return o.readers.Load() == 1 })
	time.Sleep(time.Second)
	if n := o.readers.Load(); n != 1 {
		t.Errorf("%d readers while the process lives", n)
	}
	b.stop()
	eventually(t, "the dead process reads", func() bool { return o.readers.Load() == 0 })
	end(t, w, 2)
}

// TestReleased has an owner give up without an end: its readers elsewhere learn at once.
func TestReleased(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{Lease: time.Hour}), open(t, s, Config{Lease: time.Hour})
	w, _ := create(t, a, "c")
	add(t, w, 1, 5)
	var readers sync.WaitGroup
	for _, j := range []*Journal{a, b, b} {
		readers.Go(func() {
			if e, err := follow(soon(t), j, "c", 0); err != nil || e.Sequence != 6 || e.Kind != journal.Failed {
				t.Errorf("ends with %+v, %v", e, err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	w.Close()
	readers.Wait()
}

// TestOwnerDies has an owner die, or stop for longer than its lease: all readers get the
// same end, and what it still writes is shown to nobody.
func TestOwnerDies(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{Lease: 400 * time.Millisecond}
	b, c := open(t, s, config), open(t, s, config)
	config.Lease = time.Hour // it is not renewed in time
	a := open(t, s, config)
	var readers sync.WaitGroup
	writers := map[string]journal.Writer{}
	for i := range 50 {
		id := fmt.Sprint("c", i)
		w, _ := create(t, a, id)
		writers[id] = w
		add(t, w, 1, int32(i%7)+1)
		for _, j := range []*Journal{a, b, c} {
			readers.Go(func() {
				if e, err := follow(soon(t), j, id, 0); err != nil || e.Kind != journal.Failed || string(e.Data) != "lost" || e.Sequence != int32(i%7)+2 {
					t.Errorf("%s ends with %+v, %v", id, e, err)
				}
			})
		}
	}
	time.Sleep(100 * time.Millisecond)
	if err := a.client.Do(t.Context(), a.client.B().Del().Key(a.leaseKey(a.instance)).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for id := range writers {
		readers.Go(func() {
			for at, err := b.Get(soon(t), id); err == nil && !at.Ended; at, err = b.Get(soon(t), id) {
				time.Sleep(10 * time.Millisecond)
			}
			w := writers[id]
			e := event(w.(*writer).held.Last() + 1)
			if n, err := w.Append(context.Background(), []journal.Entry{e}); n != 0 || !errors.Is(err, journal.ErrFenced) {
				t.Errorf("%s: the old owner writes: %d, %v", id, n, err)
			}
			w.Close()
		})
	}
	readers.Wait()
}

// TestOneOfManyGetsTheKey has two processes create with one key.
func TestOneOfManyGetsTheKey(t *testing.T) {
	s := testbed.StartRedis(t)
	journals := []*Journal{open(t, s, Config{}), open(t, s, Config{})}
	var created atomic.Int32
	var winner sync.Map
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			j := journals[i%2]
			w, holder, err := j.Create(t.Context(), journal.Completion{ID: fmt.Sprint("c", i), Principal: "p", Key: "k", Request: [32]byte{7}}, &owner{})
			if err != nil || holder.Request != [32]byte{7} {
				t.Errorf("%+v, %v", holder, err)
				return
			}
			winner.Store(holder.ID, true)
			if w != nil {
				created.Add(1)
			}
			// The one that it stands for can be followed at once.
			r, err := j.Follow(soon(t), holder.ID, 0)
			if err != nil {
				t.Errorf("of the holder: %v", err)
				return
			}
			r.Close()
		})
	}
	all.Wait()
	n := 0
	winner.Range(func(any, any) bool { n++; return true })
	if created.Load() != 1 || n != 1 {
		t.Errorf("%d are created, %d are named", created.Load(), n)
	}
}

// TestStoreIsGone has the store go, for longer than anybody waits for it, and come back
// empty: the owner's readers go on, and those of others have all in the end.
func TestStoreIsGone(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{Patience: 300 * time.Millisecond, Lease: 2 * time.Second}
	a, b := open(t, s, config), open(t, s, config)
	w, _ := create(t, a, "c")
	add(t, w, 1, 10)
	var readers sync.WaitGroup
	readers.Go(func() {
		if e, err := follow(soon(t), a, "c", 0); err != nil || e.Sequence != 200 {
			t.Errorf("at the owner: ends with %d, %v", e.Sequence, err)
		}
	})
	s.Kill()
	for sequence := int32(11); sequence < 200; sequence++ {
		add(t, w, sequence, sequence)
	}
	if a.Available() {
		t.Error("the store is not gone")
	}
	if w, _, err := a.Create(soon(t), journal.Completion{ID: "k", Key: "k"}, &owner{}); w != nil || err == nil {
		t.Errorf("with a key: %v, %v", w, err)
	}
	w2, _ := create(t, a, "d")
	add(t, w2, 1, 5)
	if _, err := b.Follow(soon(t), "c", 0); err == nil {
		t.Error("read elsewhere, without a store")
	}
	s.Start()
	end(t, w, 200)
	end(t, w2, 6)
	for id, last := range map[string]int32{"c": 200, "d": 6} {
		readers.Go(func() {
			ctx := soon(t)
			for {
				e, err := follow(ctx, b, id, 0)
				if err == nil && e.Sequence == last {
					return
				}
				if ctx.Err() != nil {
					t.Errorf("%s elsewhere: ends with %d, %v", id, e.Sequence, err)
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	readers.Wait()
	eventually(t, "the store counts as gone", a.Available)
}

// TestKeysExpire looks at what is left when all processes have been killed.
func TestKeysExpire(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{Lease: 500 * time.Millisecond, Life: time.Second, Retention: 500 * time.Millisecond}
	a := open(t, s, config)
	for i := range 3 {
		w, _, err := a.Create(t.Context(), journal.Completion{ID: fmt.Sprint(i), Key: fmt.Sprint(i)}, &owner{})
		if err != nil {
			t.Fatal(err)
		}
		add(t, w, 1, int32(i)+1)
		if i == 2 {
			end(t, w, 4)
		}
	}
	a.stop()
	b := open(t, s, Config{})
	eventually(t, "keys stay for ever", func() bool {
		keys, err := b.client.Do(t.Context(), b.client.B().Keys().Pattern("*").Build()).AsStrSlice()
		return err == nil && len(keys) == 1 // b's own lease
	})
}

// TestPublishedBeforeShown has a reader that has got an event elsewhere come to the owner
// before the owner shows it.
func TestPublishedBeforeShown(t *testing.T) {
	s := testbed.StartRedis(t)
	a := open(t, s, Config{})
	writing, _ := create(t, a, "c")
	w := writing.(*writer)
	if _, err := w.held.Append(t.Context(), []journal.Entry{event(1)}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.appendBatch(t.Context(), w, []journal.Entry{event(1)}); err != nil {
		t.Fatal(err)
	}
	r, err := a.Follow(soon(t), "c", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.held.Show(1)
	w.stored = 1
	end(t, w, 2)
	if entries, err := r.Next(soon(t)); err != nil || len(entries) != 1 || entries[0].Sequence != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestAnswerIsLost has a batch be there already, the end too, when it is appended: the
// answer to the first try had been lost.
func TestAnswerIsLost(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	writing, _ := create(t, a, "c")
	w := writing.(*writer)
	last := journal.Entry{Sequence: 4, Kind: journal.Finished, Data: []byte("end")}
	for _, batch := range [][]journal.Entry{{event(1), event(2)}, {event(3), last}} {
		if answer, _, err := a.appendBatch(t.Context(), w, batch); answer != isThere || err != nil {
			t.Fatal(answer, err)
		}
		if n, err := w.Append(t.Context(), batch); n != len(batch) || err != nil {
			t.Errorf("once more: %d, %v", n, err)
		}
	}
	w.Close()
	if e, err := follow(soon(t), b, "c", 0); err != nil || e.Sequence != 4 || string(e.Data) != "end" {
		t.Errorf("ends with %+v, %v", e, err)
	}
}

// TestGap has something be lost that was published: who is behind it reads the store.
func TestGap(t *testing.T) {
	topic := &topic{followers: map[*storedReader]struct{}{}}
	publish := func(first int32, n int32) {
		var batch []journal.Entry
		for s := first; s < first+n; s++ {
			batch = append(batch, event(s))
		}
		topic.published(appendFrames(fmt.Appendf(nil, "%d ", first), batch))
	}
	publish(1, 3)
	publish(4, 2)
	publish(8, 3) // without 6 and 7
	for _, tt := range []struct {
		last, first int32 // 0: it is read from the store
		n           int
	}{{0, 0, 0}, {3, 0, 0}, {5, 0, 0}, {6, 0, 0}, {7, 8, 3}, {9, 10, 1}} {
		entries, read := topic.look(&storedReader{last: tt.last})
		if len(entries) != tt.n || read != (tt.n == 0) || tt.n > 0 && entries[0].Sequence != tt.first {
			t.Errorf("behind %d: %v, %v", tt.last, entries, read)
		}
	}
	if entries, read := topic.look(&storedReader{last: 10}); len(entries) > 0 || read {
		t.Errorf("at the end: %v, %v", entries, read)
	}
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

// TestCluster has the store be a node of a cluster, with all its slots.
func TestCluster(t *testing.T) {
	s := startCluster(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	if a.client.Mode() != rueidis.ClientModeCluster {
		t.Fatal("the client has found no cluster")
	}
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			id := fmt.Sprint("c", i)
			o := &owner{}
			w, _, err := a.Create(t.Context(), journal.Completion{ID: id, Principal: "p", Key: id}, o)
			if err != nil || w == nil {
				t.Error(w, err)
				return
			}
			add(t, w, 1, 5)
			var readers sync.WaitGroup
			defer readers.Wait()
			for _, j := range []*Journal{a, b} {
				readers.Go(func() {
					if e, err := follow(soon(t), j, id, 0); err != nil || e.Sequence != 11 {
						t.Errorf("%s ends with %d, %v", id, e.Sequence, err)
					}
				})
			}
			if info, err := b.Find(t.Context(), "p", id); info.ID != id || err != nil {
				t.Errorf("%s is found as %+v, %v", id, info, err)
			}
			if err := b.Cancel(t.Context(), id); err != nil {
				t.Error(err)
			}
			eventually(t, "a cancel is not told", func() bool { return o.cancels.Load() > 0 })
			add(t, w, 6, 10)
			end(t, w, 11)
		})
	}
	all.Wait()
}

// TestCloseWhileStoreHangs has the journal be closed, with readers and completions, while
// the store answers nothing.
func TestCloseWhileStoreHangs(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{URL: s.URL, Patience: 500 * time.Millisecond}
	a, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	var writers []journal.Writer
	var readers []journal.Reader
	for i := range 20 {
		w, _ := create(t, a, fmt.Sprint("c", i))
		add(t, w, 1, 2)
		r, err := b.Follow(soon(t), fmt.Sprint("c", i), 0)
		if err != nil {
			t.Fatal(err)
		}
		writers, readers = append(writers, w), append(readers, r)
	}
	s.Signal(syscall.SIGSTOP)
	began := time.Now()
	var all sync.WaitGroup
	for _, w := range writers {
		all.Go(func() { end(t, w, 3) })
	}
	for _, r := range readers {
		all.Go(r.Close)
	}
	all.Wait()
	a.Close()
	b.Close()
	took := time.Since(began)
	s.Signal(syscall.SIGCONT)
	if took > 10*time.Second {
		t.Errorf("it takes %v", took)
	}
	t.Log(took)
}
