package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"github.com/sluice-sse/sluice/server/failure"
)

// Tokens says which signed tokens (JWT, RFC 7519) are credentials.
type Tokens struct {
	Issuer   string // the claim iss, to the letter
	Audience string // what the claim aud is, or has
	Keys     string // the issuer's keys (JWKS): a URL, which is https or of this machine, or a file
}

// algorithms are those that sign with a key which the verifier does not have. With one of
// the others, who knows the public key could sign.
var algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// leeway is how far clocks may be apart.
const leeway = 30 * time.Second

// maxSubject is the longest claim sub, in bytes: twice what OpenID Connect allows.
const maxSubject = 512

// verifier verifies tokens.
type verifier struct {
	issuer string
	parser *jwt.Parser
	keys   *keySet
	find   keyfunc.Keyfunc // finds the key of a token in keys
}

func newVerifier(ctx context.Context, t Tokens, log *slog.Logger) (*verifier, error) {
	if u, err := url.Parse(t.Issuer); err != nil || u.Scheme == "" || u.Host == "" || strings.ContainsAny(t.Issuer, " \t") {
		return nil, errors.New("the issuer of tokens is not a URL such as https://example.com")
	}
	if t.Audience == "" {
		return nil, errors.New("tokens need an audience: without, those that the issuer makes for others would do")
	}
	keys, err := newKeySet(ctx, t.Keys, log)
	if err != nil {
		return nil, err
	}
	find, err := keyfunc.New(keyfunc.Options{Ctx: ctx, Storage: keys})
	if err != nil {
		return nil, err
	}
	return &verifier{issuer: t.Issuer, keys: keys, find: find, parser: jwt.NewParser(
		jwt.WithValidMethods(algorithms),
		jwt.WithIssuer(t.Issuer),
		jwt.WithAudience(t.Audience),
		jwt.WithExpirationRequired(),
		jwt.WithLeeway(leeway),
	)}, nil
}

// principal returns whose token it is: the issuer, which has no space, and behind one the
// subject. See certificateName.
func (v *verifier) principal(ctx context.Context, token string) (string, error) {
	// Not jwt.RegisteredClaims: encoding/json takes Sub for the sub of a struct, too, and an
	// issuer may let its users say what is in a claim of that name.
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // what must be understood, and we understand none (RFC 7515 section 4.1.11)
			return nil, errCritical
		}
		return v.find.KeyfuncCtx(ctx)(t)
	})
	subject, _ := claims["sub"].(string)
	switch {
	case errors.Is(err, errNoKeys), errors.Is(err, errNoAnswer): // it may be good
		return "", failure.New(failure.UpstreamUnavailable, "tokens cannot be verified now: try again").WithCause(err)
	case errors.Is(err, jwt.ErrTokenExpired) && tokenError(err) == nil: // a new one would be good
		return "", failure.New(failure.Unauthenticated, "the token has expired: get a new one").WithCause(jwt.ErrTokenExpired)
	case err != nil:
		return "", wrong(cmp.Or(tokenError(err), jwt.ErrTokenUnverifiable).Error())
	case subject == "" || len(subject) > maxSubject:
		return "", wrong(fmt.Sprintf("the token's sub has not 1 to %d bytes", maxSubject))
	}
	return v.issuer + " " + subject, nil
}

var errCritical = errors.New("the token's header has crit")

// tokenError says what is wrong with a token but its age, and nothing of what is in it; nil:
// it is nothing that is known.
func tokenError(err error) error {
	for _, known := range []error{
		errCritical, errUnnamed, jwkset.ErrKeyNotFound,
		jwt.ErrTokenMalformed, jwt.ErrTokenNotValidYet, jwt.ErrTokenInvalidAudience, jwt.ErrTokenInvalidIssuer,
		jwt.ErrTokenRequiredClaimMissing, jwt.ErrTokenSignatureInvalid, jwt.ErrInvalidType,
	} {
		if errors.Is(err, known) {
			return known
		}
	}
	return nil
}
