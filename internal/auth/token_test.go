package auth

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/failure"
)

func newTestVerifier(t *testing.T, i *testbed.Issuer) *verifier {
	t.Helper()
	v, err := newVerifier(t.Context(), Tokens{testbed.IssuerURL, testbed.Audience, i.File()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// with returns good claims that differ in one; nil takes that away.
func with(name string, value any) jwt.MapClaims {
	claims := testbed.Claims("alice")
	if claims[name] = value; value == nil {
		delete(claims, name)
	}
	return claims
}

func in(d time.Duration) int64 { return time.Now().Add(d).Unix() }

// TestTokens checks which tokens are good, and why others are not.
func TestTokens(t *testing.T) {
	i := testbed.NewIssuer(t)
	v := newTestVerifier(t, i)
	stranger := testbed.NewIssuer(t) // whose keys are called the same
	rs := i.Key("RS256")
	public, err := x509.MarshalPKIXPublicKey(rs.Private.Public())
	if err != nil {
		t.Fatal(err)
	}
	sign := func(claims jwt.Claims, header map[string]any) string { return i.Key("ES256").Sign(t, claims, header) }
	hmac := func(secret []byte) string {
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, testbed.Claims("alice"))
		token.Header["kid"] = "RS256"
		signed, err := token.SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	unsigned := func(alg string) string {
		token := jwt.NewWithClaims(jwt.SigningMethodNone, testbed.Claims("alice"))
		token.Header["kid"], token.Header["alg"] = "ES256", alg
		text, err := token.SigningString()
		if err != nil {
			t.Fatal(err)
		}
		return text + "."
	}
	good := i.Token("alice")
	dots := strings.Split(good, ".")
	otherPayload, _ := json.Marshal(testbed.Claims("bob"))
	jwk := map[string]any{"kty": "RSA", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(stranger.Key("RS256").Private.Public().(*rsa.PublicKey).N.Bytes())}
	expiredFor := func(audience string) jwt.MapClaims {
		claims := with("exp", in(-time.Minute))
		claims["aud"] = audience
		return claims
	}
	for _, tt := range []struct{ name, token, cause string }{
		{"ES256", good, ""},
		{"RS256", rs.Sign(t, testbed.Claims("alice"), nil), ""},
		{"EdDSA", i.Key("EdDSA").Sign(t, testbed.Claims("alice"), nil), ""},
		{"PS512", testbed.IssuerKey{ID: "RS256", Method: jwt.SigningMethodPS512, Private: rs.Private}.Sign(t, testbed.Claims("alice"), nil), ""},
		{"no kid", sign(testbed.Claims("alice"), map[string]any{"kid": nil}), ""},
		{"more than one audience", sign(with("aud", []string{"other", testbed.Audience}), nil), ""},
		{"expired within the leeway", sign(with("exp", in(-20*time.Second)), nil), ""},
		{"not yet valid within the leeway", sign(with("nbf", in(20*time.Second)), nil), ""},

		{"expired", sign(with("exp", in(-time.Minute)), nil), "expired"},
		{"expired, and for another audience", sign(expiredFor("other"), nil), "audience"},
		{"expired, of a stranger", stranger.Key("ES256").Sign(t, with("exp", in(-time.Minute)), nil), "signature"},
		{"without exp", sign(with("exp", nil), nil), "claim"},
		{"exp of another type", sign(with("exp", "tomorrow"), nil), "type"},
		{"not yet valid", sign(with("nbf", in(time.Minute)), nil), "not valid yet"},
		{"other audience", sign(with("aud", "other"), nil), "audience"},
		{"without audience", sign(with("aud", nil), nil), "claim"},
		{"other issuer", sign(with("iss", "https://other.test"), nil), "issuer"},
		{"issuer with a slash", sign(with("iss", testbed.IssuerURL+"/"), nil), "issuer"},
		{"without issuer", sign(with("iss", nil), nil), "claim"},
		{"without subject", sign(with("sub", nil), nil), "sub"},
		{"empty subject", sign(with("sub", ""), nil), "sub"},
		{"long subject", sign(with("sub", strings.Repeat("x", 513)), nil), "sub"},
		{"unsigned", unsigned("none"), "signature"},
		{"unsigned, None", unsigned("None"), "unverifiable"},
		{"unsigned, called ES256", unsigned("ES256"), "signature"},
		{"without alg", sign(testbed.Claims("alice"), map[string]any{"alg": nil}), "unverifiable"},
		{"signature cut off", dots[0] + "." + dots[1] + ".", "signature"},
		{"other payload", dots[0] + "." + base64.RawURLEncoding.EncodeToString(otherPayload) + "." + dots[2], "signature"},
		{"HS256 with the public key", hmac(public), "signature"},
		{"HS256 with the public key as PEM", hmac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})), "signature"},
		{"HS256 with nothing", hmac([]byte{}), "signature"},
		{"the alg of another key", sign(testbed.Claims("alice"), map[string]any{"kid": "RS256"}), "signature"},
		{"unknown kid", sign(testbed.Claims("alice"), map[string]any{"kid": "../../dev/null"}), "not found"},
		{"kid of another type", sign(testbed.Claims("alice"), map[string]any{"kid": 7}), "unverifiable"},
		{"a stranger's key", stranger.Token("alice"), "signature"},
		{"a stranger's key, without kid", stranger.Key("ES256").Sign(t, testbed.Claims("alice"), map[string]any{"kid": nil}), "signature"},
		{"a stranger's key in the header", stranger.Key("RS256").Sign(t, testbed.Claims("alice"), map[string]any{"jwk": jwk, "kid": nil}), "signature"},
		{"a stranger's URL in the header", stranger.Key("RS256").Sign(t, testbed.Claims("alice"), map[string]any{"jku": "https://stranger.test/jwks"}), "signature"},
		// encoding/json would take these for sub and exp, and the last one counts.
		{"another case beside sub", sign(with("\u017fub", "victim"), nil), ""},
		{"another case, without sub", sign(jwt.MapClaims{"iss": testbed.IssuerURL, "aud": testbed.Audience, "exp": in(time.Minute), "Sub": "alice"}, nil), "sub"},
		{"another case, without exp", sign(jwt.MapClaims{"iss": testbed.IssuerURL, "aud": testbed.Audience, "sub": "alice", "Exp": in(time.Minute)}, nil), "claim"},
		{"subject of another type", sign(with("sub", 7), nil), "sub"},
		{"crit", sign(testbed.Claims("alice"), map[string]any{"crit": []string{"b64"}, "b64": false}), "crit"},
		{"no JSON", "e30x.e30x.e30x", "malformed"},
		{"null", "bnVsbA.bnVsbA.", "unverifiable"},
		{"dots", "..", "malformed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			principal, err := v.principal(t.Context(), tt.token)
			if tt.cause == "" {
				if err != nil || principal != testbed.IssuerURL+" alice" {
					t.Errorf("got %q, %v", principal, err)
				}
				return
			}
			var refused *failure.Error
			if !errors.As(err, &refused) || status.Code(err) != codes.Unauthenticated || principal != "" {
				t.Fatalf("got %q, %v", principal, err)
			}
			if !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("the cause is %v, want %s", err, tt.cause)
			}
			if want := "the key or token is not valid here"; tt.cause != "expired" && refused.Message != want {
				t.Errorf("the caller learns: %s", refused.Message)
			}
			for _, part := range strings.Split(tt.token, ".") {
				if len(part) > 3 && strings.Contains(err.Error(), part) {
					t.Errorf("the error has a part of the token: %v", err)
				}
			}
		})
	}
}

