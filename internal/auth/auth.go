// Package auth finds out who calls: it makes a principal, in the context of a call, of the
// credentials that came with it. Completions, cursors and idempotency keys belong to one.
//
// Credentials are a bearer in the call's metadata, which is an API key (keyfile.go) or a
// signed token (token.go, keyset.go), or the certificate of the caller's connection. A
// bearer is looked at first, and decides: who sends a wrong one is refused, whatever
// certificate there is, and even if callers without credentials are let in. A bridge hands
// on what its callers send, and its own certificate is none of theirs (ViaBridge).
//
// All of them are looked at when a call begins, whatever its connection began with: a key
// or an authority that was taken away, a token or a certificate that has expired is refused
// then, and a call that has begun goes on to its end.
//
// Health checks need no credentials.
//
// How often somebody may try is not limited: a key cannot be guessed, and is refused in
// 0.4 µs; a signature takes 0.1 ms, about as much as the request around it. By address, who
// shares a bridge or a proxy with a flood would be locked out with it. (TestAttackTokens in
// internal/e2e prints what a flood does to others.)
//
// Callers learn no more than that their credentials are wrong, or that a token which is
// otherwise right has expired. Why goes to the log: in our own words, as those of the
// libraries may quote a token.
package auth

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"sync"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/sluice-sse/sluice/server/failure"
)

// Anonymous is the principal of callers without credentials.
const Anonymous = "anonymous"

// ViaBridge is the key of metadata that says, whatever its value: the caller is not who
// made the connection. So the connection's certificate is not looked at. It only ever
// takes away: anybody may send it.
const ViaBridge = "sluice-via-bridge"

// maxBearer is the largest key or token, in bytes: several times what issuers make that
// list all groups of a user.
const maxBearer = 16 << 10

// Config says what credentials there are. Without any of the first three, all callers are
// Anonymous, and what they send is not looked at.
type Config struct {
	APIKeys      string // the name of a file (see parseKeys)
	Tokens       Tokens // the zero value: there are none
	Certificates bool   // a client's certificate, which the listener has verified, is one

	AllowAnonymous bool         // who has no credentials may call, too
	Log            *slog.Logger // what happens to the keys; required
}

// configured says whether there are credentials.
func (c *Config) configured() bool {
	return c.APIKeys != "" || c.Tokens != Tokens{} || c.Certificates
}

// Authenticator is for many goroutines at once. Close it after use.
type Authenticator struct {
	keys           *keyFile  // nil: there are none
	tokens         *verifier // nil: there are none
	certificates   bool
	allowAnonymous bool

	stop    context.CancelFunc
	reading sync.WaitGroup // of keys that may change
}

// New returns an authenticator. It fails if a file cannot be read; the keys behind a URL
// may come later.
func New(c Config) (*Authenticator, error) {
	ctx, stop := context.WithCancel(context.Background())
	a := &Authenticator{certificates: c.Certificates, allowAnonymous: c.AllowAnonymous || !c.configured(), stop: stop}
	if c.APIKeys != "" {
		keys, err := newKeyFile(c.APIKeys, c.Log)
		if err != nil {
			stop()
			return nil, err
		}
		a.keys = keys
		a.reading.Go(func() { keys.watch(ctx) })
	}
	if c.Tokens != (Tokens{}) {
		tokens, err := newVerifier(ctx, c.Tokens, c.Log)
		if err != nil {
			stop()
			a.reading.Wait()
			return nil, err
		}
		a.tokens = tokens
		a.reading.Go(func() { tokens.keys.watch(ctx) })
	}
	return a, nil
}

// Close stops reading keys.
func (a *Authenticator) Close() {
	a.stop()
	a.reading.Wait()
}

type principalKey struct{}

// Principal returns whose call a context is of.
func Principal(ctx context.Context) string {
	if p, ok := ctx.Value(principalKey{}).(string); ok {
		return p
	}
	return Anonymous
}

// Authenticate returns the context of a call with its principal, or refuses the call.
func (a *Authenticator) Authenticate(ctx context.Context, method string) (context.Context, error) {
	if strings.HasPrefix(method, "/grpc.health.v1.Health/") {
		return ctx, nil
	}
	principal, err := a.principal(ctx)
	if err != nil {
		return nil, err
	}
	return context.WithValue(ctx, principalKey{}, principal), nil
}

func (a *Authenticator) principal(ctx context.Context) (string, error) {
	if a.keys != nil || a.tokens != nil {
		if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 0 {
			return a.ofBearer(ctx, values)
		}
	}
	if a.certificates && len(metadata.ValueFromIncomingContext(ctx, ViaBridge)) == 0 {
		if name, err := certificateName(ctx); name != "" || err != nil {
			return name, err
		}
	}
	if a.allowAnonymous {
		return Anonymous, nil
	}
	want := "send your key or token as the header Authorization: Bearer …"
	if a.keys == nil && a.tokens == nil {
		want = "show a client certificate when you connect"
	}
	return "", failure.New(failure.Unauthenticated, "%s", want).WithCause(errors.New("no credentials"))
}

// ofBearer returns the principal of a call that has credentials in its metadata.
func (a *Authenticator) ofBearer(ctx context.Context, values []string) (string, error) {
	if len(values) > 1 {
		return "", wrong("more than one authorization")
	}
	scheme, bearer, _ := strings.Cut(values[0], " ")
	bearer = strings.Trim(bearer, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return "", wrong("no bearer")
	case bearer == "":
		return "", wrong("an empty bearer")
	case len(bearer) > maxBearer:
		return "", wrong("a bearer that is too long")
	}
	if a.keys != nil {
		if principal, ok := a.keys.principal(bearer); ok {
			return principal, nil
		}
	}
	if a.tokens != nil && strings.Count(bearer, ".") == 2 {
		return a.tokens.principal(ctx, bearer)
	}
	return "", wrong("unknown key")
}

// wrong refuses credentials. The cause, which is for the log, has nothing of them.
func wrong(cause string) error {
	return failure.New(failure.Unauthenticated, "the key or token is not valid here").WithCause(errors.New(cause))
}

// certificateName returns the principal of the caller's connection: what kind of name its
// certificate has, and behind a space that name, which is its first URI, or else its first
// DNS name. So it is never that of a key, which has no space, nor that of a token, which
// begins with a URL. It is "" if there is none, or it is not verified. A certificate that
// is not good any more is wrong credentials, as an old token is.
func certificateName(ctx context.Context) (string, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return "", nil
	}
	client, ok := p.AuthInfo.(certified)
	if !ok {
		return "", nil
	}
	leaf, err := client.Certificate()
	switch {
	case err != nil:
		return "", failure.New(failure.Unauthenticated, "the client certificate of this connection has expired, or is not taken any more: connect with another one").WithCause(err)
	case leaf == nil:
	case len(leaf.URIs) > 0:
		return "uri " + leaf.URIs[0].String(), nil
	case len(leaf.DNSNames) > 0:
		return "dns " + leaf.DNSNames[0], nil
	}
	return "", nil
}

// certified is the credentials.AuthInfo of a connection over TLS: a certs.Client, or in
// tests a fakeClient.
type certified interface {
	// Certificate returns the verified certificate of the client, or nil if it has shown
	// none, or why it is not good any more.
	Certificate() (*x509.Certificate, error)
}
