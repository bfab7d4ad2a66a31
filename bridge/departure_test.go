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
