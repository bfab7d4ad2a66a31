package journal

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// claims tells who holds the key of c, by trying to create it under id.
func claims(t *testing.T, m *Memory, c Completion, id string) string {
	t.Helper()
	c.ID = id
	w, holder, err := m.Create(t.Context(), c)
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if (w != nil) != (holder.ID == id) {
		t.Fatalf("writer %v, holder %q, created %q", w, holder.ID, id)
	}
	return holder.ID
}

func TestKeys(t *testing.T) {
	m := newMemory(t, MemoryConfig{})
	first := Completion{ID: "a", Principal: "p", Key: "k", Request: [32]byte{1}, Model: "m"}
	create(t, m, first)
	if w, holder, err := m.Create(t.Context(), Completion{ID: "b", Principal: "p", Key: "k"}); w != nil || holder != first || err != nil {
		t.Errorf("Create with a key in use = %v, %+v, %v; want the holder", w, holder, err)
	}
	if m.Len() != 1 {
		t.Errorf("%d completions; want 1", m.Len())
	}
	tests := []struct{ name, principal, key, want string }{
		{"same", "p", "k", "a"},
		{"other principal", "q", "k", "other principal"},
		{"other principal again", "q", "k", "other principal"},
		{"other key", "p", "l", "other key"},
		{"no principal", "", "k", "no principal"},
		{"halves swapped", "k", "p", "halves swapped"},
		{"no key", "p", "", "no key"},
		{"no key again", "p", "", "no key again"},
	}
	for _, tt := range tests {
		if got := claims(t, m, Completion{Principal: tt.principal, Key: tt.key}, tt.name); got != tt.want {
			t.Errorf("%s: held by %q; want %q", tt.name, got, tt.want)
		}
	}
}

func TestKeyOutlivesTheEntries(t *testing.T) {
	c := Completion{ID: "a", Principal: "p", Key: "k"}
	t.Run("expired", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, MemoryConfig{Retention: time.Minute})
			add(t, create(t, m, c), Entry{1, Finished, nil})
			time.Sleep(2*time.Minute - 1)
			if got := claims(t, m, c, "b"); got != "a" {
				t.Errorf("held by %q before the second retention is over", got)
			}
			time.Sleep(time.Nanosecond)
			if got := claims(t, m, c, "c"); got != "c" {
				t.Errorf("held by %q after the second retention", got)
			}
		})
	})
	t.Run("evicted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newMemory(t, MemoryConfig{Retention: time.Minute, Bytes: 8 << 10})
			add(t, create(t, m, c), Entry{1, Finished, nil})
			add(t, create(t, m, Completion{ID: "large"}), Entry{1, Event, make([]byte, 6<<10)}, Entry{2, Finished, nil})
			if _, err := m.Get(t.Context(), "a"); err != ErrExpired {
				t.Fatalf("Get: %v; want it evicted", err)
			}
			time.Sleep(time.Minute - 1)
			if got := claims(t, m, c, "b"); got != "a" {
				t.Errorf("held by %q before the retention from the eviction is over", got)
			}
			time.Sleep(time.Nanosecond)
			if got := claims(t, m, c, "c"); got != "c" {
				t.Errorf("held by %q after it", got)
			}
		})
	})
}

func TestOneOfManyGetsTheKey(t *testing.T) {
	m := newMemory(t, MemoryConfig{})
	var created atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			w, _, err := m.Create(t.Context(), Completion{ID: string(rune('A' + i)), Key: "k"})
			if err != nil {
				t.Error(err)
			}
			if w != nil {
				created.Add(1)
			}
		})
	}
	wg.Wait()
	if created.Load() != 1 || m.Len() != 1 {
		t.Errorf("%d of 50 created one, %d are known; want 1", created.Load(), m.Len())
	}
}

// TestFind looks a key up in all states that its completion can be in.
func TestFind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory(t, MemoryConfig{Retention: time.Minute})
		c := Completion{ID: "a", Principal: "p", Key: "k", Model: "m"}
		create(t, m, Completion{ID: "no key", Principal: "p"})
		find := func(when string, want Info, wantErr error) {
			t.Helper()
			if got, err := m.Find(t.Context(), "p", "k"); got != want || err != wantErr {
				t.Errorf("%s: got %+v, %v; want %+v, %v", when, got, err, want, wantErr)
			}
			for _, other := range [][2]string{{"q", "k"}, {"", "k"}, {"p", "l"}, {"p", ""}, {"k", "p"}, {"pk", ""}} {
				if got, err := m.Find(t.Context(), other[0], other[1]); got != (Info{}) || err != ErrNotFound {
					t.Errorf("%s: %q has %+v, %v", when, other, got, err)
				}
			}
		}
		find("before", Info{}, ErrNotFound)
		w := create(t, m, c)
		find("begun", Info{Completion: c}, nil)
		add(t, w, Entry{Sequence: 1})
		find("running", Info{Completion: c, Last: 1}, nil)
		add(t, w, Entry{2, Finished, nil})
		find("ended", Info{Completion: c, Last: 2, Ended: true}, nil)
		time.Sleep(time.Minute)
		find("expired", Info{Completion: c, Last: 2, Ended: true}, ErrExpired)
		time.Sleep(time.Minute)
		find("forgotten", Info{}, ErrNotFound)
	})
}
