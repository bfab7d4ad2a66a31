package http1_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/http1"
	"github.com/sluice-sse/sluice/bridge/http1/http1test"
)

// One connection serves long responses and others, as often as one likes.
func TestConnectionStays(t *testing.T) {
	s := listen(t, playThree, true)
	c := s.dial(t)
	for range 3 {
		c.Send(postLong)
		resp := c.Whole(200, three)
		if resp.Close || resp.Header.Get("Date") == "" || resp.Header.Get("X-Name") != "value" {
			t.Errorf("got %v", resp.Header)
		}
		c.Send(getPlain)
		c.Whole(200, "ok\n")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) != 4 {
		t.Errorf("net/http got %d connections, want one, and that back three times", len(s.conns))
	}
	for _, c := range s.conns[1:] {
		if inner := http1.Unwrap(c); inner != s.conns[0] {
			t.Errorf("there came back a %T in a %T", inner, c)
		}
	}
}

// What a client sends during a response is its next request.
func TestPipelined(t *testing.T) {
	for name, when := range map[string]func(c *http1test.Client, more func()){
		"with the request": func(c *http1test.Client, more func()) { c.Send(postLong + getPlain + postLong + getPlain); more() },
		"during the response": func(c *http1test.Client, more func()) {
			c.Send(postLong)
			head, err := c.R.Peek(1)
			if err != nil || head[0] != 'H' {
				c.T.Errorf("got %q, %v", head, err)
			}
			c.Send(getPlain + postLong + getPlain)
			more()
		},
	} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			s := listen(t, func(ctx *http1.Context, w http.ResponseWriter) bool {
				if !write(w, "one\n") {
					return false
				}
				<-gate
				return write(w, "two\n") && write(w, "three\n")
			}, true)
			c := s.dial(t)
			when(c, func() { close(gate) })
			for range 2 {
				c.Whole(200, three)
				c.Whole(200, "ok\n")
			}
		})
	}
}

// A client that sends far ahead costs no more with each request.
func TestPipelinedFarAhead(t *testing.T) {
	const requests = 2000
	s := listen(t, func(_ *http1.Context, w http.ResponseWriter) bool { w.WriteHeader(204); return true }, true)
	c := s.dial(t)
	go func() { _, _ = io.WriteString(c, strings.Repeat(getLong, requests)) }()
	for range requests {
		c.Whole(204, "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, given := range s.conns[1:] {
		if inner := http1.Unwrap(given); inner != s.conns[0] {
			t.Fatalf("after %d requests there came back a %T in a %T", i+1, inner, given)
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
		hijacked      int
	}{
		{"the client says so", strings.Replace(postLong, "\r\n", "\r\nConnection: close\r\n", 1), true, true, 1},
		{"no way back", postLong, false, true, 1},
		{"HTTP/1.0", strings.Replace(postLong, "1.1", "1.0", 1), true, true, 0},
		{"a GET with a body", strings.Replace(getLong, "\r\n\r\n", "\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 1), true, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := listen(t, playThree, tc.back)
			c := s.dial(t)
			c.Send(tc.request)
			if resp := c.Whole(200, three); resp.Close != tc.says {
				t.Errorf("it says that it closes: %v", resp.Close)
			}
			c.Over()
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.hijacked != tc.hijacked {
				t.Errorf("%d connections are taken, want %d", s.hijacked, tc.hijacked)
			}
		})
	}
}

// A client that leaves ends its response, at once, and half closing is leaving.
func TestConnectionLeft(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn) error{
		"closed": (*net.TCPConn).Close, "half closed": (*net.TCPConn).CloseWrite,
		"reset": func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan bool, 1)
			s := listen(t, func(ctx *http1.Context, w http.ResponseWriter) bool {
				begun := write(w, "one\n")
				<-ctx.Done()
				ended <- begun
				return false
			}, true)
			c := s.dial(t)
			c.Send(postLong)
			c.Response()
			if err := leave(c.Conn.(*net.TCPConn)); err != nil {
				t.Fatal(err)
			}
			select {
			case begun := <-ended:
				if !begun {
					t.Error("nothing could be written")
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the response goes on")
			}
			s.http1.Wait()
		})
	}
}

// A response that is cut, or goes wrong, loses its connection without the last chunk,
// so that its client does not take it for complete; others go on.
func TestConnectionCut(t *testing.T) {
	t.Run("closed", func(t *testing.T) {
		s := listen(t, func(ctx *http1.Context, w http.ResponseWriter) bool {
			write(w, "one\n")
			<-ctx.Done()
			return false
		}, true)
		c := s.dial(t)
		c.Send(postLong)
		resp := c.Response()
		s.http1.Close()
		if got, err := io.ReadAll(resp.Body); string(got) != "one\n" || err != io.ErrUnexpectedEOF {
			t.Errorf("got %q, %v", got, err)
		}
		s.http1.Wait()
	})
	t.Run("panic", func(t *testing.T) {
		s := listen(t, func(_ *http1.Context, w http.ResponseWriter) bool {
			write(w, "one\n")
			panic("a fault")
		}, true)
		for range 2 {
			c := s.dial(t)
			c.Send(postLong)
			if got, err := io.ReadAll(c.Response().Body); string(got) != "one\n" || err != io.ErrUnexpectedEOF {
				t.Errorf("got %q, %v", got, err)
			}
		}
	})
}

