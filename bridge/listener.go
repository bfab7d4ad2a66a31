package bridge

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listener returns a listener for an http.Server that serves the bridge, through
// which connections go back to the server after a stream. Without it, a connection
// is closed after a stream over HTTP/1.1. It is called once.
func (b *Bridge) Listener(l net.Listener) net.Listener {
	back := &listener{
		Listener: l,
		conns:    make(chan net.Conn),
		errs:     make(chan error),
		done:     make(chan struct{}),
		waiting:  map[net.Conn]struct{}{},
	}
	b.listener.Store(back)
	return back
}

// Configure has an http.Server tell the bridge of its connections. Without it, a client
// over HTTP/1.0 that leaves a completion with a grace keeps its socket until the next
// event, and a shutdown waits five seconds for a connection on which nothing has come.
// It is called before the server serves.
func (b *Bridge) Configure(s *http.Server) {
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	next := s.ConnState
	s.ConnState = func(c net.Conn, state http.ConnState) {
		if l := b.listener.Load(); l != nil {
			l.turned(c, state)
		}
		if next != nil {
			next(c, state)
		}
	}
}

// connKey is that of a request's connection in its context.
type connKey struct{}

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
	told    bool                  // the server tells of its connections (Configure)
	waiting map[net.Conn]struct{} // no request has come on them, or none since a stream
}

// givenBack is a connection that has been given back: what has been read of it
// already comes first.
//
// To net/http it is new, and its first request is on its way. So until that has
// begun, givenBack sees to the idle timeout, and to its end at a shutdown.
type givenBack struct {
	net.Conn
	listener *listener
	read     []byte
	idle     time.Duration // how long it waits; 0: for ever

	begun  bool          // the next request has; of the goroutine that reads
	header time.Duration // what net/http then allows for the header; 0: any time
}

// Read implements net.Conn. It skips line ends before a request: some clients end a POST
// with one (RFC 9112 section 2.2), and net/http allows for that only where it has served
// the POST itself.
func (c *givenBack) Read(p []byte) (n int, err error) {
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
func (c *givenBack) begin() {
	c.begun = true
	c.listener.waited(c)
	var deadline time.Time
	if c.header > 0 {
		deadline = time.Now().Add(c.header)
	}
	_ = c.Conn.SetReadDeadline(deadline)
}

// SetReadDeadline implements net.Conn. Before the next request, it is for that.
func (c *givenBack) SetReadDeadline(t time.Time) error {
	if c.begun {
		return c.Conn.SetReadDeadline(t)
	}
	c.header = 0
	if !t.IsZero() {
		c.header = time.Until(t)
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
			if tcp, ok := c.(*net.TCPConn); ok {
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
func (l *listener) giveBack(c *givenBack) {
	c.listener = l
	if c.idle > 0 {
		_ = c.Conn.SetReadDeadline(time.Now().Add(c.idle))
	}
	l.mu.Lock()
	l.waiting[c] = struct{}{}
	l.mu.Unlock()
	l.give(c)
}

// waited notes that a connection no longer waits.
func (l *listener) waited(c *givenBack) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.told { // else it waits until the request's header is whole
		delete(l.waiting, c)
	}
}

// turned notes what the server tells of a connection.
func (l *listener) turned(c net.Conn, state http.ConnState) {
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
