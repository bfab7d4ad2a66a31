package bridge_test

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge"
)

// hijacked calls a function when the connection has just been taken.
type hijacked struct {
	http.ResponseWriter
	then func()
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	h.then()
	return c, rw, err
}

// A stream counts before net/http stops counting its connection: no shutdown misses it.
func TestWaitKnowsOfEachStream(t *testing.T) {
	for name, request := range map[string]string{"a stream": postStream, "a whole one": postWhole} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			var ended atomic.Bool
			b := newBridge(t, func(s eventStream) error {
				<-gate
				ended.Store(true)
				return errors.Join(named(s, "cmpl_x"), created(s), finished(s, 2))
			}, bridge.Config{})
			waited := make(chan bool, 1)
			s := serveBridge(t, b, func(s *http.Server) {
				s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					b.ServeHTTP(hijacked{w, func() {
						go func() { b.Wait(); waited <- ended.Load() }()
						select { // long enough for a Wait that does not wait
						case early := <-waited:
							waited <- early
						case <-time.After(50 * time.Millisecond):
						}
					}}, r)
				})
			})
			c := s.dial(t)
			c.Send(request)
			close(gate)
			c.Response()
			select {
			case all := <-waited:
				if !all {
					t.Error("Wait did not know of the stream")
				}
			case <-time.After(10 * time.Second):
				t.Error("no connection was taken")
			}
		})
	}
}

// A client that takes nothing does not keep Close, and those who wait after it, waiting
// for its write timeout.
func TestCloseWhileWriting(t *testing.T) {
	for name, request := range map[string]string{"a stream": postStream, "a whole one": postWhole, "events": getStream} {
		t.Run(name, func(t *testing.T) {
			text := strings.Repeat("word ", 1<<20)
			b := newBridge(t, func(s eventStream) error {
				return errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, text), delta(s, 3, text), delta(s, 4, text), finished(s, 5))
			}, bridge.Config{})
			s := serveBridge(t, b)
			c := s.dial(t)
			if err := c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
				t.Fatal(err)
			}
			c.Send(request)
			if _, err := c.R.Peek(1); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			b.Close()
			b.Wait()
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
