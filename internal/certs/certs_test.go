package certs

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// open opens all of the files.
func open(t *testing.T, f *testbed.CertFiles) (s *Store, log *strings.Builder) {
	t.Helper()
	log = &strings.Builder{}
	s, err := Open(Files(*f), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s, log
}

// connect connects a client to a server, which sends back what it gets, and has it send
// back a byte.
func connect(t *testing.T, server, client *tls.Config) (*tls.Conn, error) {
	t.Helper()
	theirs, ours := pipe(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c := tls.Server(ours, server)
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	if client.ServerName == "" {
		client = client.Clone()
		client.ServerName = "localhost"
	}
	c := tls.Client(theirs, client)
	t.Cleanup(func() { c.Close(); <-ended })
	return c, echo(c)
}

func echo(c net.Conn) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// pipe returns a connection's ends, which hold what is written, as a socket does.
func pipe(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, _ := l.Accept()
		accepted <- c
	}()
	client, err := l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	return client, <-accepted
}

// serial returns the number of the certificate that a server shows.
func serial(t *testing.T, server, client *tls.Config) string {
	t.Helper()
	c, err := connect(t, server, client)
	if err != nil {
		t.Fatal(err)
	}
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// A certificate that is renewed is used from the next second on, and cuts nothing.
func TestRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := testbed.NewAuthority(t)
		f := a.NewCertFiles(t)
		s, log := open(t, f)
		server, client := s.ServerConfig("h2"), a.Client(t)
		before, err := connect(t, server, client)
		if err != nil {
			t.Fatal(err)
		}
		first := before.ConnectionState().PeerCertificates[0].SerialNumber.String()
		f.Renew(t, a)
		if got := serial(t, server, client); got != first {
			t.Error("the files are looked at for each connection")
		}
		time.Sleep(interval)
		second := serial(t, server, client)
		if second == first {
			t.Error("the new certificate is not used")
		}
		if err := echo(before); err != nil {
			t.Errorf("the connection from before is cut: %v", err)
		}
		time.Sleep(interval)
		if got := serial(t, server, client); got != second || strings.Count(log.String(), "read again") != 1 {
			t.Errorf("files that have not changed are read again: %s", log)
		}
	})
}

// breaks are the ways in which files are no certificates, and what is said.
var breaks = []struct {
	name string
	do   func(t *testing.T, f *testbed.CertFiles)
	says string
}{
	{"another key", func(t *testing.T, f *testbed.CertFiles) {
		_, key := testbed.NewAuthority(t).Issue(t, "localhost")
		testbed.WriteFile(t, f.Key, key)
	}, "private key does not match"},
	{"a chain that is cut", func(t *testing.T, f *testbed.CertFiles) {
		whole := read(t, f.Cert) // the certificate, and its authority's
		testbed.WriteFile(t, f.Cert, whole[:len(whole)-100])
	}, "2 certificates in PEM begin there, and 1 are whole"},
	{"empty", func(t *testing.T, f *testbed.CertFiles) { testbed.WriteFile(t, f.Cert, nil) }, "cert.pem"},
	{"gone", func(t *testing.T, f *testbed.CertFiles) { remove(t, f.Key) }, "key.pem: no such file"},
	{"a folder", func(t *testing.T, f *testbed.CertFiles) {
		remove(t, f.CA)
		if err := os.Mkdir(f.CA, 0o700); err != nil {
			t.Fatal(err)
		}
	}, "ca.pem: not a regular file"},
	{"large", func(t *testing.T, f *testbed.CertFiles) {
		testbed.WriteFile(t, f.Cert, append(read(t, f.Cert), make([]byte, maxFile)...))
	}, "cert.pem: more than"},
	{"no authority", func(t *testing.T, f *testbed.CertFiles) { testbed.WriteFile(t, f.CA, []byte("# none\n")) }, "ca.pem: 0 certificates"},
	{"an authority that is cut", func(t *testing.T, f *testbed.CertFiles) {
		whole := read(t, f.CA)
		testbed.WriteFile(t, f.CA, append(append(whole, whole[:len(whole)/2]...), whole...))
	}, "ca.pem: 3 certificates in PEM begin there, and 1 are whole"},
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.RemoveAll(name); err != nil {
		t.Fatal(err)
	}
}

// Files that break while they are used leave what there was in force, and are told of
// once; at the start they are an error.
func TestBroken(t *testing.T) {
	for _, tt := range breaks {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := testbed.NewAuthority(t)
				f := a.NewCertFiles(t)
				s, log := open(t, f)
				server, client := s.ServerConfig("h2"), a.Client(t)
				first := serial(t, server, client)
				tt.do(t, f)
				for range 3 {
					time.Sleep(interval)
					if got := serial(t, server, client); got != first {
						t.Error("another certificate is used")
					}
				}
				if got := log.String(); strings.Count(got, "cannot be read again") != 1 || !strings.Contains(got, tt.says) || strings.Contains(got, "PRIVATE") {
					t.Errorf("the log says %s", got)
				}
				if _, err := Open(Files(*f), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("at the start: %v", err)
				}
				for _, name := range []string{f.Cert, f.Key, f.CA} {
					remove(t, name)
				}
				f.Renew(t, a)
				testbed.WriteFile(t, f.CA, a.PEM())
				time.Sleep(interval)
				if got := serial(t, server, client); got == first {
					t.Error("files that are in order again are not used")
				}
			})
		})
	}
}

