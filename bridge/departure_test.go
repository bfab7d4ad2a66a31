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
	"github.com/sluice-sse/sluice/bridge/http1/http1test"
)

// A client that leaves is noticed whatever it has sent behind its request.
func TestLeftWithBytesAhead(t *testing.T) {
	long := strings.Repeat(getAlive, 50)
	for name, ahead := range map[string]string{"line end": "\r\n", "a byte": "x", "a request": getAlive, "requests": long} {
		for when, send := range map[string]func(c *http1test.Client){
			"with the request":  func(c *http1test.Client) { c.Send(postStream + ahead); c.Response() },
			"of a whole one":    func(c *http1test.Client) { c.Send(postWhole); c.Send(ahead) },
			"during the stream": func(c *http1test.Client) { c.Send(postStream); c.Response(); c.Send(ahead) },
			"byte by byte": func(c *http1test.Client) {
				c.Send(postStream)
				c.Response()
				for i := range ahead {
					c.Send(ahead[i : i+1])
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
				})
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
			s := serveBridge(t, b, b.Configure)
			c := s.dial(t)
			c.Send(request)
			<-began
			if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c.R); len(got) > 0 || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %q, %v; want the connection's end", got, err)
			} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("the socket stays")
			}
		})
	}
}
