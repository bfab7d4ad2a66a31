package e2e

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// overTLS are layouts in which each connection but the upstream's is over TLS.
var overTLS = []string{"one process over TLS", "two processes over TLS"}

// secured is the TLS of a program.
type secured struct {
	authority *testbed.Authority
	files     *testbed.CertFiles
	client    *http.Client
	config    *tls.Config // of a client that is somebody; nil: it is nobody
}

func newSecured(t testing.TB) *secured {
	t.Helper()
	s := &secured{authority: testbed.NewAuthority(t)}
	s.files = s.authority.NewCertFiles(t)
	s.client = newClient(t, s.authority.Client(t))
	return s
}

// args are the program's.
func (s *secured) args() []string {
	return []string{"--tls-cert=" + s.files.Cert, "--tls-key=" + s.files.Key}
}

// newClient returns a client that speaks HTTP/2, or else HTTP/1.1, over TLS.
func newClient(t testing.TB, config *tls.Config) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// httpClient returns a client of the HTTP face.
func (p *program) httpClient() *http.Client {
	if p.tls == nil {
		return http.DefaultClient
	}
	return p.tls.client
}

// clientTLS returns what a client needs for either face; nil: it speaks none.
func (p *program) clientTLS() *tls.Config {
	if p.tls == nil {
		return nil
	}
	if p.tls.config != nil {
		return p.tls.config.Clone()
	}
	return &tls.Config{RootCAs: p.tls.authority.Pool(), ServerName: "localhost"}
}

// credentials are those of a client of the gRPC face.
func (p *program) credentials() grpc.DialOption {
	creds := insecure.NewCredentials()
	if p.tls != nil {
		creds = credentials.NewTLS(p.clientTLS())
	}
	return grpc.WithTransportCredentials(creds)
}

// dial connects to the HTTP face, for HTTP/1.1: raw is the connection, over which conn may
// speak TLS.
func (p *program) dial(t testing.TB) (conn net.Conn, raw *net.TCPConn, host string) {
	t.Helper()
	_, host, _ = strings.Cut(p.http, "://")
	tcp, err := net.DialTimeout("tcp", host, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	if p.tls == nil {
		return tcp, tcp.(*net.TCPConn), host
	}
	return tls.Client(tcp, p.clientTLS()), tcp.(*net.TCPConn), host
}
