package auth

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/internal/certs"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// fakeClient is a certified connection.
type fakeClient struct {
	credentials.TLSInfo
	leaf *x509.Certificate
	err  error
}

func (f fakeClient) Certificate() (*x509.Certificate, error) { return f.leaf, f.err }

// certificate is a context of a call over a connection with a client's certificate, which
// may not be good any more.
func certificate(ctx context.Context, err error, uri string, names ...string) context.Context {
	leaf := &x509.Certificate{DNSNames: names}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			panic(err)
		}
		leaf.URIs = []*url.URL{u}
	}
	f := fakeClient{leaf: leaf, err: err}
	if err != nil {
		f.leaf = nil
	}
	return peer.NewContext(ctx, &peer.Peer{AuthInfo: f})
}

// TestPrincipal checks who a caller is for what it sends, and for what there is.
func TestPrincipal(t *testing.T) {
	key, issuer := rand.Text(), testbed.NewIssuer(t)
	line, err := HashKey("alice", key)
	if err != nil {
		t.Fatal(err)
	}
	name := t.TempDir() + "/keys"
	replace(t, name, line)
	all := Config{APIKeys: name, Tokens: Tokens{testbed.IssuerURL, testbed.Audience, issuer.File()}, Certificates: true}
	keys, tokens, certificates, none := Config{APIKeys: name}, Config{Tokens: all.Tokens}, Config{Certificates: true}, Config{}
	anonymousToo := func(c Config) Config { c.AllowAnonymous = true; return c }
	bearer := func(values ...string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context {
			return metadata.NewIncomingContext(ctx, metadata.MD{"authorization": values})
		}
	}
	nothing := func(ctx context.Context) context.Context { return ctx }
	withCertificate := func(ctx context.Context) context.Context { return certificate(ctx, nil, "spiffe://x/bob") }
	expired := func(ctx context.Context) context.Context { return certificate(ctx, certs.ErrExpired, "spiffe://x/bob") }
	both := func(values ...string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return withCertificate(bearer(values...)(ctx)) }
	}
	byDNS := func(names ...string) func(context.Context) context.Context {
		return func(ctx context.Context) context.Context { return certificate(ctx, nil, "", names...) }
	}
	unverified := func(ctx context.Context) context.Context {
		leaf := &x509.Certificate{DNSNames: []string{"bob.test"}}
		state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
		return peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}})
	}
	viaBridge := func(ctx context.Context) context.Context {
		return withCertificate(metadata.NewIncomingContext(ctx, metadata.Pairs(ViaBridge, "1")))
	}
	viaExpired := func(ctx context.Context) context.Context {
		return expired(metadata.NewIncomingContext(ctx, metadata.Pairs(ViaBridge, "1")))
	}
	claims := testbed.Claims("carol")
	claims["groups"] = strings.Repeat("x", 20<<10)
	longToken := issuer.Key("ES256").Sign(t, claims, nil)
	const of = testbed.IssuerURL + " "
	for _, tt := range []struct {
		name   string
		config Config
		call   func(context.Context) context.Context
		want   string // "": refused
	}{
		{"a key", all, bearer("Bearer " + key), "alice"},
		{"a key, spelled otherwise", all, bearer("bearer   " + key + " "), "alice"},
		{"a token", all, bearer("Bearer " + issuer.Token("carol")), of + "carol"},
		{"a token of one called like a key's owner", all, bearer("Bearer " + issuer.Token("alice")), of + "alice"},
		{"a certificate's URI", all, withCertificate, "uri spiffe://x/bob"},
		{"a certificate's name", all, byDNS("bob.test", "other.test"), "dns bob.test"},
		{"a certificate's name that is a key's owner's", all, byDNS("alice"), "dns alice"},
		{"a certificate's name that is a token's principal", all, byDNS(of + "carol"), "dns " + of + "carol"},
		{"a certificate's name that is a URI", all, byDNS("spiffe://x/bob"), "dns spiffe://x/bob"},
		{"a key before a certificate", all, both("Bearer " + key), "alice"},

		{"nothing", all, nothing, ""},
		{"a wrong key", all, bearer("Bearer " + rand.Text()), ""},
		{"a wrong key before a certificate", all, both("Bearer " + rand.Text()), ""},
		{"an empty header before a certificate", all, both(""), ""},
		{"an empty header", all, bearer(""), ""},
		{"an empty bearer", all, bearer("Bearer "), ""},
		{"no scheme", all, bearer(key), ""},
		{"another scheme", all, bearer("Basic " + key), ""},
		{"a tab", all, bearer("Bearer\t" + key), ""},
		{"two keys", all, bearer("Bearer "+key, "Bearer "+key), ""},
		{"two keys in one", all, bearer("Bearer " + key + ", Bearer " + key), ""},
		{"more than a key", all, bearer("Bearer " + key + " x"), ""},
		{"a long key", all, bearer("Bearer " + strings.Repeat("x", 1<<20)), ""},
		{"a long token", all, bearer("Bearer " + longToken), ""},
		{"the hash of a key", all, bearer("Bearer " + strings.Fields(line)[1]), ""},
		{"a certificate of which nobody tells whether it is good", all, unverified, ""},
		{"a certificate that is not good any more", all, expired, ""},
		{"a key before a certificate that is not good any more", all, func(ctx context.Context) context.Context { return expired(bearer("Bearer " + key)(ctx)) }, "alice"},
		{"a certificate without a name", all, byDNS(), ""},
		{"a certificate of anonymous", all, byDNS("anonymous"), "dns anonymous"},
		{"a bridge's certificate", all, viaBridge, ""},
		{"a certificate where there are none", keys, withCertificate, ""},
		{"a token where there are none", keys, bearer("Bearer " + issuer.Token("carol")), ""},
		{"a key where there are none", tokens, bearer("Bearer " + key), ""},

		{"anonymous too: nothing", anonymousToo(all), nothing, Anonymous},
		{"anonymous too: a key", anonymousToo(all), bearer("Bearer " + key), "alice"},
		{"anonymous too: a wrong key", anonymousToo(all), bearer("Bearer " + rand.Text()), ""},
		{"anonymous too: an empty header", anonymousToo(all), bearer(""), ""},
		{"anonymous too: another scheme", anonymousToo(all), bearer("Basic " + key), ""},
		{"anonymous too: a bridge's certificate", anonymousToo(all), viaBridge, Anonymous},
		{"anonymous too: a bridge's certificate that is not good any more", anonymousToo(all), viaExpired, Anonymous},
		{"anonymous too: a certificate that is not good any more", anonymousToo(all), expired, ""},

		{"certificates alone: whatever a SDK sends", certificates, both("Bearer x"), "uri spiffe://x/bob"},
		{"certificates alone: nothing", certificates, bearer("Bearer x"), ""},
		{"no credentials", none, nothing, Anonymous},
		{"no credentials: whatever a SDK sends", none, bearer("Bearer x", "Basic y"), Anonymous},
		{"no credentials: a certificate", none, withCertificate, Anonymous},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Log = slog.New(slog.DiscardHandler)
			a, err := New(tt.config)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			got := ""
			ctx, err := a.Authenticate(tt.call(t.Context()), "/a.Service/Method")
			if err == nil {
				got = Principal(ctx)
			}
			if got != tt.want || (got == "") != (status.Code(err) == codes.Unauthenticated) {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), key) {
				t.Errorf("the error has the key: %v", err)
			}
			if _, err := a.Authenticate(tt.call(t.Context()), "/grpc.health.v1.Health/Check"); err != nil {
				t.Errorf("health: %v", err)
			}
		})
	}
}
