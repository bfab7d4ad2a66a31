package openai

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

const (
	maxHead       = 1 << 20  // bytes of an answer's head, with those of status 1xx before it
	maxUnattended = 16 << 10 // bytes of a request that are written before the answer is looked for
	maxIdle       = 1024     // connections
)

// plainTransport is an http.RoundTripper for one upstream that is reached without
// TLS, over HTTP/1.1, by the package's own engine.
//
// http.Transport keeps two goroutines and two buffers for each connection: most of
// what a stream holds that waits for its next token. Here whoever reads an answer
// reads its connection, into a buffer of his own, and nothing is in between. The
// messages' heads are still net/http's to write and to parse. A connection is used
// for one exchange after the other; idle ones are watched, and closed after
// idleTime.
type plainTransport struct {
	address string // host and port
	dialer  *net.Dialer

	mu     sync.Mutex // guards the two below
	idle   []*connection
	closed bool
}

// connection is a connection to the upstream.
type connection struct {
	net.Conn
	alive chan bool // what its watcher, who is told to stop, says of it; made when it becomes idle
}

// RoundTrip implements http.RoundTripper. The connection is closed when the
// request's context is done, until the body is closed.
func (t *plainTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	c, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	a := &answer{transport: t, conn: c}
	a.attached = context.AfterFunc(ctx, func() { c.Close() })
	response, err := a.exchange(req)
	if err != nil {
		a.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return response, nil
}

// connect returns an idle connection, or else a new one.
func (t *plainTransport) connect(ctx context.Context) (*connection, error) {
	for {
		c := t.pop()
		if c == nil {
			break
		}
		// Its watcher may not have been woken for what has come just now, which would
		// be taken for the answer to the request that follows (RFC 9112 section 6.3).
		// What comes after this, and before the request has gone, nobody can tell from
		// an answer.
		if c.release() && !pending(c.Conn) {
			return c, nil
		}
		c.Close()
	}
	conn, err := t.dialer.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn}, nil
}

// release has the watcher let go of an idle connection, and tells whether it is good.
func (c *connection) release() bool {
	return c.SetReadDeadline(time.Unix(1, 0)) == nil && <-c.alive && c.SetReadDeadline(time.Time{}) == nil
}

// pop returns the connection that became idle last, or nil.
func (t *plainTransport) pop() *connection {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.idle)
	if n == 0 {
		return nil
	}
	c := t.idle[n-1]
	t.idle = slices.Delete(t.idle, n-1, n)
	return c
}

// keep keeps an idle connection for the next exchange.
func (t *plainTransport) keep(c *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.idle) == maxIdle || c.SetReadDeadline(time.Now().Add(idleTime)) != nil {
		c.Close()
		return
	}
	c.alive = make(chan bool, 1)
	t.idle = append(t.idle, c)
	go t.watch(c, c.alive)
}

// watch reads an idle connection, until somebody takes it, who sets the deadline
// to now. An upstream that closes it, or talks unasked, loses it at once.
func (t *plainTransport) watch(c *connection, alive chan<- bool) {
	_, err := c.Read(make([]byte, 1))
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.idle, c); i >= 0 { // nobody has
		t.idle = slices.Delete(t.idle, i, i+1)
		c.Close()
	}
	alive <- errors.Is(err, os.ErrDeadlineExceeded)
}

// CloseIdleConnections closes idle connections, also those that become idle later.
func (t *plainTransport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, c := range t.idle {
		c.Close()
	}
	t.idle = nil
}

// answer is the body of an answer, which holds its connection until it is closed.
type answer struct {
	chunked chunkedReader // the body, if it is
	ended   bool          // the body has come to its end
	closed  bool
	keep    bool          // the upstream keeps the connection open
	body    io.Reader     // the body, if it is not chunked
	head    *bufio.Reader // and what it reads

	transport *plainTransport
	conn      *connection
	attached  func() bool     // lets go of the request's context
	sending   <-chan struct{} // closed when the request has been written; nil: it has
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (n int, err error) {
	if a.body == nil {
		n, err = a.chunked.Read(p)
	} else {
		n, err = a.body.Read(p)
	}
	a.ended = err == io.EOF
	return n, err
}

// Close implements io.Closer. A connection on which nothing more will come is kept.
func (a *answer) Close() error {
	if a.closed {
		return nil
	}
	a.closed = true
	if a.attached() && a.ended && a.keep && a.sent() && !a.behind() {
		a.transport.keep(a.conn)
		return nil
	}
	return a.conn.Close()
}

// sent tells whether all of the request has been written.
func (a *answer) sent() bool {
	select {
	case <-a.sending:
		return true
	default:
		return a.sending == nil
	}
}

// behind tells whether something came behind the end of the body.
func (a *answer) behind() bool {
	if a.body == nil {
		return a.chunked.behind
	}
	return a.head.Buffered() > 0
}

// requests and heads hold what an exchange needs only until it has been answered.
var (
	requests = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	heads    = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
)

// exchange sends a request and returns the head of the answer, with a as its body.
func (a *answer) exchange(req *http.Request) (*http.Response, error) {
	if err := a.send(req); err != nil {
		return nil, err
	}
	head := heads.Get().(*bufio.Reader)
	limited := &io.LimitedReader{R: a.conn, N: maxHead}
	head.Reset(limited)
	for {
		response, err := http.ReadResponse(head, req)
		switch {
		case err != nil:
			return nil, err
		case response.StatusCode < 200:
			continue
		}
		a.keep = !response.Close
		if slices.Equal(response.TransferEncoding, []string{"chunked"}) {
			read, _ := head.Peek(head.Buffered())
			a.chunked = chunkedReader{r: a.conn.Conn, read: bytes.Clone(read)}
			head.Reset(nil)
			heads.Put(head)
		} else {
			limited.N = math.MaxInt64
			a.body, a.head = response.Body, head
		}
		response.Body = a
		return response, nil
	}
}

// send writes a request, a large one in a goroutine of its own, which ends with the
// connection: an upstream may answer, and refuse, before it has read all.
func (a *answer) send(req *http.Request) error {
	buf := requests.Get().(*bytes.Buffer)
	buf.Reset()
	if err := req.Write(buf); err != nil {
		return err
	}
	if buf.Len() <= maxUnattended {
		_, err := a.conn.Write(buf.Bytes())
		requests.Put(buf)
		return err
	}
	sent := make(chan struct{})
	a.sending = sent
	go func() {
		if _, err := a.conn.Write(buf.Bytes()); err == nil {
			close(sent)
		}
	}()
	return nil
}
