package e2etest

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

// Keyring is a file of API keys, and the keys.
type Keyring struct {
	File string
	Keys map[string]string // by principal
}

// NewKeyring returns one with a key for each principal.
func NewKeyring(t testing.TB, principals ...string) *Keyring {
	t.Helper()
	k := &Keyring{File: filepath.Join(t.TempDir(), "keys"), Keys: map[string]string{}}
	for _, principal := range principals {
		k.Keys[principal] = rand.Text()
	}
	k.Write(t)
	return k
}

// Write writes the file anew, with the keys that there are.
func (k *Keyring) Write(t testing.TB) {
	t.Helper()
	text := "# the keys of a test\n"
	for principal, key := range k.Keys {
		line, err := auth.HashKey(principal, key)
		if err != nil {
			t.Fatal(err)
		}
		text += line + "\n"
	}
	ReplaceFile(t, k.File, text)
}

// ReplaceFile writes a file as one should: by another name first.
func ReplaceFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// Flag has the program take the keys.
func (k *Keyring) Flag() string { return "--api-keys=" + k.File }

// Of is the value of Authorization for a principal.
func (k *Keyring) Of(principal string) string { return "Bearer " + k.Keys[principal] }

// TokenFlags have the program take the tokens of an issuer, whose keys are there.
func TokenFlags(jwks string) []string {
	return []string{"--jwt-issuer=" + testbed.IssuerURL, "--jwt-audience=" + testbed.Audience, "--jwt-jwks=" + jwks}
}

// As returns the context of a caller who sends credentials, on whichever face.
func As(ctx context.Context, authorization ...string) context.Context {
	for _, value := range authorization {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", value)
	}
	return ctx
}

// Authorize puts the credentials of a context into the header of a request.
func Authorize(ctx context.Context, h http.Header) {
	md, _ := metadata.FromOutgoingContext(ctx)
	for _, value := range md.Get("authorization") {
		h.Add("Authorization", value)
	}
}

// ServeIssuer serves an issuer's keys.
func ServeIssuer(t testing.TB, h http.Handler) (url string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/jwks"
}
