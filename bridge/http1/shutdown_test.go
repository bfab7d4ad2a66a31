package http1_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/http1"
	"github.com/sluice-sse/sluice/bridge/http1/http1test"
)

// A shutdown waits for no request that has not come.
func TestShutdownIsPrompt(t *testing.T) {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	for name, play := range map[string]func(c *http1test.Client){
		"nothing sent":                        func(*http1test.Client) {},
		"a part of a header":                  func(c *http1test.Client) { c.Send(getPlain[:8]) },
		"between requests":                    func(c *http1test.Client) { c.Send(getPlain); c.Whole(200, "ok") },
		"after a response":                    func(c *http1test.Client) { c.Send(postLong); c.Whole(200, "three") },
		"after a response a part of a header": func(c *http1test.Client) { c.Send(postLong + getPlain[:8]); c.Whole(200, "three") },
		"after a response a line end":         func(c *http1test.Client) { c.Send(postLong + "\r\n"); c.Whole(200, "three") },
		"a part of HTTP/2's preface":          func(c *http1test.Client) { c.Send("PRI * HTTP/2.0\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			states := make(chan http.ConnState, 100)
			s := listen(t, playThree, true, func(s *socket) {
				s.server.Protocols = protocols
				s.server.ConnState = func(_ net.Conn, state http.ConnState) { states <- state }
				s.http1.Configure(s.server)
			})
			c := s.dial(t)
			<-states // it is accepted
			play(c)
			start := time.Now()
			if err := s.server.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			s.http1.Wait()
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
		})
	}
}

// A connection that comes while the server shuts down finds no one.
func TestConnectionAfterClose(t *testing.T) {
	conns := http1.New(http1.Config{})
	s := &http.Server{}
	conns.Configure(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := conns.Listener(l).Close(); err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	s.ConnState(ours, http.StateNew)
	_ = theirs.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("got %v, want the connection's end", err)
	}
}

// Close does not wait for a client that takes nothing, nor does Wait then; and Wait waits
// for a response that goes on.
func TestCloseAndWait(t *testing.T) {
	goOn := make(chan struct{})
	s := listen(t, func(_ *http1.Context, w http.ResponseWriter) bool {
		text := string(make([]byte, 1<<20))
		for write(w, text) {
		}
		<-goOn
		return false
	}, true)
	c := s.dial(t)
	c.Send(postLong)
	if _, err := c.R.Peek(1); err != nil {
		t.Fatal(err)
	}
	s.http1.Close()
	waited := make(chan struct{})
	go func() { s.http1.Wait(); close(waited) }()
	select {
	case <-waited:
		t.Error("Wait did not wait")
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	select {
	case <-waited:
	case <-time.After(10 * time.Second):
		t.Error("the write goes on, or Wait waits for nothing")
	}
}
