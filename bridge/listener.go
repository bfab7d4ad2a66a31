package bridge

import (
	"net"
	"sync"
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
		waiting:  map[*conn]struct{}{},
	}
	b.listener.Store(back)
	return back
}

// listener accepts new connections, and those that are given back.
type listener struct {
	net.Listener
	start sync.Once
	conns chan net.Conn
	errs  chan error

	done chan struct{} // closed by Close

	mu      sync.Mutex // guards all below
	closed  bool
	waiting map[*conn]struct{} // between a stream and the next request
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

// wait notes that a connection waits for its next request. It reports false when
// the listener is closed.
func (l *listener) wait(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.waiting[c] = struct{}{}
	}
	return !l.closed
}

// waited notes that a connection no longer waits, if it did.
func (l *listener) waited(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, c)
}

// Close implements net.Listener. It closes the connections that wait, too, as
// http.Server.Shutdown does with those that it knows.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.done)
	for c := range l.waiting {
		c.Conn.Close()
	}
	return l.Listener.Close()
}
