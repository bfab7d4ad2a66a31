package bridge_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
)

// The bridge on a socket, where streams take their connections from net/http.

// socket is an http.Server that serves a bridge.
type socket struct {
	bridge *bridge.Bridge
	server *http.Server
	addr   string

	mu    sync.Mutex // guards the two below
	conns []net.Conn // that net/http got, new ones and those that came back
	taken int        // that the bridge took
}

func listen(t *testing.T, play func(eventStream) error, back bool, change ...func(*http.Server)) *socket {
	t.Helper()
	return serveBridge(t, newBridge(t, play, bridge.Config{}), back, change...)
}

func serveBridge(t *testing.T, b *bridge.Bridge, back bool, change ...func(*http.Server)) *socket {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{bridge: b, addr: l.Addr().String()}
	s.server = &http.Server{Handler: s.bridge, ConnState: func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.conns = append(s.conns, c)
		case http.StateHijacked:
			s.taken++
		}
	}}
	for _, c := range change {
		c(s.server)
	}
	if back {
		l = s.bridge.Listener(l)
	}
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(l) }()
	t.Cleanup(func() {
		s.server.Close()
		s.bridge.Close()
		s.bridge.Wait()
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("the server ended with %v", err)
		}
	})
	return s
}

// client is a client on one connection.
type client struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func (s *socket) dial(t *testing.T) *client {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // a test that hangs fails
	return &client{t, c, bufio.NewReader(c)}
}

const (
	postStream = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"x\"}"
	postWhole  = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"x\"}"
	getStream  = "GET /v1/completions/cmpl_x/events HTTP/1.1\r\nHost: x\r\n\r\n"
	getAlive   = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
)

// send sends raw bytes.
func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.t.Fatal(err)
	}
}

// response reads the head of a response.
func (c *client) response() *http.Response {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// whole reads a response, which must have the status and the body.
func (c *client) whole(status int, body string) *http.Response {
	c.t.Helper()
	resp := c.response()
	got, err := io.ReadAll(resp.Body)
	if resp.StatusCode != status || !strings.Contains(string(got), body) || err != nil {
		c.t.Errorf("got %s, %q, %v; want %d, %q", resp.Status, got, err, status, body)
	}
	return resp
}

// over fails the test unless the server closes the connection.
func (c *client) over() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Errorf("got %q, %v; want the connection's end", rest, err)
	}
}

func playShort(s eventStream) error {
	return errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, "a"), finished(s, 3))
}

// One connection serves streams and other requests, as often as one likes.
func TestConnectionStays(t *testing.T) {
	s := listen(t, playShort, true)
	c := s.dial(t)
	for range 3 {
		c.send(postStream)
		resp := c.whole(200, block1+block2+block3)
		if resp.Close || resp.Header.Get("Date") == "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" ||
			resp.Header.Get("Location") != "/v1/completions/cmpl_x" || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("got %v", resp.Header)
		}
		c.send(getAlive)
		c.whole(200, "ok\n")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) != 4 {
		t.Errorf("net/http got %d connections, want one, and that back three times", len(s.conns))
	}
	for _, c := range s.conns[1:] {
		if inner := bridge.Unwrap(c); inner != s.conns[0] {
			t.Errorf("there came back a %T in a %T", inner, c)
		}
	}
}

// What a client sends during a stream is its next request.
func TestPipelined(t *testing.T) {
	for name, when := range map[string]func(c *client, more func()){
		"with the request": func(c *client, more func()) { c.send(postStream + getAlive + postStream + getAlive); more() },
		"during the stream": func(c *client, more func()) {
			c.send(postStream)
			head, err := c.r.Peek(1)
			if err != nil || head[0] != 'H' {
				c.t.Errorf("got %q, %v", head, err)
			}
			c.send(getAlive + postStream + getAlive)
			more()
		},
	} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			s := listen(t, func(s eventStream) error {
				if err := errors.Join(named(s, "cmpl_x"), created(s)); err != nil {
					return err
				}
				<-gate
				return errors.Join(delta(s, 2, "a"), finished(s, 3))
			}, true)
			c := s.dial(t)
			when(c, func() { close(gate) })
			for range 2 {
				c.whole(200, block1+block2+block3)
				c.whole(200, "ok\n")
			}
		})
	}
}

