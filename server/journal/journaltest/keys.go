package journaltest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

func testKeys(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	first := journal.Completion{ID: "a", Principal: "p", Key: "k", Request: [32]byte{1}, Model: "m"}
	create(t, j, first)
	for _, tt := range []struct{ name, principal, key, want string }{
		{"same", "p", "k", "a"},
		{"other principal", "q", "k", "other principal"},
		{"other principal again", "q", "k", "other principal"},
		{"other key", "p", "l", "other key"},
		{"no principal", "", "k", "no principal"},
		{"halves swapped", "k", "p", "halves swapped"},
		{"no key", "p", "", "no key"},
		{"no key again", "p", "", "no key again"},
	} {
		w, holder, err := j.Create(t.Context(), journal.Completion{ID: tt.name, Principal: tt.principal, Key: tt.key}, &owner{})
		if err != nil || holder.ID != tt.want || (w != nil) != (tt.want == tt.name) || tt.want == "a" && holder != first {
			t.Errorf("%s: %v, %+v, %v; want %q", tt.name, w, holder, err, tt.want)
		}
		if _, err := j.Get(t.Context(), tt.name); (err == nil) != (w != nil) {
			t.Errorf("%s: created: %v, and Get says %v", tt.name, w != nil, err)
		}
	}
}

func testOneOfManyGetsTheKey(t *testing.T, s Subject) {
	j := s.Open(t, Limits{})
	var created atomic.Int32
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			w, _, err := j.Create(t.Context(), journal.Completion{ID: fmt.Sprint(i), Key: "k"}, &owner{})
			if err != nil {
				t.Error(err)
			}
			if w != nil {
				created.Add(1)
			}
		})
	}
	all.Wait()
	known := 0
	for i := range 50 {
		if _, err := j.Get(t.Context(), fmt.Sprint(i)); err == nil {
			known++
		}
	}
	if n := created.Load(); n != 1 || known != 1 {
		t.Errorf("%d of 50 created one, %d are known; want 1", n, known)
	}
}

// testFind looks a key up in all states that its completion can be in.
func testFind(t *testing.T, s Subject) {
	s.InTime(t, func(t *testing.T) {
		j := s.Open(t, Limits{Retention: s.Minute})
		c := journal.Completion{ID: "a", Principal: "p", Key: "k", Model: "m"}
		create(t, j, journal.Completion{ID: "no key", Principal: "p"})
		find := func(when string, want journal.Info, wantErr error) {
			t.Helper()
			if got, err := j.Find(t.Context(), "p", "k"); got != want || err != wantErr {
				t.Errorf("%s: got %+v, %v; want %+v, %v", when, got, err, want, wantErr)
			}
			for _, other := range [][2]string{{"q", "k"}, {"", "k"}, {"p", "l"}, {"p", ""}, {"k", "p"}, {"pk", ""}} {
				if got, err := j.Find(t.Context(), other[0], other[1]); got != (journal.Info{}) || err != journal.ErrNotFound {
					t.Errorf("%s: %q has %+v, %v", when, other, got, err)
				}
			}
		}
		find("before", journal.Info{}, journal.ErrNotFound)
		w := create(t, j, c)
		find("begun", journal.Info{Completion: c}, nil)
		add(t, w, journal.Entry{Sequence: 1})
		find("running", journal.Info{Completion: c, Last: 1}, nil)
		add(t, w, journal.Entry{Sequence: 2, Kind: journal.Finished})
		find("ended", journal.Info{Completion: c, Last: 2, Ended: true}, nil)
		time.Sleep(s.Minute * 5 / 4)
		find("expired", journal.Info{Completion: c, Last: 2, Ended: true}, journal.ErrExpired)
		time.Sleep(s.Minute * 5 / 4)
		find("forgotten", journal.Info{}, journal.ErrNotFound)
	})
}
