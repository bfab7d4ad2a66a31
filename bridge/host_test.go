package bridge_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge"
)

// A page whose name resolves to this machine passes for its own origin here: only the
// Host tells. The forms are those that real clients send.
func TestHosts(t *testing.T) {
	tests := []struct {
		host  string
		other bool // another server's
	}{
		{host: "localhost:8080"}, {host: "localhost"}, {host: "LocalHost:1"}, {host: "localhost."}, {host: "localhost.:8080"}, {host: "localhost:"},
		{host: "127.0.0.1"}, {host: "127.0.0.1:80"}, {host: "127.8.9.10:8080"}, {host: "127.0.0.1."},
		{host: "[::1]"}, {host: "[::1]:8080"}, {host: "[0:0:0:0:0:0:0:1]:8080"}, {host: "[::ffff:127.0.0.1]:8080"},
		{host: "sluice.test:8080"}, {host: "SLUICE.test"}, {host: "10.1.2.3:8080"},
		{host: ""}, // a probe over HTTP/1.0

		{host: "evil.example", other: true}, {host: "evil.example:8080", other: true},
		{host: "localhost.evil.example", other: true}, {host: "evil.localhost", other: true}, {host: "notlocalhost", other: true}, {host: "localhost..", other: true},
		{host: "127.0.0.1.evil.example", other: true}, {host: "127.0.0.1.nip.io:8080", other: true},
		{host: "localhost@evil.example", other: true}, {host: "evil.example@localhost", other: true},
		{host: "evil.example:80:localhost", other: true}, {host: "[::1].evil.example", other: true}, {host: "[::1", other: true},
		{host: "0.0.0.0:8080", other: true}, {host: "[::]:8080", other: true}, {host: "192.168.1.5:8080", other: true}, {host: "[fe80::1]:8080", other: true}, {host: "127.1", other: true}, {host: "2130706433", other: true},
		{host: ".", other: true}, {host: ":8080", other: true}, {host: "sub.sluice.test", other: true},
	}
	b := newBridge(t, playShort, bridge.Config{Hosts: []string{"sluice.test:8080", "10.1.2.3"}})
	routes := []string{"POST /v1/completions", "GET /v1/completions/cmpl_x/events", "GET /v1/models", "GET /", "GET /healthz", "HEAD /readyz", "OPTIONS /v1/completions", "GET /nowhere"}
	for i, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			for _, route := range append(routes[i%len(routes):], routes[0]) {
				method, path, _ := strings.Cut(route, " ")
				req, err := http.NewRequest(method, "http://x"+path, strings.NewReader(`{"prompt":"x"}`))
				if err != nil {
					t.Fatal(err)
				}
				req.Host = tt.host
				req.Header.Set("Origin", "http://"+tt.host) // the page's own
				r := newRecorder()
				b.ServeHTTP(r, req)
				if got := r.code == http.StatusForbidden; got != tt.other {
					t.Errorf("%s: got %d %s", route, r.code, body(r))
				}
				if tt.other && method != "HEAD" && !strings.Contains(body(r), `"field":"Host"`) {
					t.Errorf("%s: the refusal is %s", route, body(r))
				}
			}
		})
	}
}

// Without names any Host is taken, and so it is with "*".
func TestAnyHost(t *testing.T) {
	for _, names := range [][]string{nil, {"sluice.test", "*"}} {
		b := newBridge(t, playShort, bridge.Config{Hosts: names})
		req, err := http.NewRequest("GET", "http://evil.example/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		r := newRecorder()
		if b.ServeHTTP(r, req); r.code != 200 {
			t.Errorf("%q: got %d", names, r.code)
		}
	}
}

func TestHostsMustBeHosts(t *testing.T) {
	for _, name := range []string{"", ":8080", "http://sluice.test", "sluice.test/", "me@sluice.test", "a,b", "*.sluice.test", "münchen.test", "a b"} {
		if _, err := bridge.New(nil, bridge.Config{Hosts: []string{name}}); err == nil {
			t.Errorf("%q is allowed", name)
		}
	}
}

// The name that counts is the one that the request has in the end, in each version of
// HTTP, and the address that a request came to is one.
func TestHostOnSocket(t *testing.T) {
	s := serveBridge(t, newBridge(t, playShort, bridge.Config{Hosts: []string{"sluice.test"}}))
	for request, code := range map[string]int{
		"GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n":                     403,
		"GET /healthz HTTP/1.1\r\nHost: " + s.addr + "\r\n\r\n":                   200,
		"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n":     403, // RFC 9112 section 3.2.2
		"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n":  400,
		"GET /healthz HTTP/1.1\r\n\r\n":                                           400,
		"GET /healthz HTTP/1.0\r\n\r\n":                                           200,
		"GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n":                     403,
		"GET /healthz HTTP/1.1\r\nHost:\r\n\r\n":                                  200,
		"GET /healthz HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n":           400,
		"GET http://u@evil.example/healthz HTTP/1.1\r\nHost: sluice.test\r\n\r\n": 403,
	} {
		c := s.dial(t)
		c.Send(request)
		resp := c.Response()
		if got, _ := io.ReadAll(resp.Body); resp.StatusCode != code {
			t.Errorf("%q: got %s, %s; want %d", request, resp.Status, got, code)
		}
	}
}

func TestHostOverHTTP2(t *testing.T) {
	protocols := &http.Protocols{}
	protocols.SetUnencryptedHTTP2(true)
	s := serveBridge(t, newBridge(t, playShort, bridge.Config{Hosts: []string{"sluice.test"}}), func(s *http.Server) { s.Protocols = protocols })
	transport := &http.Transport{Protocols: protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", s.addr)
	}}
	defer transport.CloseIdleConnections()
	for authority, code := range map[string]int{"evil.example": 403, "sluice.test": 200, "LOCALHOST:1": 200, s.addr: 200} {
		resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Post("http://"+authority+"/v1/completions", "application/json", bytes.NewBufferString(`{"prompt":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, _ = io.Copy(io.Discard, resp.Body); resp.StatusCode != code || resp.ProtoMajor != 2 {
			t.Errorf("%s: got %s over %s", authority, resp.Status, resp.Proto)
		}
		resp.Body.Close()
	}
}