// A client that sends far ahead costs no more with each request.
func TestPipelinedFarAhead(t *testing.T) {
	const requests = 2000
	s := listen(t, func(s eventStream) error { return named(s, "cmpl_x") }, true)
	c := s.dial(t)
	go func() { _, _ = io.WriteString(c, strings.Repeat(getStream, requests)) }()
	for range requests {
		c.whole(204, "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, given := range s.conns[1:] {
		if inner := bridge.Unwrap(given); inner != s.conns[0] {
			t.Fatalf("after %d requests there came back a %T in a %T", i+1, inner, given)
		}
	}
}

// Responses that are no stream.
func TestConnectionOtherResponses(t *testing.T) {
	s := listen(t, func(s eventStream) error { return failed(codes.NotFound, "COMPLETION_NOT_FOUND") }, true)
	c := s.dial(t)
	c.send(getStream)
	if resp := c.whole(404, `"reason":"COMPLETION_NOT_FOUND"`); resp.ContentLength <= 0 || len(resp.TransferEncoding) > 0 {
		t.Errorf("got the length %d", resp.ContentLength)
	}
	s = listen(t, func(s eventStream) error { return named(s, "cmpl_x") }, true)
	c = s.dial(t)
	for range 2 {
		c.send(getStream)
		if resp := c.whole(204, ""); resp.Header["Content-Length"] != nil || len(resp.TransferEncoding) > 0 {
			t.Errorf("204 has a body: %v", resp.Header)
		}
	}
}

// A connection is closed when the client wants it, or the server has no way to get
// it back, and is not taken where that would not do.
func TestConnectionCloses(t *testing.T) {
	for _, tc := range []struct {
		name, request string
		back          bool
		says          bool // that it closes
		taken         int
	}{
		{"the client says so", strings.Replace(postStream, "\r\n", "\r\nConnection: close\r\n", 1), true, true, 1},
		{"no way back", postStream, false, true, 1},
		{"HTTP/1.0", strings.Replace(postStream, "1.1", "1.0", 1), true, true, 0},
		{"a GET with a body", strings.Replace(getStream, "\r\n\r\n", "\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 1), true, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := listen(t, playShort, tc.back)
			c := s.dial(t)
			c.send(tc.request)
			if resp := c.whole(200, block1+block2+block3); resp.Close != tc.says {
				t.Errorf("it says that it closes: %v", resp.Close)
			}
			c.over()
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.taken != tc.taken {
				t.Errorf("%d connections are taken, want %d", s.taken, tc.taken)
			}
		})
	}
}

// A client that leaves ends its stream, at once, and half closing is leaving.
func TestConnectionLeft(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn) error{
		"closed": (*net.TCPConn).Close, "half closed": (*net.TCPConn).CloseWrite,
		"reset": func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			s := listen(t, func(s eventStream) error {
				err := errors.Join(named(s, "cmpl_x"), created(s))
				<-s.Context().Done()
				ended <- err
				return context.Cause(s.Context())
			}, true)
			c := s.dial(t)
			c.send(postStream)
			c.response()
			if err := leave(c.Conn.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the stream goes on")
			}
			s.bridge.Wait()
		})
	}
}

