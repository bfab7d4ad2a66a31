package http1_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/http1"
	"github.com/sluice-sse/sluice/bridge/http1/http1test"
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

func (s *socket) dial(t *testing.T) *http1test.Client {
	t.Helper()
	return http1test.Dial(t, s.addr)
}
