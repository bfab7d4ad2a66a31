package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

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
