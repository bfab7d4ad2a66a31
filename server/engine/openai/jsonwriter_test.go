package openai

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"testing"
)

// TestString compares copied strings with encoding/json, for random strings.
func TestString(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"a", "Z", " ", "\x00", "\n", "\x1f", "\x7f", `"`, `\`, "/", "<", ">", "&", "é", "\u2027", "\u2028", "\u2029", "世", "😀", "\xff", "\xe2", "\x80"}
	plain := 0
	for range 200_000 {
		var s string
		for range random.IntN(6) {
			s += alphabet[random.IntN(len(alphabet))]
		}
		w := newJSONWriter(0)
		w.string(s)
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(s); err != nil {
			t.Fatal(err)
		}
		if got := w.out.String() + "\n"; got != want.String() {
			t.Fatalf("%q: got %s, want %s", s, got, want.String())
		}
		if isPlain(s) {
			plain++
		}
	}
	if plain < 1000 {
		t.Errorf("only %d went the short way", plain)
	}
}
