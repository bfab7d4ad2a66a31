package redis

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/server/journal"
)

// odd are ids, principals and keys of bytes that mean something to somebody.
var odd = []string{
	"{", "}", "{}", "}{", "a}b", "a{b}c", "}:entries", "a}:entries", "\n", "\r\n", " ", "a b", "\x00", "\xff\xfe", "%s", "*",
	strings.Repeat("x", 255), strings.Repeat("{", 255), "lost",
}

// TestOddBytes has callers, and what they ask for, be of odd bytes: each finds what is its
// own, and nothing where nothing is. Ids are the server's own, but anybody may ask for any.
func TestOddBytes(t *testing.T) {
	t.Parallel()
	s := startCluster(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	for _, id := range append([]string{""}, odd...) {
		for name, ask := range map[string]func() error{
			"Get":     func() error { _, err := b.Get(t.Context(), id); return err },
			"Follow":  func() error { _, err := b.Follow(t.Context(), id, 0); return err },
			"Read":    func() error { _, err := b.Read(t.Context(), id, 0); return err },
			"Cancel":  func() error { return b.Cancel(t.Context(), id) },
			"EndLost": func() error { return b.EndLost(t.Context(), id, nil) },
			"Find":    func() error { _, err := b.Find(t.Context(), id, id); return err },
		} {
			if err := ask(); !errors.Is(err, journal.ErrNotFound) {
				t.Errorf("%s of %q: %v", name, id, err)
			}
		}
	}
	writers := map[string]journal.Writer{}
	n := 0
	for _, principal := range odd {
		for _, key := range odd[:8] {
			n++
			c := journal.Completion{ID: fmt.Sprint("c", n), Principal: principal, Key: key, Model: principal}
			w, _, err := a.Create(t.Context(), c, &owner{})
			if w == nil || err != nil {
				t.Fatalf("%q %q: %v", principal, key, err)
			}
			writers[c.ID] = w
			info, err := b.Find(t.Context(), principal, key)
			if err != nil || info.ID != c.ID || info.Principal != principal || info.Key != key || info.Model != principal {
				t.Errorf("%q %q: %+v, %v", principal, key, info, err)
			}
		}
	}
	for id, w := range writers {
		end(t, w, 1)
		if e, err := follow(soon(t), b, id, 0); err != nil || e.Sequence != 1 {
			t.Errorf("%s: %v", id, err)
		}
	}
}
