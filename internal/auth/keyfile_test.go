package auth

import (
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
)

// TestHashKey checks which keys are hashed, and by whose hash they are known.
func TestHashKey(t *testing.T) {
	for _, tt := range []struct{ principal, key, err string }{
		{"alice", "1f0c86f3d1b54d5fb21f9d9e0f6b7a3c", ""},
		{"svc/a.example:1", "sk-live_1f0c86f3d1b54d5fb21f9d9e0f6b7a3c==", ""},
		{"alice", rand.Text(), ""}, // 130 bits in 26 characters
		{"alice", "sBcXq5U8yPvB0uWfJ2kN7A", ""},
		{"alice", "", "no key"},
		{"alice", "hunter2", "can be guessed"},
		{"alice", "1f0c86f3d1b54d5fb21f9d9e0f6b7a3", "can be guessed"}, // 124 bits
		{"alice", "123456789012345678901234567890", "can be guessed"},
		{"alice", strings.Repeat("ab", 100), "can be guessed"},
		{"alice", "7f9c24e8-3b12-4fef-91e0-5d2f3d0b6a17", "can be guessed"}, // a UUID has 122
		{"alice", "sBcXq5U8yPvB0uWfJ2kN7AsBcXq5U8yPvB0uWf\x00", "as a bearer"},
		{"alice", "with spaces with spaces with spaces with spaces", "as a bearer"},
		{"alice", strings.Repeat("1f0c86f3d1b54d5f", 2000), "more than"},
		{"", rand.Text(), "a principal"},
		{"two words", rand.Text(), "no spaces"},
		{"#alice", rand.Text(), "begin with #"},
		{"anonymous", rand.Text(), "without credentials"},
		{strings.Repeat("x", 257), rand.Text(), "1 to 256"},
		{"a\u200bb", rand.Text(), "printable"},
	} {
		line, err := HashKey(tt.principal, tt.key)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) || tt.key != "" && strings.Contains(err.Error(), tt.key) {
				t.Errorf("%s %s: got %v, want %s", tt.principal, tt.key, err, tt.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %v", tt.principal, tt.key, err)
			continue
		}
		k, err := parseKeys([]byte(line + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := k.principal(tt.key); !ok || got != tt.principal {
			t.Errorf("%s is the key of %q", tt.key, got)
		}
		for _, other := range []string{"", tt.key[1:], tt.key + "x", strings.ToUpper(tt.key) + "a", strings.Fields(line)[1]} {
			if got, ok := k.principal(other); ok {
				t.Errorf("%s is the key of %q", other, got)
			}
		}
	}
}

// TestParseKeys checks what a file of keys may have, and that a broken one says where, and
// nothing of what is there: it may be a key.
func TestParseKeys(t *testing.T) {
	first, second := strings.Repeat("1a", 32), strings.Repeat("2B", 32)
	for _, tt := range []struct {
		file string
		keys int
		err  string
	}{
		{"alice " + first + "\nbob " + second, 2, ""},
		{"# two of alice's, as she changes hers\r\n\n alice\t" + first + "\r\nalice " + second + "\n", 2, ""},
		{"alice " + first + "\nalice " + first + "\n", 1, ""},
		{"# nobody\n", 0, ""},
		{"\n", 0, ""},
		{"", 0, "it is empty"},
		{"alice " + first + "\nbob", 0, "line 2"},
		{"alice " + first + "\nbob " + first, 0, "line 2: another principal has the same key"},
		{"alice my-secret-key", 0, "line 1: the hash"},
		{"my-secret-key", 0, "line 1"},
		{"alice " + first + " # comment", 0, "line 1"},
		{"alice " + first[1:], 0, "line 1"},
		{"alice " + first + "00", 0, "line 1"},
		{"alice " + strings.Repeat("zz", 32), 0, "line 1"},
		{"anonymous " + first, 0, "line 1"},
		{"\x00\x01\x02", 0, "line 1"},
	} {
		k, err := parseKeys([]byte(tt.file))
		if tt.err == "" {
			if err != nil || len(k.principals) != tt.keys {
				t.Errorf("%q: got %v, %v", tt.file, k, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: got %v, want %s", tt.file, err, tt.err)
		}
	}
}

// TestKeyFileChanges checks that what is in a file now counts, and that a broken file
// changes nothing and is logged once.
func TestKeyFileChanges(t *testing.T) {
	name := t.TempDir() + "/keys"
	keys := map[string]string{"alice": rand.Text(), "bob": rand.Text()}
	write := func(who ...string) {
		t.Helper()
		text := "# keys\n"
		for _, principal := range who {
			line, err := HashKey(principal, keys[principal])
			if err != nil {
				t.Fatal(err)
			}
			text += line + "\n"
		}
		replace(t, name, text)
	}
	write("alice")
	var log strings.Builder
	f, err := newKeyFile(name, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string, want ...string) {
		t.Helper()
		f.trouble.is(f.read())
		f.trouble.is(f.read())
		var got []string
		for _, principal := range []string{"alice", "bob"} {
			if who, ok := f.principal(keys[principal]); ok {
				got = append(got, who)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: the keys are those of %v, want %v", when, got, want)
		}
	}
	check("at first", "alice")
	write("alice", "bob")
	check("with another", "alice", "bob")
	write("bob")
	check("with one removed", "bob")
	replace(t, name, "")
	check("of no bytes", "bob")
	replace(t, name, "alice "+keys["alice"]) // not hashed
	check("broken", "bob")
	replace(t, name, strings.Repeat("# long\n", maxFile/7+1))
	check("too large", "bob")
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	check("gone", "bob")
	write("alice")
	check("back", "alice")
	replace(t, name, "# nobody\n")
	check("of comments alone")
	if got := log.String(); strings.Count(got, "cannot be read") != 4 || strings.Count(got, "can be read again") != 1 || strings.Contains(got, keys["alice"]) {
		t.Errorf("the log is\n%s", got)
	}
	for _, missing := range []string{name + "x", t.TempDir()} {
		if _, err := newKeyFile(missing, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s is a file of keys", missing)
		}
	}
}

// replace writes a file as one should: by another name first.
func replace(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}
