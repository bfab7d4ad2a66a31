package http1_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/http1"
)

// respond is what responses on connections of their own are made by.
type respond func(ctx *http1.Context, w http.ResponseWriter) (whole bool)

// socket is an http.Server that answers /plain by itself, and all else in responses of
// Conns.
type socket struct {
	http1  *http1.Conns
	server *http.Server
	addr   string

	mu       sync.Mutex // guards the two below
	conns    []net.Conn // that net/http got, new ones and those that came back
	hijacked int        // how many were taken from it
}

func listen(t *testing.T, play respond, back bool, change ...func(*socket)) *socket {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{http1: http1.New(http1.Config{WriteTimeout: 10 * time.Second, Log: slog.New(slog.DiscardHandler)}), addr: l.Addr().String()}
	s.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.URL.Path == "/plain" {
				_, _ = io.WriteString(w, "ok\n")
				return
			}
			w.Header().Set("X-Name", "value")
			s.http1.Respond(w, r, context.WithValue(r.Context(), valueKey{}, r.Method), play)
		}),
		ConnState: func(c net.Conn, state http.ConnState) {
			s.mu.Lock()
			defer s.mu.Unlock()
			switch state {
			case http.StateNew:
				s.conns = append(s.conns, c)
			case http.StateHijacked:
				s.hijacked++
			}
		},
	}
	for _, c := range change {
		c(s)
	}
	if back {
		l = s.http1.Listener(l)
	}
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(l) }()
	t.Cleanup(func() {
		s.server.Close()
		s.http1.Close()
		s.http1.Wait()
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("the server ended with %v", err)
		}
	})
	return s
}

// valueKey is that of the request's method in its context.
type valueKey struct{}

const (
	postLong = "POST /long HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
	getLong  = "GET /long HTTP/1.1\r\nHost: x\r\n\r\n"
	getPlain = "GET /plain HTTP/1.1\r\nHost: x\r\n\r\n"
	three    = "one\ntwo\nthree\n"
)

// playThree writes a response in three chunks.
func playThree(_ *http1.Context, w http.ResponseWriter) bool {
	return write(w, "one\n") && write(w, "two\n") && write(w, "three\n")
}

// write writes data as the bridge does.
func write(w http.ResponseWriter, data string) bool {
	conn, ok := w.(*http1.Conn)
	if !ok {
		_, err := io.WriteString(w, data)
		return err == nil && http.NewResponseController(w).Flush() == nil
	}
	b := http1.GetBuffer()
	defer http1.PutBuffer(b)
	*b = append(*b, data...)
	return conn.WriteChunk(*b) == nil
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
