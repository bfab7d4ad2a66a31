package redis

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// TestStoreIsStartedAgain has the store be started again, empty, so soon that it does not
// count as gone, while an owner has nothing to say: who reads elsewhere, or comes
// meanwhile, is not told that the completion is lost, nor that it never was.
func TestStoreIsStartedAgain(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{Lease: 4 * time.Second}
	a, b := open(t, s, config), open(t, s, config)
	w, _ := create(t, a, "c")
	add(t, w, 1, 5)
	var there, later journal.Reader
	there, err := b.Follow(soon(t), "c", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if entries, err := there.Next(soon(t)); len(entries) != 5 || err != nil {
		t.Fatal(entries, err)
	}
	s.Kill()
	s.Start()
	eventually(t, "nobody can come back", func() bool {
		if later, err = b.Follow(soon(t), "c", 5); err != nil && !isStoreError(err) {
			t.Fatalf("one that comes back: %v", err)
		}
		if err == nil {
			return true
		}
		if _, err := b.Get(t.Context(), "c"); err != nil && !isStoreError(err) {
			t.Fatalf("get: %v", err)
		}
		return false
	})
	defer later.Close()
	end(t, w, 6)
	for _, r := range []journal.Reader{there, later} {
		if entries, err := r.Next(soon(t)); err != nil || len(entries) != 1 || entries[0].Sequence != 6 {
			t.Errorf("%v, %v", entries, err)
		}
	}
	eventually(t, "what never was is never known", func() bool {
		_, err := b.Get(t.Context(), "d")
		return errors.Is(err, journal.ErrNotFound)
	})
}

// TestStoreIsStartedAgainAndRefuses has the store come back empty, and take nothing yet:
// nobody waits for it longer than for one that is gone.
func TestStoreIsStartedAgainAndRefuses(t *testing.T) {
	s := testbed.StartRedis(t)
	a := open(t, s, Config{Patience: 300 * time.Millisecond, Lease: 2 * time.Second})
	w, _ := create(t, a, "c")
	add(t, w, 1, 1)
	run(t, a, "FLUSHALL")
	run(t, a, "CONFIG", "SET", "min-replicas-to-write", "1")
	done := make(chan struct{})
	go func() {
		defer close(done)
		add(t, w, 2, 2)
	}()
	select {
	case <-done:
	case <-soon(t).Done():
		t.Error("the owner waits")
	}
	run(t, a, "CONFIG", "SET", "min-replicas-to-write", "0")
	<-done
	end(t, w, 3)
	b := open(t, s, Config{})
	eventually(t, "the store does not get it", func() bool {
		info, err := b.Get(t.Context(), "c")
		return err == nil && info.Ended && info.Last == 3
	})
}

// TestKeyIsSafeBehindAnOutage has a store come back that has lost a key, whose owner is
// about to claim it again: nobody else gets it.
func TestKeyIsSafeBehindAnOutage(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{Patience: 200 * time.Millisecond, Lease: 2 * time.Second}
	a, b := open(t, s, config), open(t, s, config)
	w, _, err := a.Create(t.Context(), journal.Completion{ID: "c", Key: "k"}, &owner{})
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, 1, 1)
	s.Kill()
	eventually(t, "the store is there", func() bool { return !a.Available() && !b.Available() })
	w.(*writer).mu.Lock() // it takes its time
	s.Start()
	eventually(t, "the store is gone", b.Available)
	if other, _, err := b.Create(t.Context(), journal.Completion{ID: "other", Key: "k"}, &owner{}); other != nil || !isStoreError(err) {
		t.Errorf("%v, %v", other, err)
	}
	w.(*writer).mu.Unlock()
	eventually(t, "nobody finds it", func() bool {
		other, holder, err := b.Create(t.Context(), journal.Completion{ID: "other", Key: "k"}, &owner{})
		if other != nil {
			t.Fatal("created once more")
		}
		return err == nil && holder.ID == "c"
	})
	end(t, w, 2)
}

