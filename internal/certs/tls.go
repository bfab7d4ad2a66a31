package certs

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// minVersion is the lowest version of TLS on either side.
const minVersion = tls.VersionTLS12

// ServerConfig returns the configuration of a server that speaks protocols, the first one
// rather. If there are authorities, a client may prove who it is by a certificate of
// theirs; one that has none is let in, and what it may do is for others to say.
func (s *Store) ServerConfig(protocols ...string) *tls.Config {
	var mu sync.Mutex // guards the two below
	var of *Pair
	var config *tls.Config
	return &tls.Config{
		MinVersion: minVersion,
		NextProtos: protocols,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			p := s.Pair()
			mu.Lock()
			defer mu.Unlock()
			if p != of {
				of, config = p, p.serverConfig(protocols)
			}
			return config, nil
		},
	}
}

// serverConfig returns a configuration for as long as the files stay the same. It has the
// keys of its session tickets for itself, so that with the files the tickets go, too: with
// one, a client would come back whose authority is no longer among ours.
func (p *Pair) serverConfig(protocols []string) *tls.Config {
	c := &tls.Config{MinVersion: minVersion, NextProtos: protocols, Certificates: []tls.Certificate{*p.Certificate}}
	if p.Authorities != nil {
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, p.Authorities
	}
	keys := c.Clone() // crypto/tls would use those of the outer configuration
	c.WrapSession, c.UnwrapSession = keys.EncryptTicket, keys.DecryptTicket
	return c
}

// ClientCredentials returns those of a gRPC client. Without authorities, a server's
// certificate must be of one that the system trusts.
func (s *Store) ClientCredentials() credentials.TransportCredentials {
	return &clientCredentials{credentials.NewTLS(&tls.Config{MinVersion: minVersion}), s}
}

// clientCredentials make a configuration for each connection.
type clientCredentials struct {
	credentials.TransportCredentials
	store *Store
}

// ClientHandshake implements credentials.TransportCredentials.
func (c *clientCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p := c.store.Pair()
	config := &tls.Config{MinVersion: minVersion, RootCAs: p.Authorities}
	if p.Certificate != nil {
		config.Certificates = []tls.Certificate{*p.Certificate}
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// Clone implements credentials.TransportCredentials.
func (c *clientCredentials) Clone() credentials.TransportCredentials {
	return &clientCredentials{c.TransportCredentials.Clone(), c.store}
}
