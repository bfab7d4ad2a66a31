package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// shake returns what the credentials of a server know of a client.
func shake(t *testing.T, s *Store, client *tls.Config) Client {
	t.Helper()
	theirs, ours := pipe(t)
	c := tls.Client(theirs, client)
	t.Cleanup(func() { c.Close() })
	failed := make(chan error, 1)
	go func() { failed <- c.Handshake() }()
	conn, info, err := s.ServerCredentials(s.ServerConfig("h2")).Clone().ServerHandshake(ours)
	if err := errors.Join(err, <-failed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return info.(Client)
}

// TestClientLater looks at the clients of open connections as their certificates expire, and
// their authorities come and go.
func TestClientLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, removed, renewed := testbed.NewAuthority(t), testbed.NewAuthority(t), testbed.NewAuthority(t)
		f := a.NewCertFiles(t)
		trust := func(authorities ...*testbed.Authority) {
			var all [][]byte
			for _, authority := range authorities {
				all = append(all, authority.PEM())
			}
			testbed.WriteFile(t, f.CA, bytes.Join(all, nil))
			time.Sleep(interval)
		}
		trust(a, removed, renewed)
		s, _ := open(t, f)
		begun := time.Now()
		until := func(d time.Duration) func(*x509.Certificate) {
			return func(c *x509.Certificate) { c.NotAfter = begun.Add(d) }
		}
		by := func(by *testbed.Authority, change func(*x509.Certificate)) Client {
			pair, err := tls.X509KeyPair(by.IssueAs(t, change, "client.test"))
			if err != nil {
				t.Fatal(err)
			}
			return shake(t, s, &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", NextProtos: []string{"h2"}, Certificates: []tls.Certificate{pair}})
		}
		clients := map[string]Client{
			"stays":                        by(a, until(40*time.Minute)),
			"short":                        by(a, until(10*time.Minute)),
			"removed":                      by(removed, until(40*time.Minute)),
			"renewed":                      by(renewed, until(40*time.Minute)),
			"below another":                by(a.Below(t, until(50*time.Minute)), until(40*time.Minute)),
			"below one that expires":       by(a.Below(t, until(10*time.Minute)), until(40*time.Minute)),
			"below another of the renewed": by(renewed.Below(t, until(50*time.Minute)), until(40*time.Minute)),
			"none":                         shake(t, s, &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", NextProtos: []string{"h2"}}),
		}
		check := func(when string, want map[string]error) {
			t.Helper()
			for name, client := range clients {
				leaf, err := client.Certificate()
				good := leaf != nil && leaf.DNSNames[0] == "client.test"
				if err != want[name] || good != (err == nil && name != "none") {
					t.Errorf("%s, %s: got a certificate: %v; %v", when, name, leaf != nil, err)
				}
			}
		}
		check("at first", nil)
		trust(a, removed, renewed.Renewed(t))
		check("when an authority has another certificate", nil)
		trust(a, renewed.Renewed(t))
		gone := map[string]error{"removed": ErrUntrusted}
		check("when another one is removed", gone)
		time.Sleep(time.Until(begun.Add(10 * time.Minute)))
		check("in the last moment", gone)
		time.Sleep(time.Second)
		gone["short"], gone["below one that expires"] = ErrExpired, ErrUntrusted
		check("after ten minutes", gone)
		trust(a, removed, renewed)
		delete(gone, "removed")
		check("when it is there again", gone)
		time.Sleep(time.Hour)
		for name := range clients {
			gone[name] = ErrExpired
		}
		delete(gone, "none")
		check("after all", gone)
	})
}
