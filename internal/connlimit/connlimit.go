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
	"time"

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
		l.refused()
		_ = c.SetLinger(0) // a reset, which leaves nothing behind in the system
		_ = c.Close()
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

// resets bounds how often requests of a connection are broken off.
//
// Up to a quarter of a second's worth costs nothing: then it becomes slower, at most twice
// as fast as in the long run, and after five seconds' worth the connection is closed. So
// all that run on a connection may have a reason to end together, as the clients of a
// bridge have, and somebody who breaks requests off for the sake of it neither fills the
// processors nor stays.
type resets struct{ pace, allowed *rate.Limiter }

func newResets(perSecond int) resets {
	return resets{
		pace:    rate.NewLimiter(2*rate.Limit(perSecond), max(1, perSecond/4)),
		allowed: rate.NewLimiter(rate.Limit(perSecond), 5*perSecond),
	}
}

// add counts one. It returns how long the connection is to wait, or that it is one too many.
func (r resets) add() (wait time.Duration, ok bool) {
	return r.pace.Reserve().Delay(), r.allowed.Allow()
}

// errResets is what a connection fails with that is closed for its resets.
var errResets = errors.New("too many requests were broken off")
