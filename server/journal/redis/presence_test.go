package redis

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// TestReadersOfTheDead has the readers go of a process that dies.
func TestReadersOfTheDead(t *testing.T) {
	s := testbed.StartRedis(t)
	a := open(t, s, Config{Lease: 400 * time.Millisecond})
	b := open(t, s, Config{Lease: 400 * time.Millisecond})
	w, o := create(t, a, "c")
	add(t, w, 1, 1)
	followElsewhere(t, b, "c", o)
	time.Sleep(time.Second)
	if n := o.readers.Load(); n != 1 {
		t.Errorf("%d readers while the process lives", n)
	}
	b.stop()
	eventually(t, "the dead process reads", func() bool { return o.readers.Load() == 0 })
	end(t, w, 2)
}

// TestReaderGivesUp has a reader give up while it comes: the connection on which all others
// are told stays.
func TestReaderGivesUp(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	create(t, a, "c")
	connection := func() any {
		b.subscription.mu.Lock()
		defer b.subscription.mu.Unlock()
		return b.subscription.client
	}
	eventually(t, "there is no subscription", func() bool { return connection() != nil })
	before := connection()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := b.Follow(gone, "c", 0); err == nil {
		r.Close()
	}
	if connection() != before {
		t.Error("the subscription is given up")
	}
}

// TestManyReadersElsewhere has so many completions be followed that it takes longer than a
// lease to tell their owners so.
func TestManyReadersElsewhere(t *testing.T) {
	s := testbed.StartRedis(t)
	b := open(t, s, Config{Lease: 300 * time.Millisecond})
	a := open(t, s, Config{Lease: 300 * time.Millisecond})
	a.mu.Lock()
	for i := range 20_000 {
		id := fmt.Sprint("t", i)
		a.topics[id] = &topic{id: id, followers: map[*storedReader]struct{}{}, owner: "x"}
	}
	a.mu.Unlock()
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
		if alive, _, err := b.lookAt(t.Context(), a.instance); err != nil || !alive {
			t.Fatal("the lease is over", err)
		}
	}
}

// TestReadersComeAndGo has the last news of readers that come and go at once be the last
// that the owner gets.
func TestReadersComeAndGo(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{Lease: time.Hour}), open(t, s, Config{Lease: time.Hour})
	w, o := create(t, a, "c")
	add(t, w, 1, 1)
	for i := range 200 {
		first, err := b.Follow(soon(t), "c", 0)
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		all.Go(first.Close)
		readers := make(chan journal.Reader, 4)
		for range cap(readers) {
			all.Go(func() {
				r, err := b.Follow(soon(t), "c", 0)
				if err != nil {
					t.Error(err)
					return
				}
				readers <- r
			})
		}
		all.Wait()
		eventually(t, "the owner does not know of all readers", func() bool { return o.readers.Load() == int32(cap(readers)) })
		time.Sleep(time.Millisecond) // nor does anything come behind that
		if n := o.readers.Load(); n != int32(cap(readers)) {
			t.Fatalf("%d: the owner knows of %d readers", i, n)
		}
		for range cap(readers) {
			(<-readers).Close()
		}
	}
}

// TestNewsOvertake has news of readers come late: the latest counts.
func TestNewsOvertake(t *testing.T) {
	o := &owner{}
	w := &writer{owner: o, others: map[string]presence{}}
	for _, tt := range []struct {
		readers int
		number  int64
		want    int32
	}{{2, 1, 2}, {0, 3, 0}, {1, 2, 0}, {3, 5, 3}, {0, 4, 3}} {
		w.setReaders("b", tt.readers, tt.number)
		if n := o.readers.Load(); n != tt.want {
			t.Errorf("%d readers by the news %d: the owner has %d, want %d", tt.readers, tt.number, n, tt.want)
		}
	}
}