// TestURLSource checks that keys are asked for where nobody can put in others, and that an
// answer which is none, or endless, is none.
func TestURLSource(t *testing.T) {
	for _, address := range []string{"http://issuer.test/jwks", "http://127.0.0.1.issuer.test/", "ftp://127.0.0.1/jwks", "https://", "http://[::2]/", "http://localhost.issuer.test/"} {
		if _, err := newURLSource(address); err == nil {
			t.Errorf("%s is taken", address)
		}
	}
	for _, address := range []string{"https://issuer.test/jwks", "http://localhost:1/jwks", "http://127.9.9.9/", "http://[::1]:80/"} {
		if _, err := newURLSource(address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	elsewhere := "http://issuer.test/jwks"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/keys":
			_, _ = w.Write([]byte("the keys"))
		case "/moved":
			http.Redirect(w, r, "/keys", http.StatusFound)
		case "/away":
			http.Redirect(w, r, elsewhere, http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 64<<10))
			}
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	for path, want := range map[string]string{
		"/keys": "", "/moved": "", "/away": "a URL is https", "/round": "too many redirects", "/endless": "more than", "/missing": "status is 404",
	} {
		ask, err := newURLSource(strings.Replace(s.URL, "//", "//user:secret@", 1) + path)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		got, err := ask(ctx)
		cancel()
		if want == "" && (err != nil || string(got) != "the keys") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %.20q, %v", path, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error has the password: %v", path, err)
		}
	}
}

// TestNoKeysYet checks that a token is not called wrong while nobody can tell, and that
// good ones are taken as soon as somebody can.
func TestNoKeysYet(t *testing.T) {
	i := testbed.NewIssuer(t)
	var down atomic.Bool
	down.Store(true)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Error(w, `{"error":"down"}`, http.StatusServiceUnavailable)
			return
		}
		i.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	v, err := newVerifier(t.Context(), Tokens{testbed.IssuerURL, testbed.Audience, s.URL}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"named": i.Token("alice"), "unnamed": i.Key("ES256").Sign(t, testbed.Claims("alice"), map[string]any{"kid": nil})} {
		if _, err := v.principal(t.Context(), token); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: got %v", name, err)
		}
	}
	down.Store(false)
	<-v.keys.begin()
	if _, err := v.principal(t.Context(), i.Token("alice")); err != nil {
		t.Error(err)
	}
}

// TestIssuerWithSpace checks that an issuer has no space: a/b c of one, and c of a/b, would
// be the same principal where servers share a journal.
func TestIssuerWithSpace(t *testing.T) {
	i := testbed.NewIssuer(t)
	_, err := newVerifier(t.Context(), Tokens{"https://issuer.test/a b", testbed.Audience, i.File()}, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("taken")
	}
}

// TestTokenNotLookedAt checks that a token of which nobody has said that it is bad is to come
// again, and one is not that anybody can make.
func TestTokenNotLookedAt(t *testing.T) {
	i := testbed.NewIssuer(t)
	v := newTestVerifier(t, i)
	i.AddKey("new", jwt.SigningMethodES256)
	token := i.Key("new").Sign(t, testbed.Claims("alice"), nil)
	code := func() codes.Code {
		_, err := v.principal(t.Context(), token)
		return status.Code(err)
	}
	v.keys.waiting = maxWaiting
	if got := code(); got != codes.Unavailable {
		t.Errorf("while too many wait: got %v", got)
	}
	v.keys.waiting = 0
	v.keys.unknown.AllowN(time.Now(), 1)
	if got := code(); got != codes.Unauthenticated {
		t.Errorf("when the issuer was asked just now: got %v", got)
	}
}
