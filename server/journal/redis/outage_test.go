package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

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

// TestStoreRefusesWrites has a store that is read from, and takes nothing: it counts as gone.
func TestStoreRefusesWrites(t *testing.T) {
	s := testbed.StartRedis(t)
	for name, refusing := range map[string][2][]string{
		"OOM":        {{"CONFIG", "SET", "maxmemory", "1"}, {"CONFIG", "SET", "maxmemory", "0"}},
		"NOREPLICAS": {{"CONFIG", "SET", "min-replicas-to-write", "1"}, {"CONFIG", "SET", "min-replicas-to-write", "0"}},
		"NOPERM":     {{"ACL", "SETUSER", "default", "-@write", "-@scripting"}, {"ACL", "SETUSER", "default", "+@all"}},
		"READONLY":   {{"REPLICAOF", "127.0.0.1", "1"}, {"REPLICAOF", "NO", "ONE"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t, s, Config{Patience: 300 * time.Millisecond, Lease: 2 * time.Second, Prefix: name})
			w, _ := create(t, a, "c")
			create(t, a, "d")
			add(t, w, 1, 1)
			run(t, a, refusing[0]...)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				for ctx.Err() == nil { // somebody reads all the time
					_, _ = a.record(ctx, "d")
					time.Sleep(10 * time.Millisecond)
				}
			}()
			limited, stop := context.WithTimeout(t.Context(), 5*time.Second)
			defer stop()
			if n, err := w.Append(limited, []journal.Entry{event(2)}); n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			if a.Available() {
				t.Error("the store counts as there")
			}
			run(t, a, refusing[1]...)
			end(t, w, 3)
			b := open(t, s, Config{Prefix: name})
			eventually(t, "the store does not get it", func() bool {
				info, err := b.Get(t.Context(), "c")
				return err == nil && info.Ended && info.Last == 3
			})
		})
	}
}

// TestStoreForgets has the store lose the last events of a completion, as one that fails
// over to a replica does, and the owner die: those who have read them are told.
func TestStoreForgets(t *testing.T) {
	s := testbed.StartRedis(t)
	for _, kept := range []int{9, 8, 5} {
		t.Run(fmt.Sprint(kept), func(t *testing.T) {
			config := Config{Prefix: fmt.Sprint("forgets", kept), Lease: 400 * time.Millisecond}
			b := open(t, s, config)
			config.Lease = time.Hour
			a := open(t, s, config)
			w, _ := create(t, a, "c")
			for sequence := int32(1); sequence <= 10; sequence++ {
				add(t, w, sequence, sequence)
			}
			r, err := b.Follow(soon(t), "c", 10)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for sequence := kept + 1; sequence <= 10; sequence++ {
				run(t, a, "XDEL", a.streamKey("c"), fmt.Sprint(sequence, "-0"))
			}
			run(t, a, "XSETID", a.streamKey("c"), fmt.Sprint(kept, "-0"))
			run(t, a, "HSET", a.hashKey("c"), "last", fmt.Sprint(kept))
			run(t, a, "DEL", a.leaseKey(a.instance))
			isLost := func(what string, r journal.Reader) {
				entries, err := r.Next(soon(t))
				if errors.Is(err, journal.ErrOwnerLost) {
					if err := b.EndLost(soon(t), "c", []byte("lost")); err != nil {
						t.Error(err)
					}
					entries, err = r.Next(soon(t))
				}
				if err != nil || len(entries) != 1 || entries[0].Kind != journal.Failed {
					t.Errorf("%s gets %v, %v", what, entries, err)
				}
			}
			isLost("a reader", r)
			back, err := b.Follow(soon(t), "c", 10)
			if err != nil {
				t.Fatal(err)
			}
			defer back.Close()
			isLost("one that comes back", back)
		})
	}
}

// TestKeyIsTakenMeanwhile has the store lose all, and another process use the key of a
// completion that runs, before its owner notices: both are there.
func TestKeyIsTakenMeanwhile(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	for i := range 20 {
		id, key := fmt.Sprint("c", i), fmt.Sprint("k", i)
		w, _, err := a.Create(t.Context(), journal.Completion{ID: id, Key: key}, &owner{})
		if err != nil {
			t.Fatal(err)
		}
		add(t, w, 1, 3)
		run(t, a, "DEL", a.hashKey(id), a.streamKey(id), a.claimKey("", key))
		other, _, err := b.Create(t.Context(), journal.Completion{ID: "other" + id, Key: key}, &owner{})
		if err != nil || other == nil {
			t.Fatal(other, err)
		}
		add(t, w, 4, 5)
		time.Sleep(5 * time.Millisecond)
		if e, err := b.Get(t.Context(), id); err != nil || e.Last != 5 {
			t.Errorf("%s: %+v, %v", id, e, err)
		}
		end(t, w, 6)
		end(t, other, 1)
		if e, err := follow(soon(t), b, id, 0); err != nil || e.Sequence != 6 {
			t.Errorf("%s: %+v, %v", id, e, err)
		}
	}
}