// A stream that is cut, or goes wrong, loses its connection without the last chunk,
// so that its client does not take it for complete; others go on.
func TestConnectionCut(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		s := listen(t, func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), created(s)); err != nil {
				return err
			}
			return wait(s.Context(), time.Minute)
		}, true)
		c := s.dial(t)
		c.send(postStream)
		resp := c.response()
		s.bridge.Close()
		if got, err := io.ReadAll(resp.Body); string(got) != block1 || err != io.ErrUnexpectedEOF {
			t.Errorf("got %q, %v", got, err)
		}
		s.bridge.Wait()
	})
	t.Run("panic", func(t *testing.T) {
		s := listen(t, func(s eventStream) error {
			if err := errors.Join(named(s, "cmpl_x"), created(s)); err != nil {
				return err
			}
			panic("a fault")
		}, true)
		for range 2 {
			c := s.dial(t)
			c.send(postStream)
			if got, err := io.ReadAll(c.response().Body); string(got) != block1 || err != io.ErrUnexpectedEOF {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
}

// Between two requests a connection is net/http's to close, in its time or at the
// end.
func TestIdleConnection(t *testing.T) {
	t.Run("shutdown", func(t *testing.T) {
		s := listen(t, playShort, true)
		c := s.dial(t)
		c.send(postStream)
		c.whole(200, block3)
		start := time.Now()
		if err := s.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		c.over()
		if took := time.Since(start); took > 3*time.Second { // it takes 5 for a connection that has just come
			t.Errorf("it took %v", took)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		s := listen(t, playShort, true, func(s *http.Server) { s.IdleTimeout = 50 * time.Millisecond })
		c := s.dial(t)
		c.send(postStream)
		c.whole(200, block3)
		c.over()
	})
	t.Run("the header's timeout is not for the wait", func(t *testing.T) {
		const timeout = 50 * time.Millisecond
		s := listen(t, playShort, true, func(s *http.Server) { s.ReadHeaderTimeout = timeout })
		c := s.dial(t)
		c.send(postStream)
		c.whole(200, block3)
		_ = c.SetReadDeadline(time.Now().Add(3 * timeout))
		if _, err := c.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v; want that it stays open", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		c.send(postStream)
		c.whole(200, block3)
		c.send(getAlive[:8]) // and no more
		start := time.Now()
		if _, err := io.ReadAll(c); err != nil || time.Since(start) > 5*time.Second { // of what net/http says
			t.Errorf("got %v after %v; want the connection's end", err, time.Since(start))
		}
	})
	t.Run("closed by the client", func(t *testing.T) {
		s := listen(t, playShort, true)
		c := s.dial(t)
		c.send(postStream)
		c.whole(200, block3)
		c.Close()
		c = s.dial(t)
		c.send(postStream)
		c.whole(200, block3)
	})
}

// forgetful is a connection to a server that is silent, and knows a request only
// as long as others do.
type forgetful struct {
	grpc.ClientConnInterface
	request chan weak.Pointer[completionv1.CompletionRequest]
}

func (f forgetful) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &forgetfulStream{ctx: ctx, request: f.request}, nil
}

type forgetfulStream struct {
	grpc.ClientStream
	ctx     context.Context
	request chan weak.Pointer[completionv1.CompletionRequest]
}

func (f *forgetfulStream) SendMsg(m any) error {
	f.request <- weak.Make(m.(*completionv1.CompletionRequest))
	return nil
}

func (f *forgetfulStream) CloseSend() error { return nil }
func (f *forgetfulStream) Header() (metadata.MD, error) {
	return metadata.Pairs("completion-id", "cmpl_x"), nil
}

func (f *forgetfulStream) RecvMsg(any) error {
	<-f.ctx.Done()
	return context.Cause(f.ctx)
}

// forgetfulDirect is the same with a connection that pushes.
type forgetfulDirect struct{ forgetful }

func (f forgetfulDirect) Stream(ctx context.Context, _ string, request any, _ inproc.Receiver, _ ...grpc.CallOption) error {
	f.request <- weak.Make(request.(*completionv1.CompletionRequest))
	<-ctx.Done()
	return context.Cause(ctx)
}

// A stream does not hold its request, which may be large.
func TestRequestIsNotHeld(t *testing.T) {
	requests := make(chan weak.Pointer[completionv1.CompletionRequest], 1)
	for name, conn := range map[string]grpc.ClientConnInterface{
		"pushed": forgetfulDirect{forgetful{request: requests}}, "received": forgetful{request: requests},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := bridge.New(conn, bridge.Config{})
			if err != nil {
				t.Fatal(err)
			}
			s := serveBridge(t, b, true)
			c := s.dial(t)
			c.send(postStream)
			request := <-requests
			for deadline := time.Now().Add(10 * time.Second); request.Value() != nil; runtime.GC() {
				if time.Now().After(deadline) {
					t.Fatal("the request is still held")
				}
			}
		})
	}
}

// Under TLS a connection cannot go back: the listener has only what is encrypted.
func TestConnectionUnderTLS(t *testing.T) {
	b := newBridge(t, playShort, bridge.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(b)
	srv.Listener.Close()
	srv.Listener = b.Listener(l)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	for range 2 {
		resp, err := srv.Client().Post(srv.URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != block1+block2+block3 || err != nil || !resp.Close || resp.ProtoMajor != 1 {
			t.Errorf("got %s, %q, %v; it closes: %v", resp.Proto, got, err, resp.Close)
		}
	}
	b.Wait()
}

// Both calls that a POST from the terminal event makes are the caller's.
func TestBothCallsAreTheCallers(t *testing.T) {
	calls := make(chan []string, 2)
	s := listen(t, func(s eventStream) error {
		calls <- metadata.ValueFromIncomingContext(s.Context(), "authorization")
		if err := named(s, "cmpl_x"); err != nil || len(calls) == 1 {
			return err
		}
		return finished(s, 3)
	}, true)
	c := s.dial(t)
	c.send(strings.Replace(postStream, "\r\n", "\r\nAuthorization: Bearer me\r\nLast-Event-ID: cmpl_x_3\r\n", 1))
	c.whole(200, "id: cmpl_x_3\n\n")
	for range 2 {
		if got := <-calls; len(got) != 1 || got[0] != "Bearer me" {
			t.Errorf("a call by %q", got)
		}
	}
}

// A client that takes nothing has little made for it, though the system would take
// megabytes.
func TestUnreadIsBounded(t *testing.T) {
	const most = 1 << 20
	text, begun := strings.Repeat("x", 1<<10), make(chan struct{})
	b := newBridge(t, func(s eventStream) error {
		close(begun)
		err := errors.Join(named(s, "cmpl_x"), created(s))
		for n := int32(2); err == nil && n < 16<<10; n++ {
			err = delta(s, n, text)
		}
		return err
	}, bridge.Config{WriteTimeout: 200 * time.Millisecond})
	s := serveBridge(t, b, true)
	c := s.dial(t)
	c.send(postStream)
	<-begun
	b.Wait() // until it is let go
	if got, _ := io.Copy(io.Discard, c); got == 0 || got > most {
		t.Errorf("%d bytes were made for a client that took none", got)
	}
}
