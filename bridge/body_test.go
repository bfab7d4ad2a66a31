package bridge_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-sse/sluice/bridge"
)

// pipes is a listener whose connections are pipes within the process, so that the
// clock of a synctest bubble holds for them.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.conns <- server
	return client, nil
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// onPipes serves a bridge within a bubble, and runs a test against it.
func onPipes(t *testing.T, play func(eventStream) error, config bridge.Config, test func(*testing.T, *pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBridge(t, play, config)
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Handler: b, IdleTimeout: time.Hour, Protocols: &http.Protocols{}}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
		done := make(chan error, 1)
		go func() { done <- server.Serve(b.Listener(p)) }()
		defer func() {
			server.Close()
			b.Close()
			b.Wait()
			if err := <-done; err != http.ErrServerClosed {
				t.Errorf("the server ended with %v", err)
			}
		}()
		test(t, p)
	})
}

// stalled are requests whose bodies stop in the middle. However they are refused,
// none may hold its connection for longer than a body may take.
var stalled = []struct {
	name   string
	head   string
	body   string // until it stops
	status int
}{
	{"a completion", "POST /v1/completions\r\nContent-Length: 14", `{"pro`, 408},
	{"nothing of it", "POST /v1/completions\r\nContent-Length: 14", "", 408},
	{"in chunks", "POST /v1/completions\r\nTransfer-Encoding: chunked", "5\r\n{\"pro\r\n", 408},
	{"within a chunk", "POST /v1/completions\r\nTransfer-Encoding: chunked", "e\r\n{\"pro", 408},
	{"a whole request, but not a whole body", "POST /v1/completions\r\nContent-Length: 99", `{"prompt":"Hi"}`, 408},
	{"a cancel by key", "POST /v1/completions:cancel\r\nContent-Length: 14", `{"ide`, 408},
	{"too large, and then stalled", "POST /v1/completions\r\nContent-Length: 2000", strings.Repeat(" ", 1500), 413},
	{"another content type", "POST /v1/completions\r\nContent-Type: text/plain\r\nContent-Length: 14", "Hello", 415},
	{"an encoding", "POST /v1/completions\r\nContent-Encoding: gzip\r\nContent-Length: 14", "\x1f\x8b", 415},
	{"an Accept that cannot be", "POST /v1/completions\r\nAccept: image/png\r\nContent-Length: 14", "Hello", 406},
	{"another origin", "POST /v1/completions\r\nSec-Fetch-Site: cross-site\r\nContent-Length: 14", "Hello", 403},
	{"another host", "POST /v1/completions\r\nHost: evil.example\r\nContent-Length: 14", "Hello", 403},
	{"no such path", "POST /v1/nothing\r\nContent-Length: 14", "Hello", 404},
	{"another method", "PUT /v1/completions\r\nContent-Length: 14", "Hello", 408},
	{"a GET with a body", "GET /healthz\r\nContent-Length: 14", "Hello", 408},
	{"events, with a body", "GET /v1/completions/cmpl_x/events\r\nContent-Length: 14", "Hello", 408},
}

// net/http reads on in a body that was left unread, before it answers: that must not
// be for ever.
func TestStalledBody(t *testing.T) {
	for _, tt := range stalled {
		t.Run(tt.name, func(t *testing.T) {
			onPipes(t, nil, bridge.Config{MaxBody: 1000, Hosts: []string{"sluice.test"}}, func(t *testing.T, p *pipes) {
				conn, _ := p.dial(t.Context(), "", "")
				defer conn.Close()
				start, line, rest := time.Now(), "", ""
				line, rest, _ = strings.Cut(tt.head, "\r\n")
				if !strings.HasPrefix(rest, "Host:") {
					rest = "Host: localhost\r\n" + rest
				}
				if _, err := io.WriteString(conn, line+" HTTP/1.1\r\n"+rest+"\r\n\r\n"+tt.body); err != nil {
					t.Fatal(err)
				}
				_ = conn.SetReadDeadline(start.Add(time.Hour))
				r := bufio.NewReader(conn)
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatalf("no answer after %v: %v", time.Since(start), err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != tt.status {
					t.Errorf("got %s, %v, want %d", resp.Status, err, tt.status)
				}
				if _, err := r.ReadByte(); err != io.EOF || time.Since(start) > 31*time.Second {
					t.Errorf("after %v the connection gives %v, want its end within 31 s", time.Since(start), err)
				}
			})
		})
	}
}

// A client that asks first whether its body is wanted, and sends it only then, need not
// wait for a refusal, nor is it told to go on (RFC 9110 section 10.1.1).
func TestRefusedBeforeBody(t *testing.T) {
	for _, tt := range stalled {
		if tt.status == 408 {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			onPipes(t, nil, bridge.Config{MaxBody: 1000, Hosts: []string{"sluice.test"}}, func(t *testing.T, p *pipes) {
				conn, _ := p.dial(t.Context(), "", "")
				defer conn.Close()
				start := time.Now()
				line, rest, _ := strings.Cut(tt.head, "\r\n")
				if !strings.HasPrefix(rest, "Host:") {
					rest = "Host: localhost\r\n" + rest
				}
				if _, err := io.WriteString(conn, line+" HTTP/1.1\r\nExpect: 100-continue\r\n"+rest+"\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); resp.StatusCode != tt.status || !resp.Close || took > 0 {
					t.Errorf("got %s after %v, and it says that it closes: %v; want %d at once", resp.Status, took, resp.Close, tt.status)
				}
			})
		})
	}
}