// TestKeyIsSafeBehindARestart has a store be started again, empty, so soon that it does not
// count as gone, and an owner be about to claim its key again: nobody else gets it.
func TestKeyIsSafeBehindARestart(t *testing.T) {
	t.Parallel()
	s := testbed.StartRedis(t)
	config := Config{Lease: 3 * time.Second}
	a, b := open(t, s, config), open(t, s, config)
	w, _, err := a.Create(t.Context(), journal.Completion{ID: "c", Key: "k"}, &owner{})
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, 1, 1)
	w.(*writer).mu.Lock() // it takes its time
	s.Kill()
	s.Start()
	for i := range 20 {
		if other, _, _ := b.Create(t.Context(), journal.Completion{ID: fmt.Sprint("other", i), Key: "k"}, &owner{}); other != nil {
			t.Fatalf("%d: created once more", i)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !b.Available() {
		t.Error("the store counts as gone")
	}
	w.(*writer).mu.Unlock()
	end(t, w, 2)
	eventually(t, "nobody finds it", func() bool {
		other, holder, err := b.Create(t.Context(), journal.Completion{ID: "other", Key: "k"}, &owner{})
		if other != nil {
			t.Fatal("created once more")
		}
		return err == nil && holder.ID == "c"
	})
}

// TestKeyIsLost has a store lose a key and not its completion, as a shard of a cluster does
// that is started again: the owner claims it again.
func TestKeyIsLost(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{Lease: 400 * time.Millisecond}
	a, b := open(t, s, config), open(t, s, config)
	w, _, err := a.Create(t.Context(), journal.Completion{ID: "c", Key: "k"}, &owner{})
	if err != nil {
		t.Fatal(err)
	}
	run(t, a, "DEL", a.claimKey("", "k"))
	a.outage.shake() // a connection has broken
	eventually(t, "it is not claimed", func() bool {
		_, err := b.Find(t.Context(), "", "k")
		return err == nil
	})
	end(t, w, 1)
}

// TestAllExpiresAtOnce has all keys go while no connection breaks, as when the store's clock
// jumps, and an owner have nothing to say: it writes its completion again, and nobody is
// told that it never was, once they could know.
func TestAllExpiresAtOnce(t *testing.T) {
	s := testbed.StartRedis(t)
	config := Config{Lease: 800 * time.Millisecond}
	a, b := open(t, s, config), open(t, s, config)
	w, _, err := a.Create(t.Context(), journal.Completion{ID: "c", Key: "k"}, &owner{})
	if err != nil {
		t.Fatal(err)
	}
	add(t, w, 1, 5)
	there, err := b.Follow(soon(t), "c", 5)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	done := make(chan error, 1)
	go func() {
		entries, err := there.Next(soon(t))
		if err == nil && (len(entries) != 1 || entries[0].Sequence != 6) {
			err = fmt.Errorf("%v", entries)
		}
		done <- err
	}()
	run(t, a, "FLUSHALL")
	b.rereadAll()
	eventually(t, "it is not written again", func() bool {
		info, err := b.Find(t.Context(), "", "k")
		return err == nil && info.Last == 5
	})
	end(t, w, 6)
	if err := <-done; err != nil {
		t.Errorf("one that was there: %v", err)
	}
}

// TestLongOutage has completions end while the store is gone, until they have to go here:
// they are not kept for it.
func TestLongOutage(t *testing.T) {
	s := testbed.StartRedis(t)
	a := open(t, s, Config{Patience: 200 * time.Millisecond, Lease: 400 * time.Millisecond, Retention: 400 * time.Millisecond})
	s.Kill()
	eventually(t, "the store is there", func() bool { return !a.Available() })
	for _, id := range []string{"c", "d"} {
		w, _ := create(t, a, id)
		end(t, w, 1)
	}
	if n := len(a.allWriters()); n != 2 {
		t.Errorf("%d are kept", n)
	}
	eventually(t, "they are kept for ever", func() bool { return len(a.allWriters()) == 0 })
}

// TestClaimIsWithdrawn has a store stand still while a key is claimed, whose claim it has
// got and takes in when nobody waits for it any more: the key can be used.
func TestClaimIsWithdrawn(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{Patience: time.Second, Lease: 2 * time.Second}), open(t, s, Config{})
	s.Signal(syscall.SIGSTOP)
	var all sync.WaitGroup
	for i := range 3 { // at once: it does not count as gone
		all.Go(func() {
			if w, _, err := a.Create(t.Context(), journal.Completion{ID: fmt.Sprint("c", i), Key: fmt.Sprint("k", i)}, &owner{}); w != nil || err == nil {
				t.Error(w, err)
			}
		})
	}
	all.Wait()
	s.Signal(syscall.SIGCONT)
	for i := range 3 { // what was sent comes late
		late := &writer{journal: a, Completion: journal.Completion{ID: fmt.Sprint("c", i), Key: fmt.Sprint("k", i)}, fence: "1"}
		if holder, err := b.claim(t.Context(), late); err != nil || holder.ID != late.ID {
			t.Fatal(holder, err)
		}
	}
	n := 0
	for i, j := range []*Journal{a, b} {
		eventually(t, "the key cannot be used", func() bool {
			n++
			w, _, err := j.Create(t.Context(), journal.Completion{ID: fmt.Sprint("new", n), Key: fmt.Sprint("k", i)}, &owner{})
			if w != nil {
				end(t, w, 1)
			} else if err == nil && j == a {
				t.Fatal("it stands for what its own process has withdrawn")
			}
			return w != nil && err == nil
		})
	}
	eventually(t, "what is withdrawn is kept", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.withdrawn) == 0
	})
}
