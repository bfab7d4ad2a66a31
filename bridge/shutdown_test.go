package bridge_test

import (
	"bufio"
	"errors"
	"net"
	"net/http"
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
			s := serveBridge(t, b, true, func(s *http.Server) {
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
			c.send(request)
			close(gate)
			c.response()
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
