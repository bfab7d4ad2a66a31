package testbed

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// IssuerURL and Audience are what an Issuer's tokens have as iss and aud.
const (
	IssuerURL = "https://issuer.test"
	Audience  = "sluice"
)

// Issuer makes signed tokens, and is an http.Handler that serves its keys. It is for many
// goroutines at once.
type Issuer struct {
	tb    testing.TB
	Asked atomic.Int64 // how often it was asked for its keys

	mu   sync.Mutex // guards keys
	keys []IssuerKey
}

// IssuerKey is a key of an issuer.
type IssuerKey struct {
	ID      string
	Method  jwt.SigningMethod
	Private crypto.Signer
}

// NewIssuer returns one with a key for each kind of signature, called like that.
func NewIssuer(tb testing.TB) *Issuer {
	tb.Helper()
	i := &Issuer{tb: tb}
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodES256, jwt.SigningMethodEdDSA} {
		i.AddKey(method.Alg(), method)
	}
	return i
}

// AddKey makes a key.
func (i *Issuer) AddKey(id string, method jwt.SigningMethod) {
	i.tb.Helper()
	var private crypto.Signer
	var err error
	switch method {
	case jwt.SigningMethodES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jwt.SigningMethodEdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		i.tb.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, IssuerKey{id, method, private})
}

// RemoveKey takes a key back. Tokens can still be signed with what Key had returned.
func (i *Issuer) RemoveKey(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = slices.DeleteFunc(i.keys, func(k IssuerKey) bool { return k.ID == id })
}

// Key returns a key.
func (i *Issuer) Key(id string) IssuerKey {
	i.tb.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	at := slices.IndexFunc(i.keys, func(k IssuerKey) bool { return k.ID == id })
	if at < 0 {
		i.tb.Fatalf("the issuer has no key %s", id)
	}
	return i.keys[at]
}

// Claims are those of a token that is good, for one hour.
func Claims(subject string) jwt.MapClaims {
	return jwt.MapClaims{"iss": IssuerURL, "aud": Audience, "sub": subject, "exp": time.Now().Add(time.Hour).Unix()}
}

// Sign returns a token. header has what its header has beside, or instead of, the usual.
func (k IssuerKey) Sign(tb testing.TB, claims jwt.Claims, header map[string]any) string {
	tb.Helper()
	t := jwt.NewWithClaims(k.Method, claims)
	t.Header["kid"] = k.ID
	for name, value := range header {
		t.Header[name] = value
		if value == nil {
			delete(t.Header, name)
		}
	}
	signed, err := t.SignedString(k.Private)
	if err != nil {
		tb.Fatal(err)
	}
	return signed
}

// Token returns one that is good.
func (i *Issuer) Token(subject string) string {
	i.tb.Helper()
	return i.Key("ES256").Sign(i.tb, Claims(subject), nil)
}

// JWKS returns the public keys as a JWKS.
func (i *Issuer) JWKS() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jwkset.JWKSMarshal
	for _, k := range i.keys {
		key, err := jwkset.NewJWKFromKey(k.Private.Public(), jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: k.ID, USE: jwkset.UseSig}})
		if err != nil {
			i.tb.Error(err)
		}
		set.Keys = append(set.Keys, key.Marshal())
	}
	b, err := json.Marshal(set)
	if err != nil {
		i.tb.Error(err)
	}
	return b
}

// File writes the public keys to a file and returns its name.
func (i *Issuer) File() string {
	i.tb.Helper()
	name := i.tb.TempDir() + "/jwks.json"
	if err := os.WriteFile(name, i.JWKS(), 0o600); err != nil {
		i.tb.Fatal(err)
	}
	return name
}

// ServeHTTP implements http.Handler.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	i.Asked.Add(1)
	_, _ = w.Write(i.JWKS())
}
