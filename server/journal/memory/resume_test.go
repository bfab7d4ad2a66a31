package memory

import (
	"bytes"
	"io"
	"testing"

	"github.com/sluice-sse/sluice/server/journal"
)

// varied returns entries of all sizes that the pages make special, and an end.
func varied() []journal.Entry {
	sizes := []int{
		firstPage - 2, // fills the first page to the last byte
		0, 1, 31, 32,  // around the step to a header of two bytes
		2*firstPage - 2, // fits in no page begun
		4095, 4096,      // around the step to three bytes
		fullPage - 3, fullPage - 2, fullPage, fullPage + 1,
		100 << 10, // larger than any page but its own
		0, 0,
	}
	for i := range 300 {
		sizes = append(sizes, i*7%130)
	}
	var all []journal.Entry
	for i, size := range sizes {
		all = append(all, journal.Entry{Sequence: int32(i + 1), Data: bytes.Repeat([]byte{byte(i)}, size)})
	}
	return append(all, journal.Entry{Sequence: int32(len(sizes) + 1), Kind: journal.Failed, Data: []byte("end")})
}

func TestResumeFromEverySequence(t *testing.T) {
	all := varied()
	m := newJournal(t, Config{})
	w := create(t, m, journal.Completion{ID: "a"})
	add(t, w, all[:len(all)-1]...)
	// Readers from before the end read on through it, when the last page moves.
	var early []journal.Reader
	for after := range all {
		r := open(t, m, "a", int32(after))
		early = append(early, r)
		if after%2 == 0 {
			got, err := available(open(t, m, "a", int32(after)))
			same(t, got, all[after:len(all)-1])
			if err != nil {
				t.Fatalf("after %d of a running one: %v", after, err)
			}
			continue
		}
		if after == len(all)-1 {
			continue // it would wait
		}
		got, err := r.Next(t.Context())
		if err != nil || len(got) == 0 {
			t.Fatalf("after %d: %d entries, %v", after, len(got), err)
		}
		same(t, got, all[after:][:len(got)])
		early[after] = &skipped{r, len(got)}
	}
	add(t, w, all[len(all)-1])
	for after := range len(all) + 1 {
		got, err := drain(t.Context(), open(t, m, "a", int32(after)))
		same(t, got, all[after:])
		if err != io.EOF {
			t.Fatalf("after %d: %v; want EOF", after, err)
		}
	}
	for after, r := range early {
		from := after
		if s, ok := r.(*skipped); ok {
			from += s.n
		}
		got, err := drain(t.Context(), r)
		same(t, got, all[from:])
		if err != io.EOF {
			t.Fatalf("after %d, from before the end: %v; want EOF", from, err)
		}
	}
}

// skipped is a reader that has given n entries.
type skipped struct {
	journal.Reader
	n int
}

func TestPagesOfTheLastEntry(t *testing.T) {
	for _, size := range []int{0, 1, firstPage - 10, firstPage, 3 * fullPage} {
		for n := range int32(40) {
			m := newJournal(t, Config{})
			all := entries(n)
			all[n].Data = make([]byte, size)
			add(t, create(t, m, journal.Completion{ID: "a"}), all...)
			got, err := drain(t.Context(), open(t, m, "a", 0))
			same(t, got, all)
			if err != io.EOF {
				t.Fatalf("%d entries, the last of %d bytes: %v", n, size, err)
			}
			audit(t, m)
		}
	}
}