func TestExpiredIsTold(t *testing.T) {
	a := testbed.NewAuthority(t)
	f := a.NewCertFiles(t)
	cert, key := a.IssueExpired(t, "localhost")
	testbed.WriteFile(t, f.Cert, cert)
	testbed.WriteFile(t, f.Key, key)
	if _, log := open(t, f); !strings.Contains(log.String(), "the certificate has expired") {
		t.Errorf("the log says %q", log)
	}
}

// Of a client whose authority is no longer trusted, nothing is let in: no certificate, and
// no session that began when it was. Others' sessions are only begun anew.
func TestRemovedAuthority(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, removed := testbed.NewAuthority(t), testbed.NewAuthority(t)
				f := a.NewCertFiles(t)
				testbed.WriteFile(t, f.CA, bytes.Join([][]byte{a.PEM(), removed.PEM()}, nil))
				s, _ := open(t, f)
				server := s.ServerConfig("h2")
				clients := map[string]*tls.Config{"stays": a.Client(t, "stays"), "goes": removed.Client(t, "goes"), "has none": a.Client(t)}
				begin := func(name string) (tls.ConnectionState, error) {
					c, err := connect(t, server, clients[name])
					return c.ConnectionState(), err
				}
				for name, c := range clients {
					c.RootCAs, c.MaxVersion, c.ClientSessionCache = a.Pool(), version, tls.NewLRUClientSessionCache(1)
					for _, resumed := range []bool{false, true} {
						if state, err := begin(name); err != nil || state.DidResume != resumed {
							t.Errorf("%s: %v; resumed: %v", name, err, state.DidResume)
						}
					}
				}
				testbed.WriteFile(t, f.CA, a.PEM())
				time.Sleep(interval)
				for name := range clients {
					state, err := begin(name)
					if (err == nil) != (name != "goes") || state.DidResume {
						t.Errorf("%s, after its authority was removed: %v; resumed: %v", name, err, state.DidResume)
					}
				}
			})
		})
	}
}

func TestProtocols(t *testing.T) {
	a := testbed.NewAuthority(t)
	s, _ := open(t, a.NewCertFiles(t))
	old := a.Client(t)
	old.MaxVersion, old.MinVersion = tls.VersionTLS11, tls.VersionTLS10
	if _, err := connect(t, s.ServerConfig("h2"), old); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	for _, tt := range []struct{ client, want []string }{
		{[]string{"http/1.1", "h2"}, []string{"h2"}}, {[]string{"http/1.1"}, []string{"http/1.1"}}, {nil, []string{""}},
	} {
		c := a.Client(t)
		c.NextProtos = tt.client
		conn, err := connect(t, s.ServerConfig("h2", "http/1.1"), c)
		if got := conn.ConnectionState().NegotiatedProtocol; err != nil || got != tt.want[0] {
			t.Errorf("with %q: got %q, %v", tt.client, got, err)
		}
	}
}

// A gRPC client looks at its files, too: whom it trusts, and who it is.
func TestClientCredentials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := testbed.NewAuthority(t), testbed.NewAuthority(t)
		f := a.NewCertFiles(t)
		s, _ := open(t, f)
		credentials := s.ClientCredentials().Clone()
		shake := func(by *testbed.Authority) (client string, err error) {
			pair, err := tls.X509KeyPair(by.Issue(t, "localhost"))
			if err != nil {
				t.Fatal(err)
			}
			theirs, ours := pipe(t)
			server := tls.Server(ours, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}, ClientAuth: tls.RequestClientCert})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				defer ours.Close()
				if server.Handshake() == nil {
					client = server.ConnectionState().PeerCertificates[0].SerialNumber.String()
				}
			}()
			conn, _, err := credentials.ClientHandshake(t.Context(), "localhost:1", theirs)
			<-ended
			if err == nil {
				conn.Close()
			}
			return client, err
		}
		first, err := shake(a)
		if _, other := shake(b); err != nil || other == nil {
			t.Errorf("got %v of ours and %v of another authority", err, other)
		}
		testbed.WriteFile(t, f.CA, b.PEM())
		f.Renew(t, a)
		time.Sleep(interval)
		second, err := shake(b)
		if _, other := shake(a); err != nil || other == nil || second == first {
			t.Errorf("got %v of the new authority and %v of the old one; the client's certificate is a new one: %v", err, other, second != first)
		}
	})
}
