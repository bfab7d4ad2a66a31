package app

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// caller has one open connection, with a certificate, and a stream; over HTTP/1.1, one for
// each.
type caller interface {
	// stream begins a stream, and returns what waits for its next event.
	stream(t *testing.T) (next func() error)

	// ask asks for the models. It tells whether that went over the open connection.
	ask(t *testing.T) (answer codes.Code, open bool)
}

// TestOpenConnections has certificates expire, and an authority removed, while connections
// of their clients are open: what they ask for next is refused, and what runs goes on.
func TestOpenConnections(t *testing.T) {
	t.Parallel() // it waits for most of its time
	ours, stay, removed := testbed.NewAuthority(t), testbed.NewAuthority(t), testbed.NewAuthority(t)
	files := ours.NewCertFiles(t)
	testbed.WriteFile(t, files.CA, bytes.Join([][]byte{stay.PEM(), removed.PEM()}, nil))
	addrs := serveWith(t, interceptors{}, "--http=127.0.0.1:0", "--grpc=127.0.0.1:0", "--echo-interval=50ms", "--commit-window=1ms",
		"--tls-cert="+files.Cert, "--tls-key="+files.Key, "--tls-client-ca="+files.CA, "--allow-anonymous")
	end := time.Now().Add(4 * time.Second) // by then, those that expire are connected
	type client struct {
		caller
		name, protocol string
		next           func() error
	}
	var clients []client
	for _, name := range []string{"expires", "stays", "is removed"} {
		authority := map[string]*testbed.Authority{"expires": stay, "stays": stay, "is removed": removed}[name]
		pair, err := tls.X509KeyPair(authority.IssueAs(t, func(c *x509.Certificate) {
			if name == "expires" {
				c.NotAfter = end
			}
		}, "client.test"))
		if err != nil {
			t.Fatal(err)
		}
		config := &tls.Config{RootCAs: ours.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{pair}}
		for protocol, c := range map[string]caller{
			"http/1.1": newHTTPCaller(t, addrs[0], config, "http/1.1"), "h2": newHTTPCaller(t, addrs[0], config, "h2"), "grpc": newGRPCCaller(t, addrs[1], config),
		} {
			next := c.stream(t)
			if err := next(); err != nil {
				t.Fatalf("%s, %s: the stream does not begin: %v", name, protocol, err)
			}
			if answer, _ := c.ask(t); answer != codes.OK {
				t.Fatalf("%s, %s: got %v at first", name, protocol, answer)
			}
			clients = append(clients, client{c, name, protocol, next})
		}
	}
	testbed.WriteFile(t, files.CA, stay.PEM())
	time.Sleep(max(time.Until(end), time.Second) + 100*time.Millisecond) // files are looked at once a second
	for _, c := range clients {
		want, lost := codes.OK, codes.OK
		if c.name != "stays" {
			want, lost = codes.Unauthenticated, codes.Unavailable
			if c.protocol == "grpc" {
				lost = codes.Unauthenticated // until its connection is too old
			}
		}
		if answer, open := c.ask(t); answer != want || !open {
			t.Errorf("%s, %s: got %v; on the open connection: %v", c.name, c.protocol, answer, open)
		}
		for range 3 {
			if err := c.next(); err != nil {
				t.Errorf("%s, %s: the stream has ended: %v", c.name, c.protocol, err)
			}
		}
		if answer, open := c.ask(t); answer != lost || open != (answer == want) {
			t.Errorf("%s, %s: then got %v; on the open connection: %v", c.name, c.protocol, answer, open)
		}
	}
}

// long is a request whose answer takes longer than the test.
var long = strings.Repeat("word ", 1000)

type grpcCaller struct {
	client completionv1.CompletionServiceClient
}

func newGRPCCaller(t *testing.T, addr string, config *tls.Config) grpcCaller {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(credentials.NewTLS(config.Clone())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return grpcCaller{completionv1.NewCompletionServiceClient(conn)}
}

func (c grpcCaller) stream(t *testing.T) func() error {
	t.Helper()
	s, err := c.client.StreamCompletion(t.Context(), &completionv1.CompletionRequest{Prompt: &long})
	if err != nil {
		t.Fatal(err)
	}
	return func() error { _, err := s.Recv(); return err }
}

func (c grpcCaller) ask(t *testing.T) (codes.Code, bool) {
	t.Helper()
	_, err := c.client.ListModels(t.Context(), &completionv1.ListModelsRequest{})
	return status.Code(err), true // it has one
}

type httpCaller struct {
	client *http.Client
	url    string
}

func newHTTPCaller(t *testing.T, addr string, config *tls.Config, protocol string) httpCaller {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: config.Clone(), Protocols: &http.Protocols{}}
	transport.Protocols.SetHTTP1(protocol == "http/1.1")
	transport.Protocols.SetHTTP2(protocol == "h2")
	t.Cleanup(transport.CloseIdleConnections)
	return httpCaller{&http.Client{Transport: transport}, "https://" + addr}
}

func (c httpCaller) stream(t *testing.T) func() error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", c.url+"/v1/completions", strings.NewReader(`{"prompt":"`+long+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	r := bufio.NewReader(resp.Body)
	return func() error {
		for {
			line, err := r.ReadString('\n')
			if err != nil || strings.HasPrefix(line, "data:") {
				return err
			}
		}
	}
}

func (c httpCaller) ask(t *testing.T) (answer codes.Code, open bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { open = i.Reused }})
	req, err := http.NewRequestWithContext(ctx, "GET", c.url+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return codes.Unavailable, false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	switch resp.StatusCode {
	case 200:
		return codes.OK, open
	case 401:
		return codes.Unauthenticated, open
	}
	return codes.Unknown, open
}
