package memory

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// expect checks what Get and Read say of a completion.
func expect(t *testing.T, m *Journal, id string, want error) {
	t.Helper()
	info, err := m.Get(t.Context(), id)
	if err != want || (info.ID == id) != (want != journal.ErrNotFound) {
		t.Errorf("Get(%q) = %+v, %v; want %v", id, info, err, want)
	}
	r, err := m.Follow(t.Context(), id, 0)
	if err != want {
		t.Errorf("Read(%q): %v; want %v", id, err, want)
	}
	if err == nil {
		r.Close()
	}
}

func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newJournal(t, Config{Retention: time.Minute})
		running := create(t, m, journal.Completion{ID: "running"})
		add(t, running, journal.Entry{Sequence: 1})
		late := create(t, m, journal.Completion{ID: "late"})
		complete(t, m, "a", 100)
		time.Sleep(20 * time.Second)
		complete(t, m, "b", 1000)
		time.Sleep(20 * time.Second)
		add(t, late, journal.Entry{Sequence: 1, Kind: journal.Failed})

		// Each row: what is so until a time from the end of a, and what from then on.
		start := time.Now().Add(-40 * time.Second)
		for _, step := range []struct {
			at            time.Duration
			id            string
			before, after error
		}{
			{60 * time.Second, "a", nil, journal.ErrExpired},
			{80 * time.Second, "b", nil, journal.ErrExpired},
			{100 * time.Second, "late", nil, journal.ErrExpired},
			{120 * time.Second, "a", journal.ErrExpired, journal.ErrNotFound},
			{140 * time.Second, "b", journal.ErrExpired, journal.ErrNotFound},
			{160 * time.Second, "late", journal.ErrExpired, journal.ErrNotFound},
		} {
			time.Sleep(time.Until(start.Add(step.at - 1)))
			expect(t, m, step.id, step.before)
			time.Sleep(time.Nanosecond)
			expect(t, m, step.id, step.after)
			expect(t, m, "running", nil)
			audit(t, m)
		}
		time.Sleep(24 * time.Hour)
		expect(t, m, "running", nil)
		add(t, running, journal.Entry{Sequence: 2, Kind: journal.Finished})
		expect(t, m, "running", nil)
		time.Sleep(time.Minute)
		expect(t, m, "running", journal.ErrExpired)
	})
}

// TestForgetting lets only the timer look: memory goes back when nobody comes.
func TestForgetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newJournal(t, Config{Retention: time.Minute})
		for i := range 100 {
			complete(t, m, fmt.Sprint(i), int32(i*i/10))
			time.Sleep(time.Duration(i%7+1) * time.Second)
		}
		last := time.Now().Add(-2 * time.Second) // when the 99th ended
		time.Sleep(time.Until(last.Add(time.Minute - 1)))
		synctest.Wait()
		if n := pages(m); n == 0 {
			t.Error("the last one's pages are gone before its time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if n := pages(m); n > 0 {
			t.Errorf("%d pages left after the retention", n)
		}
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if m.Len() != 1 {
			t.Errorf("%d known before the second retention is over; want the last one", m.Len())
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if m.Len() != 0 || m.Bytes() != 0 || len(m.keys) != 0 {
			t.Errorf("after the second retention: %d known, %d bytes, %d keys", m.Len(), m.Bytes(), len(m.keys))
		}
	})
}

// TestTimerComesBack ends completions just when others expire, which is when a
// timer could be taken to be set already.
func TestTimerComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newJournal(t, Config{Retention: time.Minute})
		for i := range 20 {
			complete(t, m, fmt.Sprint("a", i), 1)
			complete(t, m, fmt.Sprint("b", i), 1)
			time.Sleep(30 * time.Second)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if m.Len() != 0 || m.Bytes() != 0 {
			t.Errorf("%d known, %d bytes; want none", m.Len(), m.Bytes())
		}
	})
}

func TestCloseStopsTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{Retention: time.Minute})
		complete(t, m, "a", 1)
		time.Sleep(time.Minute - 1)
		m.Close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if pages(m) == 0 {
			t.Error("the timer went off after Close")
		}
		// What is past its time is not read, timer or not.
		expect(t, m, "a", journal.ErrExpired)
	})
}

// pages counts the pages in a journal, without having anything expire.
func pages(m *Journal) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, l := range m.logs {
		n += len(l.full)
		if l.page.data != nil {
			n++
		}
	}
	return n
}
