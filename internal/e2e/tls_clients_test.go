package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// TestBadClientCertificates checks that certificates which prove nothing get nobody in, on
// either face, and that when the authorities change, new connections are held against the
// new ones, and so is what is asked for on the old ones.
func TestBadClientCertificates(t *testing.T) {
	s, clients, others := e2etest.NewSecured(t), testbed.NewAuthority(t), testbed.NewAuthority(t)
	ca := t.TempDir() + "/clients.pem"
	testbed.WriteFile(t, ca, clients.PEM())
	p := &e2etest.Program{Log: &e2etest.LockedBuffer{}, TLS: s}
	addrs := e2etest.StartOne(t, p, nil, append(s.Args(), "--http=127.0.0.1:0", "--grpc=127.0.0.1:0", "--echo-interval=0s", "--tls-client-ca="+ca)...)
	p.HTTP, p.GRPC = addrs[0], addrs[1]
	// as returns a client who shows a certificate whatever authorities the server names.
	as := func(by *testbed.Authority, change func(*x509.Certificate), names ...string) *e2etest.Program {
		pair, err := tls.X509KeyPair(by.IssueAs(t, change, names...))
		if err != nil {
			t.Fatal(err)
		}
		config := &tls.Config{RootCAs: s.Authority.Pool(), ServerName: "localhost",
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }}
		return &e2etest.Program{HTTP: p.HTTP, GRPC: p.GRPC, TLS: &e2etest.Secured{Authority: s.Authority, Client: e2etest.NewClient(t, config), Config: config}}
	}
	// models tells what both faces say to a client: "ok", "refused", or "cut".
	models := func(c *e2etest.Program) (overHTTP, overGRPC string) {
		words := map[codes.Code]string{codes.OK: "ok", codes.Unauthenticated: "refused"}
		overHTTP, overGRPC = "cut", "cut"
		req, err := http.NewRequestWithContext(e2etest.ShortContext(t), "GET", c.HTTP+"/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := c.HTTPClient().Do(req); err == nil {
			resp.Body.Close()
			overHTTP = map[int]string{200: "ok", 401: "refused"}[resp.StatusCode]
		}
		if word := words[status.Code(grpcCalls["ListModels"](e2etest.ShortContext(t), c.Conn(t)))]; word != "" {
			overGRPC = word
		}
		return overHTTP, overGRPC
	}
	unchanged := func(*x509.Certificate) {}
	for _, tt := range []struct {
		name   string
		client *e2etest.Program
		want   string
	}{
		{"good", as(clients, unchanged, "spiffe://test/one"), "ok"},
		{"without names", as(clients, func(c *x509.Certificate) { c.DNSNames = nil }, "one"), "refused"},
		{"of an address", as(clients, unchanged, "127.0.0.1"), "refused"},
		{"of another authority", as(others, unchanged, "spiffe://test/one"), "cut"},
		{"expired", as(clients, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "one"), "cut"},
		{"not yet valid", as(clients, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, "one"), "cut"},
		{"for servers", as(clients, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "one"), "cut"},
		{"of a server, by the server's authority", as(s.Authority, unchanged, "localhost"), "cut"},
	} {
		if overHTTP, overGRPC := models(tt.client); overHTTP != tt.want || overGRPC != tt.want {
			t.Errorf("%s: got %s over HTTP, %s over gRPC, want %s", tt.name, overHTTP, overGRPC, tt.want)
		}
	}

	old := as(clients, unchanged, "spiffe://test/one")
	conn := old.Conn(t)
	if overHTTP, _ := models(old); overHTTP != "ok" || grpcCalls["ListModels"](e2etest.ShortContext(t), conn) != nil {
		t.Error("a good client is refused")
	}
	testbed.WriteFile(t, ca, others.PEM())
	e2etest.Eventually(t, "the new authority counts", func() bool {
		overHTTP, overGRPC := models(as(others, unchanged, "spiffe://test/two"))
		return overHTTP == "ok" && overGRPC == "ok"
	})
	if overHTTP, overGRPC := models(as(clients, unchanged, "spiffe://test/one")); overHTTP != "cut" || overGRPC != "cut" {
		t.Errorf("a client of the old authority: %s over HTTP, %s over gRPC", overHTTP, overGRPC)
	}
	if err := grpcCalls["ListModels"](e2etest.ShortContext(t), conn); status.Code(err) != codes.Unauthenticated {
		t.Errorf("on a connection from before: %v", err)
	}
}
