package http1

import (
	"bytes"
	"net"
	"net/http"
	"sync"
	"time"
)

// sendBuffer bounds what the system takes for a client that takes nothing, in bytes; it
// has as much again for itself. Left alone it takes up to 4 MiB for each, as fast as they
// can be made: for a thousand replays that nobody reads, 3.2 s of the processor's time
// instead of 0.7 (TestUnreadAnswers). A model's text, at kilobytes a second, needs far less.
const sendBuffer = 128 << 10

// listener accepts new connections, and those that are given back.
type listener struct {
	net.Listener
	start sync.Once
	conns chan net.Conn
	errs  chan error

	done chan struct{} // closed by Close

	mu      sync.Mutex // guards all below
	closed  bool
	told    bool                  // the server tells of its connections (Conns.Configure)
	waiting map[net.Conn]struct{} // no request has come on them, or none since a stream
}

func newListener(l net.Listener) *listener {
	return &listener{
		Listener: l,
		conns:    make(chan net.Conn),
		errs:     make(chan error),
		done:     make(chan struct{}),
		waiting:  map[net.Conn]struct{}{},
	}
}

// returnedConn is a connection that has been given back: what has been read of it
// already comes first.
//
// To net/http it is new, and its first request is on its way. So until that has
// begun, this sees to the idle timeout, and to the connection's end at a shutdown.
type returnedConn struct {
	net.Conn
	listener    *listener
	read        []byte
	idleTimeout time.Duration // how long it waits; 0: for ever

	begun         bool          // the next request has; of the goroutine that reads
	headerTimeout time.Duration // what net/http then allows for the header; 0: any time
}

// Read implements net.Conn. It skips line ends before a request: some clients end a POST
// with one (RFC 9112 section 2.2), and net/http allows for that only where it has served
// the POST itself.
func (c *returnedConn) Read(p []byte) (n int, err error) {
	for {
		if len(c.read) > 0 {
			n = copy(p, c.read)
			c.read = c.read[n:]
		} else {
			n, err = c.Conn.Read(p)
		}
		if c.begun {
			return n, err
		}
		if n = copy(p, bytes.TrimLeft(p[:n], "\r\n")); n > 0 || err != nil {
			c.begin()
			return n, err
		}
	}
}

// begin notes that the wait is over.
func (c *returnedConn) begin() {
	c.begun = true
	c.listener.requestBegun(c)
	var deadline time.Time
	if c.headerTimeout > 0 {
		deadline = time.Now().Add(c.headerTimeout)
	}
	_ = c.Conn.SetReadDeadline(deadline)
}

// SetReadDeadline implements net.Conn. Before the next request, it is for that.
func (c *returnedConn) SetReadDeadline(t time.Time) error {
	if c.begun {
		return c.Conn.SetReadDeadline(t)
	}
	c.headerTimeout = 0
	if !t.IsZero() {
		c.headerTimeout = time.Until(t)
	}
	return nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	l.start.Do(func() { go l.accept() })
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.errs:
		return nil, err
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// accept is the goroutine that waits for new connections.
func (l *listener) accept() {
	for {
		c, err := l.Listener.Accept()
		if err == nil {
			if tcp, ok := c.(interface{ SetWriteBuffer(int) error }); ok {
				_ = tcp.SetWriteBuffer(sendBuffer)
			}
			l.give(c)
			continue
		}
		select {
		case l.errs <- err:
		case <-l.done:
			return
		}
	}
}

// give has Accept return a connection, or closes it when nobody accepts any more.
func (l *listener) give(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.Close()
	}
}

// giveBack has Accept return a connection after a stream, for the next request.
func (l *listener) giveBack(c *returnedConn) {
	c.listener = l
	if c.idleTimeout > 0 {
		_ = c.Conn.SetReadDeadline(time.Now().Add(c.idleTimeout))
	}
	l.mu.Lock()
	l.waiting[c] = struct{}{}
	l.mu.Unlock()
	l.give(c)
}

// requestBegun notes that a connection no longer waits.
func (l *listener) requestBegun(c *returnedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told { // else it waits until the request's header is whole
		delete(l.waiting, c)
	}
}

// stateChanged notes what the server tells of a connection.
func (l *listener) stateChanged(c net.Conn, state http.ConnState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = true
	switch {
	case state != http.StateNew:
		delete(l.waiting, c)
	case l.closed:
		c.Close()
	default:
		l.waiting[c] = struct{}{}
	}
}

// Close implements net.Listener. It closes the connections that wait, too, as
// http.Server.Shutdown does with those that have had a request; with the others it would
// wait for five seconds.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.done)
	for c := range l.waiting {
		c.Close()
	}
	return l.Listener.Close()
}
