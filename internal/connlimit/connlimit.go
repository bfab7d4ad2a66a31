// Package connlimit bounds connections, before anybody is asked who they are: how many a
// listener has, and how many requests of one HTTP/2 connection are broken off in a second.
//
// The rest net/http and grpc-go bound by themselves, once they are told: the sizes and the
// times of headers, and how many requests of a connection run. One that was broken off is
// among those until its handler has returned (CVE-2023-39325). But begun it is, and for
// each the server may have called upstream; how often that happens, neither of them bounds.
package connlimit

import (
	"errors"
	"net"
	"sync/atomic"

	"golang.org/x/time/rate"
)

// Listener returns a listener that has at most so many connections at the same time. It
// accepts one more to close it at once: who is left waiting would learn nothing. Refused
// is called for each of those.
func Listener(l *net.TCPListener, most int, refused func()) net.Listener {
	return &listener{TCPListener: l, most: int64(most), refused: refused}
}

type listener struct {
	*net.TCPListener
	most    int64
	refused func()
	open    atomic.Int64
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= l.most {
			return &conn{TCPConn: c, listener: l}, nil
		}
		l.open.Add(-1)
		_ = c.SetLinger(0) // a reset, which leaves nothing behind in the system
		_ = c.Close()
		l.refused()
	}
}

// conn counts until it is closed.
type conn struct {
	*net.TCPConn
	listener *listener
	closed   atomic.Bool
}

// Close implements net.Conn.
func (c *conn) Close() error {
	err := c.TCPConn.Close()
	if !c.closed.Swap(true) {
		c.listener.open.Add(-1)
	}
	return err
}

// burst is for how many seconds' worth of requests may be broken off at once: all that run
// on a connection may have a reason to end together, and one that breaks them off steadily
// is soon found out.
const burst = 5

// newResets returns what allows so many resets a second.
func newResets(perSecond int) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), burst*perSecond)
}

// errResets is what a connection fails with that is closed for its resets.
var errResets = errors.New("too many requests were broken off")