// TestLeasesAreOverInAnOutage has the store be gone for longer than a lease, and come back
// as it was: an owner has time to renew its lease.
func TestLeasesAreOverInAnOutage(t *testing.T) {
	s := testbed.StartRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	config := Config{Patience: 200 * time.Millisecond, Lease: time.Second}
	b := open(t, s, config)
	config.Lease = 4 * time.Second // it does not renew it at once
	a := open(t, s, config)
	w, _ := create(t, a, "c")
	add(t, w, 1, 5)
	s.Kill()
	eventually(t, "the store is there", func() bool { return !b.Available() })
	s.Start()
	eventually(t, "the store is gone", b.Available)
	eventually(t, "not all connections come back", func() bool {
		return b.client.Do(t.Context(), b.client.B().Del().Key(b.leaseKey(a.instance)).Build()).Error() == nil
	})
	at, err := b.record(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if lost, _ := b.isLost(t.Context(), at); lost {
		t.Error("the owner is lost at once")
	}
	a.stop()
	eventually(t, "the owner is never lost", func() bool {
		lost, err := b.isLost(t.Context(), at)
		return lost && err == nil
	})
}

// TestStreamIsLost has the store lose the entries of a completion, and nothing else: nobody
// is shown what follows without them, and what follows expires, too.
func TestStreamIsLost(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	w, _ := create(t, a, "c")
	for sequence := int32(1); sequence <= 5; sequence++ {
		add(t, w, sequence, sequence)
	}
	run(t, a, "DEL", a.streamKey("c"))
	add(t, w, 6, 6)
	if ttl, err := b.client.Do(t.Context(), b.client.B().Pttl().Key(b.streamKey("c")).Build()).AsInt64(); err != nil || ttl <= 0 {
		t.Errorf("the stream lives for %d ms, %v", ttl, err)
	}
	end(t, w, 7)
	if e, err := follow(soon(t), b, "c", 0); err != nil || e.Sequence != 7 {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestUserMayNot has the store's user lack a right: it is known when the process starts.
func TestUserMayNot(t *testing.T) {
	s := testbed.StartRedis(t)
	admin := connect(t, s)
	for _, tt := range []struct {
		rights string
		want   string // in the error; empty: they are enough
	}{
		{rightsInDocs(t), ""},
		{"~sluice:* +@all", "can't publish"},
		{"&sluice:* +@all", "NOPERM"},
		{"~sluice:* &sluice:* +@all -eval -evalsha", "NOPERM"},
		{"~sluice:* &sluice:* +@all -subscribe", "NOPERM"},
	} {
		rights := append([]string{"SETUSER", "sluice", "reset", "on", ">secret"}, strings.Fields(tt.rights)...)
		if err := admin.Do(t.Context(), admin.B().Arbitrary("ACL").Args(rights...).Build()).Error(); err != nil {
			t.Fatal(err)
		}
		j, err := New(Config{URL: "redis://sluice:secret@" + s.Addr, Patience: 500 * time.Millisecond})
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%s: %v", tt.rights, err)
		}
		if j == nil {
			continue
		}
		w, _ := create(t, j, "c")
		add(t, w, 1, 2)
		end(t, w, 3)
		j.Close()
	}
}

// TestStreamLacksItsEnd has the store lose the last entries of what has ended: nobody waits
// for them, nor takes the rest for the whole.
func TestStreamLacksItsEnd(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	w, _ := create(t, a, "c")
	add(t, w, 1, 1)
	end(t, w, 2)
	run(t, a, "XDEL", a.streamKey("c"), "2-0")
	for name, open := range map[string]func(context.Context, string, int32) (journal.Reader, error){"read": b.Read, "follow": b.Follow} {
		r, err := open(soon(t), "c", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if entries, err := r.Next(soon(t)); len(entries) != 1 || err != nil {
			t.Errorf("%s: %v, %v", name, entries, err)
		}
		if entries, err := r.Next(soon(t)); len(entries) > 0 || !errors.Is(err, journal.ErrExpired) {
			t.Errorf("%s: behind the last: %v, %v", name, entries, err)
		}
	}
}
