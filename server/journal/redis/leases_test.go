package redis

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// TestLeaseIsLost has the store lose a lease, and no connection break: the owner, which
// lives, is given the time to renew it.
func TestLeaseIsLost(t *testing.T) {
	t.Parallel()
	s := testbed.StartRedis(t)
	config := Config{Lease: 4 * time.Second}
	a, b, c := open(t, s, config), open(t, s, config), open(t, s, config)
	w, _ := create(t, a, "c")
	add(t, w, 1, 3)
	at, err := b.record(t.Context(), "c")
	if err != nil {
		t.Fatal(err)
	}
	if lost, err := b.isLost(t.Context(), at); lost || err != nil {
		t.Fatal(lost, err)
	}
	r, err := b.Follow(soon(t), "c", 3)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	done := make(chan error, 1)
	go func() {
		entries, err := r.Next(soon(t))
		if err == nil && entries[0].Sequence != 4 {
			err = fmt.Errorf("%v", entries)
		}
		done <- err
	}()
	for range 3 {
		run(t, a, "DEL", a.leaseKey(a.instance))
		for _, j := range []*Journal{b, c} { // of which one has never seen it
			if lost, err := j.isLost(t.Context(), at); lost || err == nil {
				t.Errorf("lost: %v, %v", lost, err)
			}
			if err := j.EndLost(t.Context(), "c", nil); err == nil {
				t.Error("it is ended")
			}
		}
		b.rereadAll()
		for _, j := range []*Journal{b, c} {
			eventually(t, "the lease is not renewed", func() bool {
				lost, err := j.isLost(t.Context(), at)
				return !lost && err == nil
			})
		}
	}
	end(t, w, 4)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestLostToWhoeverComesBack has an owner die that showed more than the store has, and a
// client come back with that from time to time: it is told, however long it waits.
func TestLostToWhoeverComesBack(t *testing.T) {
	t.Parallel()
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{Lease: time.Hour}), open(t, s, Config{Lease: time.Second})
	w, _ := create(t, a, "c")
	add(t, w, 1, 3)
	a.stop()
	run(t, b, "DEL", b.leaseKey(a.instance))
	var e journal.Entry
	err := errGone
	for range 4 {
		if e, err = follow(soon(t), b, "c", 5); !errors.Is(err, errGone) {
			break
		}
		time.Sleep(1200 * time.Millisecond)
	}
	if err != nil || e.Kind != journal.Failed {
		t.Errorf("it ends with %+v, %v", e, err)
	}
}

// TestLeaseIsOver has an owner die: who has followed it sees that as soon as the lease is
// over, and who has not, soon after.
func TestLeaseIsOver(t *testing.T) {
	now := time.Now()
	const interval = 2500 * time.Millisecond
	for _, tt := range []struct {
		renewed, missing time.Duration // ago; zero: never seen, just now
		lost             bool
	}{
		{0, 0, false},
		{0, 2 * time.Second, false},
		{0, 4 * time.Second, true},
		{3 * time.Second, 0, false},
		{8 * time.Second, 0, true},
	} {
		s := lease{missing: now.Add(-tt.missing)}
		if tt.renewed > 0 {
			s.renewal, s.renewed = "1", now.Add(-tt.renewed)
		}
		if lost := s.isLost(now, interval); lost != tt.lost {
			t.Errorf("%+v: %v", tt, lost)
		}
	}
	l := leases{seen: map[string]lease{}}
	first := l.see("a", "1", time.Hour).renewed
	time.Sleep(time.Millisecond)
	if s := l.see("a", "1", time.Hour); s.renewed != first {
		t.Error("it counts as renewed")
	}
	if s := l.see("a", "2", time.Hour); s.renewed == first {
		t.Error("a renewal does not count")
	}
	missing := l.see("a", "", time.Hour).missing
	if s := l.see("a", "", time.Hour); missing.IsZero() || s.missing != missing || len(l.inDoubt(time.Hour)) != 1 {
		t.Errorf("%+v", s)
	}
	if s := l.see("a", "3", time.Hour); !s.missing.IsZero() || len(l.inDoubt(time.Hour)) != 0 {
		t.Errorf("%+v", s)
	}
	old := now.Add(-time.Hour) // nobody has looked since
	l.seen["a"] = lease{renewal: "3", renewed: old, looked: old}
	if s := l.see("a", "", time.Second); s.isLost(s.looked, time.Second) {
		t.Error("lost by what was seen long ago")
	}
	for i := range 3 * maxLeases {
		l.see(fmt.Sprint(i), "1", 0)
	}
	if n := len(l.seen); n > maxLeases {
		t.Errorf("%d are known", n)
	}
}
