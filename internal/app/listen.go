package app

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// listen listens where a flag says.
func listen(flag, address string) (*net.TCPListener, error) {
	l, err := net.Listen("tcp", address)
	var op *net.OpError
	var wrong *net.AddrError
	switch {
	case err == nil:
		return l.(*net.TCPListener), nil
	case errors.As(err, &wrong):
		err = fmt.Errorf("%w: write HOST:PORT, such as 127.0.0.1:8080", wrong)
	case errors.Is(err, syscall.EADDRINUSE):
		err = errors.New("another program listens there: take another port, or 0 for a free one")
	case errors.As(err, &op):
		err = op.Err // the rest says the address once more
	}
	return nil, fmt.Errorf("%s %s: %w", flag, address, err)
}

// prefaceSize is how much a client of gRPC sends first, at least: HTTP/2's preface and the
// header of a SETTINGS frame, in bytes (RFC 9113 section 3.4).
const prefaceSize = 24 + 9

// grpcListener is a listener for a grpc.Server that, when it closes, closes the
// connections whose client has not opened HTTP/2 yet. The server would wait for them
// when it stops, for up to two minutes (grpc.ConnectionTimeout), gracefully or not.
type grpcListener struct {
	net.Listener

	mu     sync.Mutex // guards all below
	closed bool
	conns  map[*newConn]struct{} // that are new
}

// listenGRPC returns a listener around one.
func listenGRPC(l net.Listener) *grpcListener {
	return &grpcListener{Listener: l, conns: map[*newConn]struct{}{}}
}

// newConn is a connection that is new until its client has sent the preface. One goroutine
// reads.
type newConn struct {
	net.Conn
	listener *grpcListener
	missing  int // bytes of the preface
}

// Accept implements net.Listener.
func (l *grpcListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := &newConn{Conn: c, listener: l, missing: prefaceSize}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close() // the server learns it when it reads
		return n, nil
	}
	l.conns[n] = struct{}{}
	return n, nil
}

// Close implements net.Listener.
func (l *grpcListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		c.Conn.Close()
	}
	return l.Listener.Close()
}

// Read implements net.Conn.
func (c *newConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.missing > 0 {
		if c.missing -= n; c.missing <= 0 {
			c.listener.forget(c)
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *newConn) Close() error {
	c.listener.forget(c)
	return c.Conn.Close()
}

func (l *grpcListener) forget(c *newConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}
