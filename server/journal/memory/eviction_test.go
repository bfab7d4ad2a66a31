package memory

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/server/journal"
)

func TestEvictionOrder(t *testing.T) {
	m := newJournal(t, Config{Bytes: 64 << 10})
	// They end in another order than they began.
	ids := []string{"c", "a", "d", "b"}
	writers := map[string]journal.Writer{}
	for _, id := range []string{"a", "b", "c", "d"} {
		writers[id] = create(t, m, journal.Completion{ID: id})
		add(t, writers[id], journal.Entry{Sequence: 1, Data: make([]byte, 8<<10)})
	}
	running := create(t, m, journal.Completion{ID: "running"})
	add(t, running, journal.Entry{Sequence: 1, Data: make([]byte, 8<<10)})
	for _, id := range ids {
		add(t, writers[id], journal.Entry{Sequence: 2, Kind: journal.Finished})
	}
	evicted := 0
	for i := 0; evicted < len(ids); i++ {
		add(t, create(t, m, journal.Completion{ID: fmt.Sprint(i)}), journal.Entry{Sequence: 1, Data: make([]byte, 4<<10)})
		for evicted < len(ids) {
			if _, err := m.Get(t.Context(), ids[evicted]); err == nil {
				break
			}
			evicted++
		}
		for _, id := range append(ids[evicted:], "running", fmt.Sprint(i)) {
			expect(t, m, id, nil)
		}
		for _, id := range ids[:evicted] {
			expect(t, m, id, journal.ErrExpired)
		}
		audit(t, m)
	}
	got, _ := available(open(t, m, "running", 0))
	same(t, got, []journal.Entry{{Sequence: 1, Data: make([]byte, 8<<10)}})
}

// TestNothingIsForgottenBeforeEntriesGo: to pay twice is worse than to be late.
func TestNothingIsForgottenBeforeEntriesGo(t *testing.T) {
	m := newJournal(t, Config{Bytes: 32 << 10})
	for i := range 20 {
		complete(t, m, fmt.Sprint(i), 10)
	}
	known := m.Len()
	add(t, create(t, m, journal.Completion{ID: "large"}), journal.Entry{Sequence: 1, Data: make([]byte, 20<<10)})
	if m.Len() != known+1 {
		t.Errorf("%d known of %d", m.Len()-1, known)
	}
	for i := range known {
		if _, err := m.Get(t.Context(), fmt.Sprint(i)); err == journal.ErrNotFound {
			t.Errorf("%d is forgotten", i)
		}
	}
}

// TestTombstonesAreBounded: what is remembered of those that are gone must make
// room too.
func TestTombstonesAreBounded(t *testing.T) {
	m := newJournal(t, Config{Bytes: 64 << 10})
	for i := range 2000 {
		c := journal.Completion{ID: fmt.Sprint(i), Principal: "p", Key: fmt.Sprint("k", i)}
		add(t, create(t, m, c), journal.Entry{Sequence: 1, Kind: journal.Failed})
	}
	audit(t, m)
	if n := m.Len(); n > 64<<10/goneCost || len(m.keys) != n {
		t.Errorf("%d known, %d keys, in 64 KiB", n, len(m.keys))
	}
}

// TestTombstonesCountWhatTheyTake: a client chooses its keys and its model, so
// that long ones must not be a way to more memory than the bound.
func TestTombstonesCountWhatTheyTake(t *testing.T) {
	const n = 15_000 // maps are at their emptiest
	for _, size := range []int{0, 32, 255} {
		before := heap()
		m := newJournal(t, Config{})
		for i := range n {
			c := journal.Completion{ID: fmt.Sprintf("cmpl_%026d", i), Principal: "p", Model: strings.Repeat("m", size)}
			if size > 0 {
				c.Key = fmt.Sprintf("%0*d", size, i)
			}
			add(t, create(t, m, c), journal.Entry{Sequence: 1, Kind: journal.Finished})
		}
		m.mu.Lock()
		for len(m.ended) > 0 {
			m.dropFirst()
		}
		m.mu.Unlock()
		grown := heap() - before
		t.Logf("names of %d bytes: %d bytes each, %d counted", size, grown/n, m.Bytes()/n)
		if grown > m.Bytes() {
			t.Errorf("names of %d bytes: %d bytes in all, %d counted", size, grown, m.Bytes())
		}
	}
}
