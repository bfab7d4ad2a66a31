package e2e

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/sluice-sse/sluice/internal/auth"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// keyring is a file of API keys, and the keys.
type keyring struct {
	file string
	keys map[string]string // by principal
}

// newKeyring returns one with a key for each principal.
func newKeyring(t testing.TB, principals ...string) *keyring {
	t.Helper()
	k := &keyring{file: filepath.Join(t.TempDir(), "keys"), keys: map[string]string{}}
	for _, principal := range principals {
		k.keys[principal] = rand.Text()
	}
	k.write(t)
	return k
}

// write writes the file anew, with the keys that there are.
func (k *keyring) write(t testing.TB) {
	t.Helper()
	text := "# the keys of a test\n"
	for principal, key := range k.keys {
		line, err := auth.HashKey(principal, key)
		if err != nil {
			t.Fatal(err)
		}
		text += line + "\n"
	}
	if err := os.WriteFile(k.file+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(k.file+".new", k.file); err != nil {
		t.Fatal(err)
	}
}

// flag has the program take the keys.
func (k *keyring) flag() string { return "--api-keys=" + k.file }

// of is the value of Authorization for a principal.
func (k *keyring) of(principal string) string { return "Bearer " + k.keys[principal] }

// tokenFlags have the program take the tokens of an issuer, whose keys are there.
func tokenFlags(jwks string) []string {
	return []string{"--jwt-issuer=" + testbed.IssuerURL, "--jwt-audience=" + testbed.Audience, "--jwt-jwks=" + jwks}
}

// serveIssuer serves an issuer's keys.
func serveIssuer(t testing.TB, h http.Handler) (url string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/jwks"
}
