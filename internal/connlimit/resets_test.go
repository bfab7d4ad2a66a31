package connlimit_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-sse/sluice/internal/connlimit"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// perSecond is how many resets are allowed in these tests in the long run, and atOnce how
// many at once.
const perSecond, atOnce = 20, 100

// begin begins HTTP/2 on a connection.
func begin(t *testing.T, c net.Conn) *testbed.HTTP2 {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	h, err := testbed.NewHTTP2(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// closes tells whether the connection is closed, before another reset would be allowed.
func closes(c *testbed.HTTP2) bool {
	select {
	case <-c.Ended:
		return true
	case <-time.After(time.Second / perSecond / 2):
		return false
	}
}

// TestHTTP checks that requests that are broken off count, with TLS and without, that one
// too many closes their connection, and no other one, and that requests that end do not
// count.
func TestHTTP(t *testing.T) {
	for name, withTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			begun, closed := make(chan bool, 1), make(chan net.Addr, 10)
			limit := &connlimit.HTTP{PerSecond: perSecond, Closed: func(remote net.Addr) { closed <- remote }}
			s := httptest.NewUnstartedServer(limit.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" {
					return
				}
				begun <- true
				<-r.Context().Done()
				panic(http.ErrAbortHandler) // as the bridge ends what is broken off
			})))
			s.Config.ConnContext = limit.ConnContext
			s.Config.Protocols = &http.Protocols{}
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Config.Protocols.SetHTTP2(true)
			dial := func() (net.Conn, error) { return net.Dial("tcp", s.Listener.Addr().String()) }
			if withTLS {
				s.EnableHTTP2 = true
				s.StartTLS()
				config := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
				config.NextProtos, config.ServerName = []string{"h2"}, "example.com"
				dial = func() (net.Conn, error) { return tls.Dial("tcp", s.Listener.Addr().String(), config) }
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			var clients []*testbed.HTTP2
			for range 2 {
				c, err := dial()
				if err != nil {
					t.Fatal(err)
				}
				clients = append(clients, begin(t, c))
			}
			bad, good := clients[0], clients[1]
			for range 10 * atOnce { // ended before they can be broken off
				_, _ = good.Request(true, ":method", "GET", ":scheme", "http", ":authority", "x", ":path", "/")
			}
			breakOff := func(c *testbed.HTTP2) {
				stream, _ := c.Request(false, ":method", "POST", ":scheme", "http", ":authority", "x", ":path", "/")
				select {
				case <-begun:
				case <-c.Ended: // by the one before
				}
				_ = c.WriteRSTStream(stream, http2.ErrCodeCancel)
			}
			for range atOnce {
				breakOff(bad)
			}
			if closes(bad) {
				t.Fatalf("it is closed after %d", atOnce)
			}
			for range 2 * atOnce { // what may have become free in the meantime, and one
				breakOff(bad)
			}
			select {
			case remote := <-closed:
				if remote.String() != bad.LocalAddr().String() {
					t.Errorf("%v is closed", remote)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it stays open")
			}
			<-bad.Ended
			breakOff(good)
			if closes(good) {
				t.Error("the other one is closed, too")
			}
		})
	}
}

// TestGRPC checks the same of a grpc.Server, whose handlers do not even begin.
func TestGRPC(t *testing.T) {
	a := testbed.NewAuthority(t)
	pair, err := tls.X509KeyPair(a.Issue(t, "localhost"))
	if err != nil {
		t.Fatal(err)
	}
	for name, creds := range map[string]credentials.TransportCredentials{
		"plain": insecure.NewCredentials(), "TLS": credentials.NewServerTLSFromCert(&pair),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they wait
			l, closed := listen(t), make(chan net.Addr, 10)
			s := grpc.NewServer(grpc.Creds(connlimit.GRPC(creds, perSecond, func(remote net.Addr) { closed <- remote })))
			healthpb.RegisterHealthServer(s, health.NewServer())
			go func() { _ = s.Serve(l) }()
			t.Cleanup(s.Stop)

			theirs := insecure.NewCredentials()
			if name == "TLS" {
				theirs = credentials.NewTLS(&tls.Config{RootCAs: a.Pool(), ServerName: "localhost"})
			}
			good, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(theirs))
			if err != nil {
				t.Fatal(err)
			}
			defer good.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			watch, err := healthpb.NewHealthClient(good).Watch(ctx, &healthpb.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); err != nil {
				t.Fatal(err)
			}

			raw, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if name == "TLS" {
				raw = tls.Client(raw, &tls.Config{RootCAs: a.Pool(), ServerName: "localhost", NextProtos: []string{"h2"}})
			}
			bad := begin(t, raw)
			breakOff := func() {
				stream, _ := bad.Request(false, ":method", "POST", ":scheme", "http", ":authority", "x", ":path", "/grpc.health.v1.Health/Check", "content-type", "application/grpc")
				_ = bad.WriteRSTStream(stream, http2.ErrCodeCancel)
			}
			for range atOnce {
				breakOff()
			}
			if closes(bad) {
				t.Fatalf("it is closed after %d", atOnce)
			}
			for range 5 * atOnce { // it is read ever more slowly
				breakOff()
			}
			select {
			case <-closed:
			case <-time.After(10 * time.Second):
				t.Fatal("it stays open")
			}
			<-bad.Ended
			for range 10 * atOnce { // calls that end do not count
				if _, err := healthpb.NewHealthClient(good).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
					t.Fatalf("the other connection: %v", err)
				}
			}
		})
	}
}