// TestToldOfMany has others take many completions for this process's, while the store hangs:
// they are looked at one after the other, and no more of them are kept than are bounded.
func TestToldOfMany(t *testing.T) {
	s := testbed.StartRedis(t)
	a := open(t, s, Config{Patience: 10 * time.Second})
	b := open(t, s, Config{})
	w, _ := create(t, b, "c")
	add(t, w, 1, 1)
	run(t, a, "HSET", a.hashKey("c"), "owner", a.instance) // and a has it not
	s.Signal(syscall.SIGSTOP)
	a.told("readers 1 1 x c")
	before := runtime.NumGoroutine()
	for i := range 2 * maxDisowned {
		a.told(fmt.Sprint("readers 1 1 x d", i))
	}
	n := runtime.NumGoroutine() - before
	a.mu.Lock()
	kept := len(a.disowned)
	a.mu.Unlock()
	s.Signal(syscall.SIGCONT)
	if n > 100 || kept > maxDisowned {
		t.Errorf("%d goroutines, %d are kept", n, kept)
	}
	eventually(t, "it is not given up", func() bool {
		at, err := b.record(t.Context(), "c")
		return err == nil && at.owner == ""
	})
	eventually(t, "they are kept for ever", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.disowned) == 0
	})
}

// TestReadersInAnOutage has the store be gone for longer than an owner otherwise waits to
// hear of readers: they are still there when it is back.
func TestReadersInAnOutage(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{Patience: 200 * time.Millisecond, Lease: 2 * time.Second}
	a, b := open(t, s, config), open(t, s, config)
	w, o := create(t, a, "c")
	add(t, w, 1, 1)
	followElsewhere(t, b, "c", o)
	s.Kill()
	for until := time.Now().Add(config.Lease * 5 / 4); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		if o.readers.Load() != 1 {
			t.Fatal("the reader is gone")
		}
	}
	s.Start()
	end(t, w, 2)
}

// TestReadersOfAnOwnerThatHearsNothing has an owner not be told anything for longer than it
// otherwise waits to hear of readers, and the store be there: they are still there.
func TestReadersOfAnOwnerThatHearsNothing(t *testing.T) {
	t.Parallel()
	s := testbed.StartRedis(t)
	config := Config{Lease: 2 * time.Second}
	a, b := open(t, s, config), open(t, s, config)
	w, o := create(t, a, "c")
	add(t, w, 1, 1)
	followElsewhere(t, b, "c", o)
	stays := func(when string) {
		t.Helper()
		for until := time.Now().Add(config.Lease * 3 / 2); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
			if o.readers.Load() != 1 {
				t.Fatal("the reader is gone ", when)
			}
		}
	}
	run(t, b, "ACL", "SETUSER", "default", "-subscribe")
	run(t, b, "CLIENT", "KILL", "TYPE", "pubsub")
	stays("while nothing is heard")
	run(t, b, "ACL", "SETUSER", "default", "+subscribe")
	stays("since it is heard again")
	b.stop()
	eventually(t, "the reader is there for ever", func() bool { return o.readers.Load() == 0 })
	end(t, w, 2)
}

// TestManyCancelsElsewhere has many completions of another process be cancelled, and its
// store be far away: to say so again does not take so long that its readers count as gone.
func TestManyCancelsElsewhere(t *testing.T) {
	s := testbed.StartRedis(t)
	way, far := farFrom(t, s)
	a := open(t, s, Config{Lease: time.Hour})
	b := open(t, way, Config{Lease: time.Hour})
	const many = 1000
	_, last := create(t, a, "last")
	b.mu.Lock()
	for i := range many {
		b.cancels[fmt.Sprint("c", i)] = cancel{owner: a.instance, since: time.Now()}
	}
	b.cancels["last"] = cancel{owner: a.instance, since: time.Now()}
	b.cancels["own"] = cancel{owner: b.instance, since: time.Now()}
	b.cancels["old"] = cancel{owner: a.instance, since: time.Now().Add(-5 * time.Hour)}
	b.mu.Unlock()
	far.Store(true)
	began := time.Now()
	b.repeat()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it takes %v", took)
	}
	eventually(t, "it is not cancelled", func() bool { return last.cancels.Load() == 1 })
	if n := len(b.cancels); n != many+2 {
		t.Errorf("%d are cancelled", n)
	}
}
