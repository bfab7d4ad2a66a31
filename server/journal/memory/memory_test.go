package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/sluice-sse/sluice/server/journal"
)

// newMemory returns a journal that is closed with the test.
func newJournal(t testing.TB, config Config) *Journal {
	t.Helper()
	m := New(config)
	t.Cleanup(m.Close)
	return m
}

// create opens a completion's journal, which must have room and the key be free.
func create(t testing.TB, m *Journal, c journal.Completion) journal.Writer {
	t.Helper()
	w, got, err := m.Create(t.Context(), c, nobody{})
	if err != nil || w == nil || got != c {
		t.Fatalf("Create(%q) = %v, %+v, %v", c.ID, w, got, err)
	}
	return w
}

// nobody is the owner of what the test itself owns.
type nobody struct{}

func (nobody) Cancel()     {}
func (nobody) Readers(int) {}

// appendOne appends an entry, and returns the journal's copy of its data.
func appendOne(ctx context.Context, w journal.Writer, e journal.Entry) ([]byte, error) {
	entries := []journal.Entry{e}
	n, err := w.Append(ctx, entries)
	if (n == 1) != (err == nil) {
		return nil, fmt.Errorf("%d of 1 appended, %w", n, err)
	}
	return entries[0].Data, err
}

// add appends entries, which must be taken.
func add(t testing.TB, w journal.Writer, entries ...journal.Entry) {
	t.Helper()
	if n, err := w.Append(t.Context(), slices.Clone(entries)); n != len(entries) || err != nil {
		t.Fatalf("%d of %d are appended: %v", n, len(entries), err)
	}
}

// complete journals a whole completion, of n events and an end.
func complete(t testing.TB, m *Journal, id string, n int32) []journal.Entry {
	t.Helper()
	all := entries(n)
	add(t, create(t, m, journal.Completion{ID: id}), all...)
	return all
}

// entries returns n events and an end.
func entries(n int32) []journal.Entry {
	var all []journal.Entry
	for s := int32(1); s <= n; s++ {
		all = append(all, journal.Entry{Sequence: s, Data: content(s)})
	}
	return append(all, journal.Entry{Sequence: n + 1, Kind: journal.Finished, Data: []byte("end")})
}

// content is the data of the entry with a sequence: of a size of its own.
func content(s int32) []byte {
	return bytes.Repeat([]byte{byte(s), byte(s >> 8), 'x'}, int(s*s)%53)
}

// open returns a reader, which must be had, and is closed with the test.
func open(t testing.TB, m *Journal, id string, after int32) journal.Reader {
	t.Helper()
	r, err := m.Follow(t.Context(), id, after)
	if err != nil {
		t.Fatalf("Read(%q, %d): %v", id, after, err)
	}
	t.Cleanup(r.Close)
	return r
}

// drain returns what a reader still gives, and why it stopped.
func drain(ctx context.Context, r journal.Reader) ([]journal.Entry, error) {
	var all []journal.Entry
	for {
		some, err := r.Next(ctx)
		if err != nil {
			return all, err
		}
		all = append(all, some...)
	}
}

// available returns what a reader gives without waiting. The error is nil when more
// will come.
func available(r journal.Reader) ([]journal.Entry, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	errWait := errors.New("nothing there")
	cancel(errWait)
	all, err := drain(ctx, r)
	if err == errWait {
		err = nil
	}
	return all, err
}

// same reports where got is not want. Any goroutine may call it.
func same(t testing.TB, got, want []journal.Entry) {
	t.Helper()
	for i, e := range got[:min(len(got), len(want))] {
		if w := want[i]; e.Sequence != w.Sequence || e.Kind != w.Kind || !bytes.Equal(e.Data, w.Data) {
			t.Errorf("entry %d, kind %d, %d bytes; want entry %d, kind %d, %d bytes",
				e.Sequence, e.Kind, len(e.Data), w.Sequence, w.Kind, len(w.Data))
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d entries; want %d", len(got), len(want))
	}
}

func TestAppendIsFenced(t *testing.T) {
	event := func(s int32) journal.Entry { return journal.Entry{Sequence: s} }
	end := func(s int32, k journal.Kind) journal.Entry { return journal.Entry{Sequence: s, Kind: k} }
	tests := []struct {
		name   string
		before []journal.Entry
		entry  journal.Entry
		want   error
	}{
		{"first", nil, event(1), nil},
		{"next", []journal.Entry{event(1)}, event(2), nil},
		{"first is the end", nil, end(1, journal.Failed), nil},
		{"from zero", nil, event(0), journal.ErrFenced},
		{"a gap at the start", nil, event(2), journal.ErrFenced},
		{"a gap", []journal.Entry{event(1)}, event(3), journal.ErrFenced},
		{"the same again", []journal.Entry{event(1), event(2)}, event(2), journal.ErrFenced},
		{"negative", []journal.Entry{event(1)}, event(-1), journal.ErrFenced},
		{"the end after a gap", []journal.Entry{event(1)}, end(3, journal.Finished), journal.ErrFenced},
		{"the end again", []journal.Entry{end(1, journal.Finished)}, end(1, journal.Finished), journal.ErrFenced},
		{"a second end", []journal.Entry{end(1, journal.Finished)}, end(2, journal.Failed), journal.ErrFenced},
		{"after finished", []journal.Entry{event(1), end(2, journal.Finished)}, event(3), journal.ErrFenced},
		{"after failed", []journal.Entry{end(1, journal.Failed)}, event(2), journal.ErrFenced},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newJournal(t, Config{})
			w := create(t, m, journal.Completion{ID: "a"})
			add(t, w, tt.before...)
			bytes := m.Bytes()
			if _, err := appendOne(t.Context(), w, tt.entry); !errors.Is(err, tt.want) {
				t.Fatalf("Append: %v; want %v", err, tt.want)
			}
			want := tt.before
			if tt.want == nil {
				want = append(want, tt.entry)
			} else if m.Bytes() != bytes {
				t.Errorf("an entry that was refused counts %d bytes", m.Bytes()-bytes)
			}
			got, _ := available(open(t, m, "a", 0))
			same(t, got, want)
		})
	}
}

// Len returns how many completions the journal knows, those included whose entries are
// gone.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.logs)
}