// Over HTTP/2, the connection is for other requests, too: only the stream ends.
func TestStalledBodyHTTP2(t *testing.T) {
	onPipes(t, nil, bridge.Config{}, func(t *testing.T, p *pipes) {
		transport := &http.Transport{DialContext: p.dial, Protocols: &http.Protocols{}}
		transport.Protocols.SetUnencryptedHTTP2(true)
		defer transport.CloseIdleConnections()
		for _, tt := range []struct {
			path, contentType string
			status            int
		}{{"/v1/completions", "", 408}, {"/v1/completions", "text/plain", 415}, {"/v1/nothing", "", 404}, {"/healthz", "", 200}} {
			start := time.Now()
			body, stop := io.Pipe()
			method := "POST"
			if tt.status == 200 {
				method, body = "GET", nil
			}
			req, _ := http.NewRequestWithContext(t.Context(), method, "http://localhost"+tt.path, nil)
			if body != nil {
				req.Body, req.ContentLength = body, 14
				go func() { _, _ = stop.Write([]byte(`{"pro`)) }()
			}
			if tt.contentType != "" {
				req.Header.Set("Content-Type", tt.contentType)
			}
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v after %v", tt.path, err, time.Since(start))
			}
			_, err = io.Copy(io.Discard, resp.Body)
			if err != nil || resp.StatusCode != tt.status || resp.ProtoMajor != 2 || time.Since(start) > 31*time.Second {
				t.Errorf("%s: got %s %s, %v after %v, want %d within 31 s", tt.path, resp.Proto, resp.Status, err, time.Since(start), tt.status)
			}
			stop.Close()
		}
	})
}

// However a request is answered, a client that takes nothing of it does not hold its
// connection for longer than the write timeout.
func TestNothingTaken(t *testing.T) {
	const head = " HTTP/1.1\r\nHost: localhost\r\n"
	play := func(s eventStream) error { return named(s, "cmpl_x") }
	for name, request := range map[string]string{
		"no events":           "GET /v1/completions/cmpl_x/events" + head + "Last-Event-ID: cmpl_x_3\r\n\r\n",
		"no events, HTTP/1.0": "GET /v1/completions/cmpl_x/events HTTP/1.0\r\nHost: localhost\r\nLast-Event-ID: cmpl_x_3\r\n\r\n",
		"the head of events":  "HEAD /v1/completions/cmpl_x/events" + head + "\r\n",
		"a preflight":         "OPTIONS /v1/completions" + head + "Origin: https://pages.test\r\nAccess-Control-Request-Method: POST\r\n\r\n",
		"no stream":           "POST /v1/completions" + head + "Last-Event-ID: x\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"x\"}",
		"a page":              "GET /" + head + "\r\n",
		"alive":               "GET /healthz" + head + "\r\n",
		"nothing there":       "GET /nowhere" + head + "\r\n",
		"another host":        "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			onPipes(t, play, bridge.Config{Hosts: []string{"sluice.test"}, CORSOrigins: []string{"https://pages.test"}}, func(t *testing.T, p *pipes) {
				conn, _ := p.dial(t.Context(), "", "")
				defer conn.Close()
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				time.Sleep(31 * time.Second)
				_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
				if _, err := io.WriteString(conn, "\r\n"); err != io.ErrClosedPipe {
					t.Errorf("the connection is still open: %v", err)
				}
			})
		})
	}
}

// The deadline is the body's: a stream whose request took long to arrive, or whose
// GET has a body, lasts as long as it does.
func TestStreamOutlivesBodyDeadline(t *testing.T) {
	play := func(s eventStream) error {
		if err := errors.Join(named(s, "cmpl_x"), created(s)); err != nil {
			return err
		}
		time.Sleep(2 * time.Minute)
		return finished(s, 2)
	}
	for _, request := range []string{
		"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n",
		"POST /v1/completions HTTP/1.0\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n",
		"GET /v1/completions/cmpl_x/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n",
	} {
		t.Run(strings.Fields(request)[0], func(t *testing.T) {
			onPipes(t, play, bridge.Config{}, func(t *testing.T, p *pipes) {
				conn, _ := p.dial(t.Context(), "", "")
				defer conn.Close()
				_, _ = io.WriteString(conn, request+`{"prompt"`)
				time.Sleep(20 * time.Second)
				_, _ = io.WriteString(conn, `:"Hi"}`)
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(resp.Body)
				if err != nil || !strings.Contains(string(got), "event: finished") {
					t.Errorf("got %s %q, %v", resp.Status, got, err)
				}
			})
		})
	}
}
