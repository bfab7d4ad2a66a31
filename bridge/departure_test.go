package bridge_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge"
)

// A client that leaves is noticed whatever it has sent behind its request.
func TestLeftWithBytesAhead(t *testing.T) {
	long := strings.Repeat(getAlive, 50)
	for name, ahead := range map[string]string{"line end": "\r\n", "a byte": "x", "a request": getAlive, "requests": long} {
		for when, send := range map[string]func(c *client){
			"with the request":  func(c *client) { c.send(postStream + ahead); c.response() },
			"of a whole one":    func(c *client) { c.send(postWhole); c.send(ahead) },
			"during the stream": func(c *client) { c.send(postStream); c.response(); c.send(ahead) },
			"byte by byte": func(c *client) {
				c.send(postStream)
				c.response()
				for i := range ahead {
					c.send(ahead[i : i+1])
				}
			},
		} {
			t.Run(name+"/"+when, func(t *testing.T) {
				ended := make(chan struct{})
				s := listen(t, func(s eventStream) error {
					defer close(ended)
					err := errors.Join(named(s, "cmpl_x"), created(s))
					<-s.Context().Done()
					return errors.Join(err, context.Cause(s.Context()))
				}, true)
				c := s.dial(t)
				send(c)
				c.Close()
				select {
				case <-ended:
				case <-time.After(10 * time.Second):
					t.Fatal("the stream goes on")
				}
				s.bridge.Wait()
			})
		}
	}
}

// More than is kept of what a client sends ahead waits in the connection: nothing is
// lost or mixed up.
func TestMuchAhead(t *testing.T) {
	const requests = 4000 // 200 KB
	gate := make(chan struct{})
	s := listen(t, func(s eventStream) error {
		err := errors.Join(named(s, "cmpl_x"), created(s))
		<-gate
		return errors.Join(err, delta(s, 2, "a"), finished(s, 3))
	}, true)
	c := s.dial(t)
	c.send(postStream)
	if _, err := c.r.Peek(1); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, strings.Repeat(getAlive, requests)+postStream)
		sent <- err
	}()
	close(gate)
	c.whole(200, block1+block2+block3)
	for range requests {
		c.whole(200, "ok\n")
	}
	c.whole(200, block1+block2+block3)
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

// Some clients end a POST with a line that is not part of it (RFC 9112 section 2.2).
func TestLineEndsBetweenRequests(t *testing.T) {
	s := listen(t, playShort, true)
	c := s.dial(t)
	for range 2 {
		c.send(postStream + "\r\n")
		c.whole(200, block1+block2+block3)
		c.send("\r\n")
		c.send(getAlive)
		c.whole(200, "ok\n")
	}
}

// A client that has left keeps no socket, though what it asked for goes on.
func TestSocketGoesWithClient(t *testing.T) {
	for name, request := range map[string]string{
		"HTTP/1.1": postStream, "with bytes ahead": postStream + getAlive, "a GET": getStream,
		"JSON":     postWhole,
		"HTTP/1.0": strings.Replace(postStream, "1.1", "1.0", 1),
	} {
		t.Run(name, func(t *testing.T) {
			began, goOn := make(chan struct{}), make(chan struct{})
			defer close(goOn)
			b := newBridge(t, func(s eventStream) error {
				close(began)
				<-goOn // whatever the context says, as what has a grace
				return nil
			}, bridge.Config{})
			s := serveBridge(t, b, true, b.Configure)
			c := s.dial(t)
			c.send(request)
			<-began
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c.r); len(got) > 0 || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %q, %v; want the connection's end", got, err)
			} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("the socket stays")
			}
		})
	}
}
