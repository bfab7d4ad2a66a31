package e2e

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc/metadata"

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
	replaceFile(t, k.file, text)
}

// replaceFile writes a file as one should: by another name first.
func replaceFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
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

// as returns the context of a caller who sends credentials, on whichever face.
func as(ctx context.Context, authorization ...string) context.Context {
	for _, value := range authorization {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
	}
	return ctx
}

// authorize puts the credentials of a context into the header of a request.
func authorize(ctx context.Context, h http.Header) {
	md, _ := metadata.FromOutgoingContext(ctx)
	for _, value := range md.Get("authorization") {
		h.Add("Authorization", value)
	}
}

// serveIssuer serves an issuer's keys.
func serveIssuer(t testing.TB, h http.Handler) (url string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/jwks"
}
