package journal

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

// newMemory returns a journal that is closed with the test.
func newMemory(t testing.TB, config MemoryConfig) *Memory {
	t.Helper()
	m := NewMemory(config)
	t.Cleanup(m.Close)
	return m
}

// create opens a completion's journal, which must have room and the key be free.
func create(t testing.TB, m *Memory, c Completion) Writer {
	t.Helper()
	w, got, err := m.Create(t.Context(), c)
	if err != nil || w == nil || got != c {
		t.Fatalf("Create(%q) = %v, %+v, %v", c.ID, w, got, err)
	}
	return w
}

// add appends entries, which must be taken.
func add(t testing.TB, w Writer, entries ...Entry) {
	t.Helper()
	for _, e := range entries {
		if _, err := w.Append(t.Context(), e); err != nil {
			t.Fatalf("Append(%d): %v", e.Sequence, err)
		}
	}
}

// complete journals a whole completion, of n events and an end.
func complete(t testing.TB, m *Memory, id string, n int32) []Entry {
	t.Helper()
	all := entries(n)
	add(t, create(t, m, Completion{ID: id}), all...)
	return all
}

// entries returns n events and an end.
func entries(n int32) []Entry {
	var all []Entry
	for s := int32(1); s <= n; s++ {
		all = append(all, Entry{s, Event, content(s)})
	}
	return append(all, Entry{n + 1, Finished, []byte("end")})
}

// content is the data of the entry with a sequence: of a size of its own.
func content(s int32) []byte {
	return bytes.Repeat([]byte{byte(s), byte(s >> 8), 'x'}, int(s*s)%53)
}

// open returns a reader, which must be had, and is closed with the test.
func open(t testing.TB, m *Memory, id string, after int32) Reader {
	t.Helper()
	r, err := m.Read(t.Context(), id, after)
	if err != nil {
		t.Fatalf("Read(%q, %d): %v", id, after, err)
	}
	t.Cleanup(r.Close)
	return r
}

// drain returns what a reader still gives, and why it stopped.
func drain(ctx context.Context, r Reader) ([]Entry, error) {
	var all []Entry
	for {
		some, err := r.Next(ctx)
		if err != nil {
			return all, err
		}
		all = append(all, some...)
	}
}

// have returns what a reader gives without waiting. The error is nil when more
// will come.
func have(r Reader) ([]Entry, error) {
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
func same(t testing.TB, got, want []Entry) {
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
	event := func(s int32) Entry { return Entry{Sequence: s} }
	end := func(s int32, k Kind) Entry { return Entry{Sequence: s, Kind: k} }
	tests := []struct {
		name   string
		before []Entry
		entry  Entry
		want   error
	}{
		{"first", nil, event(1), nil},
		{"next", []Entry{event(1)}, event(2), nil},
		{"first is the end", nil, end(1, Failed), nil},
		{"from zero", nil, event(0), ErrFenced},
		{"a gap at the start", nil, event(2), ErrFenced},
		{"a gap", []Entry{event(1)}, event(3), ErrFenced},
		{"the same again", []Entry{event(1), event(2)}, event(2), ErrFenced},
		{"negative", []Entry{event(1)}, event(-1), ErrFenced},
		{"the end after a gap", []Entry{event(1)}, end(3, Finished), ErrFenced},
		{"the end again", []Entry{end(1, Finished)}, end(1, Finished), ErrFenced},
		{"a second end", []Entry{end(1, Finished)}, end(2, Failed), ErrFenced},
		{"after finished", []Entry{event(1), end(2, Finished)}, event(3), ErrFenced},
		{"after failed", []Entry{end(1, Failed)}, event(2), ErrFenced},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMemory(t, MemoryConfig{})
			w := create(t, m, Completion{ID: "a"})
			add(t, w, tt.before...)
			bytes := m.Bytes()
			if _, err := w.Append(t.Context(), tt.entry); !errors.Is(err, tt.want) {
				t.Fatalf("Append: %v; want %v", err, tt.want)
			}
			want := tt.before
			if tt.want == nil {
				want = append(want, tt.entry)
			} else if m.Bytes() != bytes {
				t.Errorf("an entry that was refused counts %d bytes", m.Bytes()-bytes)
			}
			got, _ := have(open(t, m, "a", 0))
			same(t, got, want)
		})
	}
}