// Between two requests a connection is net/http's to close, in its time or at the
// end.
func TestIdleConnection(t *testing.T) {
	t.Run("shutdown", func(t *testing.T) {
		s := listen(t, playThree, true)
		c := s.dial(t)
		c.Send(postLong)
		c.Whole(200, "three")
		start := time.Now()
		if err := s.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		c.Over()
		if took := time.Since(start); took > 3*time.Second { // it takes 5 for a connection that has just come
			t.Errorf("it took %v", took)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		s := listen(t, playThree, true, func(s *socket) { s.server.IdleTimeout = 50 * time.Millisecond })
		c := s.dial(t)
		c.Send(postLong)
		c.Whole(200, "three")
		c.Over()
	})
	t.Run("the header's timeout is not for the wait", func(t *testing.T) {
		const timeout = 50 * time.Millisecond
		s := listen(t, playThree, true, func(s *socket) { s.server.ReadHeaderTimeout = timeout })
		c := s.dial(t)
		c.Send(postLong)
		c.Whole(200, "three")
		_ = c.SetReadDeadline(time.Now().Add(3 * timeout))
		if _, err := c.R.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v; want that it stays open", err)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		c.Send(postLong)
		c.Whole(200, "three")
		c.Send(getPlain[:8]) // and no more
		start := time.Now()
		if _, err := io.ReadAll(c); err != nil || time.Since(start) > 5*time.Second { // of what net/http says
			t.Errorf("got %v after %v; want the connection's end", err, time.Since(start))
		}
	})
	t.Run("closed by the client", func(t *testing.T) {
		s := listen(t, playThree, true)
		c := s.dial(t)
		c.Send(postLong)
		c.Whole(200, "three")
		c.Close()
		c = s.dial(t)
		c.Send(postLong)
		c.Whole(200, "three")
	})
}

// More than is kept of what a client sends ahead waits in the connection: nothing is
// lost or mixed up.
func TestMuchAhead(t *testing.T) {
	const requests = 4000 // 200 KB
	gate := make(chan struct{})
	s := listen(t, func(_ *http1.Context, w http.ResponseWriter) bool {
		begun := write(w, "one\n")
		<-gate
		return begun && write(w, "two\n") && write(w, "three\n")
	}, true)
	c := s.dial(t)
	c.Send(postLong)
	if _, err := c.R.Peek(1); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, strings.Repeat(getPlain, requests)+postLong)
		sent <- err
	}()
	close(gate)
	c.Whole(200, three)
	for range requests {
		c.Whole(200, "ok\n")
	}
	c.Whole(200, three)
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// Some clients end a POST with a line that is not part of it (RFC 9112 section 2.2).
func TestLineEndsBetweenRequests(t *testing.T) {
	s := listen(t, playThree, true)
	c := s.dial(t)
	for range 2 {
		c.Send(postLong + "\r\n")
		c.Whole(200, three)
		c.Send("\r\n")
		c.Send(getPlain)
		c.Whole(200, "ok\n")
	}
}

// Other responses than those in chunks are as a handler writes them, and as whole.
func TestOtherResponses(t *testing.T) {
	s := listen(t, func(_ *http1.Context, w http.ResponseWriter) bool {
		w.Header().Set("Content-Length", "4")
		w.WriteHeader(http.StatusNotFound)
		return write(w, "none")
	}, true)
	c := s.dial(t)
	for range 2 {
		c.Send(getLong)
		if resp := c.Whole(404, "none"); resp.ContentLength != 4 || len(resp.TransferEncoding) > 0 {
			t.Errorf("got the length %d, %q", resp.ContentLength, resp.TransferEncoding)
		}
	}
	s = listen(t, func(_ *http1.Context, w http.ResponseWriter) bool { return true }, true)
	c = s.dial(t)
	for range 2 {
		c.Send(getLong)
		if resp := c.Whole(200, ""); resp.TransferEncoding == nil {
			t.Errorf("nothing is not in chunks: %v", resp.Header)
		}
	}
}

// Each length of a chunk is written as it is, whether there is room behind it or not.
func TestChunkLengths(t *testing.T) {
	lengths := []int{1, 9, 15, 16, 255, 256, 4095, 4096, 4<<10 - http1.ChunkHeadroom, 4<<10 - http1.ChunkHeadroom - 1, 65535, 65536, 1 << 20}
	s := listen(t, func(_ *http1.Context, w http.ResponseWriter) bool {
		whole := write(w, "x") // with the head
		for _, n := range lengths {
			whole = whole && write(w, strings.Repeat("x", n))
		}
		return whole
	}, true)
	c := s.dial(t)
	c.Send(getLong)
	c.Response()
	for _, n := range append([]int{1}, lengths...) {
		line, err := c.R.ReadString('\n')
		if want := fmt.Sprintf("%x\r\n", n); line != want || err != nil {
			t.Fatalf("got the length %q, %v; want %q", line, err, want)
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(c.R, chunk); err != nil || string(chunk) != strings.Repeat("x", n)+"\r\n" {
			t.Fatalf("got a chunk of %d, %v", n, err)
		}
	}
}

// A response has the values of its request, until it lets go of them.
func TestValues(t *testing.T) {
	for name, request := range map[string]string{"HTTP/1.1": getLong, "HTTP/1.0": strings.Replace(getLong, "1.1", "1.0", 1)} {
		t.Run(name, func(t *testing.T) {
			got := make(chan any, 2)
			s := listen(t, func(ctx *http1.Context, w http.ResponseWriter) bool {
				got <- ctx.Value(valueKey{})
				ctx.ForgetValues()
				got <- ctx.Value(valueKey{})
				return true
			}, true)
			c := s.dial(t)
			c.Send(request)
			c.Whole(200, "")
			if before := <-got; before != "GET" {
				t.Errorf("before: %v", before)
			}
			if after := <-got; name == "HTTP/1.1" && after != nil {
				t.Errorf("after: %v", after)
			}
		})
	}
}
