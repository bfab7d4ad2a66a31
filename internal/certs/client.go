package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/credentials"
)

// Why a certificate is not good any more that was when its connection began.
var (
	ErrExpired   = errors.New("the client's certificate has expired")
	ErrUntrusted = errors.New("the client's certificate is of an authority that is no longer trusted")
)

// Client is what a connection's listener knows of its client. It is the connection's
// credentials.AuthInfo.
//
// A connection may be open for much longer than its client's certificate is good: so that
// is looked at for each call, as Kubernetes' API server does, and as it is with keys and
// tokens. A call that has begun goes on.
type Client struct {
	credentials.TLSInfo
	store *Store
}

// Client returns what is known of the client of a connection with such a state.
func (s *Store) Client(state tls.ConnectionState) Client {
	return Client{credentials.TLSInfo{
		State:          state,
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
	}, s}
}

// Certificate returns the certificate by which the client has proved who it is, or nil if
// it has shown none. It returns ErrExpired or ErrUntrusted if the certificate would not be
// taken if the connection began now.
//
// That takes two looks at the clock and one at the authorities, unless the one that had
// signed is among them no more: it may have been renewed, with the same key, and the
// signature is verified again.
func (c Client) Certificate() (*x509.Certificate, error) {
	chains := c.State.VerifiedChains
	if len(chains) == 0 {
		return nil, nil
	}
	leaf, now, p := chains[0][0], time.Now(), c.store.Pair()
	if now.After(leaf.NotAfter) {
		return nil, ErrExpired
	}
	if slices.ContainsFunc(chains, func(chain []*x509.Certificate) bool { return p.trusts(chain, now) }) {
		return leaf, nil
	}
	between := x509.NewCertPool()
	for _, certificate := range c.State.PeerCertificates[1:] {
		between.AddCert(certificate)
	}
	_, err := leaf.Verify(x509.VerifyOptions{ // as crypto/tls does
		Roots:         p.Authorities,
		Intermediates: between,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return nil, ErrUntrusted
	}
	return leaf, nil
}

// trusts tells whether a chain that was verified before is still good: it ends in one of
// the authorities, and nothing in it has expired.
func (p *Pair) trusts(chain []*x509.Certificate, now time.Time) bool {
	return slices.ContainsFunc(p.authorities, chain[len(chain)-1].Equal) &&
		!slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
}

// ServerCredentials returns those of a gRPC server that has one of the configurations of
// ServerConfig. What they know of a connection is a Client.
func (s *Store) ServerCredentials(config *tls.Config) credentials.TransportCredentials {
	return &serverCredentials{credentials.NewTLS(config), s}
}

type serverCredentials struct {
	credentials.TransportCredentials
	store *Store
}

// ServerHandshake implements credentials.TransportCredentials.
func (c *serverCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := c.TransportCredentials.ServerHandshake(raw)
	if of, ok := info.(credentials.TLSInfo); ok {
		info = Client{of, c.store}
	}
	return conn, info, err
}

// Clone implements credentials.TransportCredentials.
func (c *serverCredentials) Clone() credentials.TransportCredentials {
	return &serverCredentials{c.TransportCredentials.Clone(), c.store}
}
