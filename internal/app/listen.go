package app

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// listen listens where a flag says.
func listen(flag, address string) (*net.TCPListener, error) {
	if strings.HasPrefix(address, "/") || strings.HasPrefix(address, "unix:") { // net would look for a port of that name
		return nil, fmt.Errorf("%s %s: a socket in the file system cannot be listened on: write HOST:PORT, such as 127.0.0.1:8080", flag, address)
	}
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

// grpcListener is a listener for a grpc.Server that, when it closes, closes the
// connections whose client has not opened TLS and HTTP/2 yet. The server would wait for
// them when it stops, gracefully or not, and cut no other one before: for as long as its
// grpc.ConnectionTimeout is.
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

// newConn is a connection that is new until the server takes back the deadline which it
// has set for the opening (grpc-go server.go, handleRawConn). It sets no other.
type newConn struct {
	net.Conn
	listener *grpcListener
}

// Accept implements net.Listener.
func (l *grpcListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := &newConn{Conn: c, listener: l}
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

// SetDeadline implements net.Conn.
func (c *newConn) SetDeadline(t time.Time) error {
	if t.IsZero() {
		c.listener.forget(c)
	}
	return c.Conn.SetDeadline(t)
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
