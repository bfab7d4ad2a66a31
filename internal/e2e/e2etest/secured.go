package e2etest

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

// OverTLS are layouts in which each connection but the upstream's is over TLS.
var OverTLS = []string{"one process over TLS", "two processes over TLS"}

// Secured is the TLS of a program.
type Secured struct {
	Authority *testbed.Authority
	Files     *testbed.CertFiles
	Client    *http.Client
	Config    *tls.Config // of a client that is somebody; nil: it is nobody
}

// NewSecured returns one with an authority and a certificate of its own.
func NewSecured(t testing.TB) *Secured {
	t.Helper()
	s := &Secured{Authority: testbed.NewAuthority(t)}
	s.Files = s.Authority.NewCertFiles(t)
	s.Client = NewClient(t, s.Authority.Client(t))
	return s
}

// Args are the program's.
func (s *Secured) Args() []string {
	return []string{"--tls-cert=" + s.Files.Cert, "--tls-key=" + s.Files.Key}
}

// NewClient returns a client that speaks HTTP/2, or else HTTP/1.1, over TLS.
func NewClient(t testing.TB, config *tls.Config) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// HTTPClient returns a client of the HTTP face.
func (p *Program) HTTPClient() *http.Client {
	if p.TLS == nil {
		return http.DefaultClient
	}
	return p.TLS.Client
}

// ClientTLS returns what a client needs for either face; nil: it speaks none.
func (p *Program) ClientTLS() *tls.Config {
	if p.TLS == nil {
		return nil
	}
	if p.TLS.Config != nil {
		return p.TLS.Config.Clone()
	}
	return &tls.Config{RootCAs: p.TLS.Authority.Pool(), ServerName: "localhost"}
}

// Credentials are those of a client of the gRPC face.
func (p *Program) Credentials() grpc.DialOption {
	creds := insecure.NewCredentials()
	if p.TLS != nil {
		creds = credentials.NewTLS(p.ClientTLS())
	}
	return grpc.WithTransportCredentials(creds)
}

// Dial connects to the HTTP face, for HTTP/1.1: raw is the connection, over which conn may
// speak TLS.
func (p *Program) Dial(t testing.TB) (conn net.Conn, raw *net.TCPConn, host string) {
	t.Helper()
	_, host, _ = strings.Cut(p.HTTP, "://")
	tcp, err := net.DialTimeout("tcp", host, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	if p.TLS == nil {
		return tcp, tcp.(*net.TCPConn), host
	}
	return tls.Client(tcp, p.ClientTLS()), tcp.(*net.TCPConn), host
}

// ShownBy returns the number of the certificate that a listener shows.
func ShownBy(t *testing.T, p *Program, addr string) string {
	t.Helper()
	config := p.ClientTLS()
	config.NextProtos = []string{"h2"}
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", addr, config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
}
