package openai

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

// rawUpstream serves each connection by a function, which gets the bodies of the requests
// from next.
func rawUpstream(t *testing.T, serve func(conn net.Conn, next func() (string, error))) (e *Engine, connections chan net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = make(chan net.Conn, 100)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections <- conn
			go func() {
				defer conn.Close()
				r := bufio.NewReader(conn)
				serve(conn, func() (string, error) {
					req, err := http.ReadRequest(r)
					if err != nil {
						return "", err
					}
					body, err := io.ReadAll(req.Body)
					return string(body), err
				})
			}()
		}
	}()
	return newEngine(t, Config{BaseURL: "http://" + l.Addr().String()}), connections
}

const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"

// chunkOf returns a chunked body of one chunk.
func chunkOf(body string) string {
	return strconv.FormatInt(int64(len(body)), 16) + "\r\n" + body + "\r\n0\r\n\r\n"
}

// TestConnections checks which responses are accepted, and after which of them the
// connection is reused.
func TestConnections(t *testing.T) {
	const body = chunkLine + "data: [DONE]\n\n"
	for _, tc := range []struct {
		name   string
		answer string
		then   func(net.Conn) // after each answer
		fails  bool
		want   int // connections for three generations
	}{
		{"chunks", head + "\r\n" + chunkOf(body), nil, false, 1},
		{"a length", "HTTP/1.1 200 OK\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body, nil, false, 1},
		{"interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + head + "\r\n" + chunkOf(body), nil, false, 1},
		{"a hundred interim answers", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100) + head + "\r\n" + chunkOf(body), nil, false, 1},
		{"interim answers only", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 10), func(c net.Conn) { c.Close() }, true, 3},
		{"interim answers without end", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", maxHead/25+1), nil, true, 3},
		{"it is to be closed", head + "Connection: close\r\n\r\n" + chunkOf(body), nil, false, 3},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n" + body, func(c net.Conn) { c.Close() }, false, 3},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n" + body, func(c net.Conn) { c.Close() }, false, 3},
		{"something behind the end", head + "\r\n" + chunkOf(body) + "x", nil, false, 3},
		{"something behind a length", "HTTP/1.1 200 OK\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body + "x", nil, false, 3},
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n", nil, true, 3},
		{"a head without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxHead), nil, true, 3},
		{"a cut in the head", head[:20], func(c net.Conn) { c.Close() }, true, 3},
		{"a cut in the body", head + "\r\n" + chunkOf(body)[:30], func(c net.Conn) { c.Close() }, true, 3},
		{"malformed chunks", head + "\r\nxyz\r\n", nil, true, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			noLeak(t)
			e, connections := rawUpstream(t, func(conn net.Conn, next func() (string, error)) {
				for {
					if _, err := next(); err != nil {
						return
					}
					io.WriteString(conn, tc.answer)
					if tc.then != nil {
						tc.then(conn)
					}
				}
			})
			for range 3 {
				if err := generate(t.Context(), e, chat(), ignore); (err != nil) != tc.fails {
					t.Errorf("got %v", err)
				}
				e.drains.Wait()
			}
			if n := len(connections); n != tc.want {
				t.Errorf("%d connections, want %d", n, tc.want)
			}
		})
	}
}

// TestIdleConnection checks that an idle connection is closed at once, and not reused, if
// the upstream closes it or sends something.
func TestIdleConnection(t *testing.T) {
	for name, do := range map[string]func(net.Conn){
		"closed": func(c net.Conn) { c.(*net.TCPConn).CloseWrite() },
		"talks":  func(c net.Conn) { io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			gone := make(chan struct{}, 2)
			e, connections := rawUpstream(t, func(conn net.Conn, next func() (string, error)) {
				next()
				io.WriteString(conn, head+"\r\n"+chunkOf("data: [DONE]\n\n"))
				next()
				gone <- struct{}{}
			})
			if err := generate(t.Context(), e, chat(), ignore); err != nil {
				t.Fatal(err)
			}
			do(<-connections)
			select {
			case <-gone:
			case <-time.After(patience):
				t.Fatal("the idle connection is not closed")
			}
			if err := generate(t.Context(), e, chat(), ignore); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEarlyAnswer checks that an upstream may reject a large request before it has read
// it.
func TestEarlyAnswer(t *testing.T) {
	noLeak(t)
	done := make(chan struct{})
	e, connections := rawUpstream(t, func(conn net.Conn, _ func() (string, error)) {
		io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
		<-done
	})
	req := chat()
	req.Messages[0].Content = proto.String(strings.Repeat("x", 16<<20))
	err := generate(t.Context(), e, req, ignore)
	if err == nil {
		t.Error("got no error")
	}
	e.transport.(*plainTransport).mu.Lock()
	if n := len(e.transport.(*plainTransport).idle); n != 0 {
		t.Errorf("%d connections are kept that still send", n)
	}
	e.transport.(*plainTransport).mu.Unlock()
	close(done)
	<-connections
}

// TestLargeRequest checks that all of a large request arrives, and that its connection is
// reused at least sometimes: the response may be over before the writing goroutine is.
func TestLargeRequest(t *testing.T) {
	noLeak(t)
	const requests = 5
	sizes := make(chan int, requests)
	e, connections := rawUpstream(t, func(conn net.Conn, next func() (string, error)) {
		for {
			body, err := next()
			if err != nil {
				return
			}
			sizes <- len(body)
			io.WriteString(conn, head+"\r\n"+chunkOf("data: [DONE]\n\n"))
		}
	})
	req := chat()
	req.Messages[0].Content = proto.String(strings.Repeat("x", 4<<20))
	for range requests {
		if err := generate(t.Context(), e, req, ignore); err != nil {
			t.Fatal(err)
		}
		if n := <-sizes; n < 4<<20 {
			t.Errorf("%d bytes arrived", n)
		}
	}
	if n := len(connections); n == requests {
		t.Errorf("%d connections for as many requests", n)
	}
}

// TestPendingConnection checks that a connection on which something has arrived is not
// reused, even if watch has not noticed: it would be taken for the response to a request
// that has not been sent.
func TestPendingConnection(t *testing.T) {
	for name, tc := range map[string]struct {
		comes func(net.Conn)
		used  bool
	}{
		"nothing":    {func(net.Conn) {}, true},
		"an answer":  {func(c net.Conn) { io.WriteString(c, head+"\r\n"+chunkOf(chunkLine)) }, false},
		"a line end": {func(c net.Conn) { io.WriteString(c, "\n") }, false},
		"the end":    {func(c net.Conn) { c.(*net.TCPConn).CloseWrite() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e, connections := rawUpstream(t, func(_ net.Conn, next func() (string, error)) { next() })
			transport := e.transport.(*plainTransport)
			idle, err := transport.connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer idle.Close()
			idle.good = make(chan bool, 1)
			idle.good <- true // says the watcher, before it comes
			tc.comes(<-connections)
			for deadline := time.Now().Add(patience); !tc.used && !hasUnread(idle.Conn); {
				if time.Now().After(deadline) {
					t.Fatal("it does not come")
				}
			}
			transport.idle = append(transport.idle, idle)
			c, err := transport.connect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if (c == idle) != tc.used {
				t.Errorf("the idle connection is used: %t, want %t", c == idle, tc.used)
			}
		})
	}
}
