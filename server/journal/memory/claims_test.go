package memory

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// claims tells who holds the key of c, by trying to create it under id.
func claims(t *testing.T, m *Journal, c journal.Completion, id string) string {
	t.Helper()
	c.ID = id
	w, holder, err := m.Create(t.Context(), c, nobody{})
	if err != nil {
		t.Fatalf("Create: %v", err)
	}
	if (w != nil) != (holder.ID == id) {
		t.Fatalf("writer %v, holder %q, created %q", w, holder.ID, id)
	}
	return holder.ID
}

func TestKeyOutlivesTheEntries(t *testing.T) {
	c := journal.Completion{ID: "a", Principal: "p", Key: "k"}
	t.Run("expired", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := newJournal(t, Config{Retention: time.Minute})
			add(t, create(t, m, c), journal.Entry{Sequence: 1, Kind: journal.Finished})
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
			m := newJournal(t, Config{Retention: time.Minute, Bytes: 8 << 10})
			add(t, create(t, m, c), journal.Entry{Sequence: 1, Kind: journal.Finished})
			add(t, create(t, m, journal.Completion{ID: "large"}), journal.Entry{Sequence: 1, Data: make([]byte, 6<<10)}, journal.Entry{Sequence: 2, Kind: journal.Finished})
			if _, err := m.Get(t.Context(), "a"); err != journal.ErrExpired {
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
