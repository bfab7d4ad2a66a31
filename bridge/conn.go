package bridge

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"time"
)

// lingering is how long a connection stays half open that is to be closed: data
// that the client still sends would else reset it, and destroy what is on its way
// (RFC 9112 section 9.6).
const lingering = 500 * time.Millisecond

// conn is a connection taken from net/http for the length of one response. It is
// the http.ResponseWriter of that, for HTTP/1.1: each Write is a chunk and a system
// call, and none waits in a buffer.
//
// For a stream that waits, net/http holds the goroutine that read and routed the
// request, with the deep stack that this takes, the request, and three buffers.
// A stream on a conn holds a shallow goroutine and a tiny one, which notices that
// the client leaves. When the response has ended, the connection goes back to
// net/http (Listener), or else is closed.
type conn struct {
	net.Conn
	bridge *Bridge
	header http.Header   // until the head is written
	close  bool          // the response is the connection's last
	idle   time.Duration // how long it may then wait for another request; 0: no limit

	status  int  // 0: not known yet
	begun   bool // the head is written
	chunked bool // the body is in chunks
	failed  bool // a write has: the client cannot tell where the response is

	mu    sync.Mutex // guards all below
	ahead []byte     // what the client has sent behind its request
	quiet bool       // nobody watches any more: the client has sent something, or has left
	ended bool       // the response has
	left  bool       // the client has
}

// take takes the connection of a request whose body has been read. It returns nil
// where it cannot: over HTTP/2, which has streams of its own, or HTTP/1.0.
func (b *Bridge) take(w http.ResponseWriter, r *http.Request) *conn {
	if r.ProtoMajor != 1 || r.ProtoMinor == 0 || r.Method == http.MethodGet && r.ContentLength != 0 {
		return nil
	}
	raw, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil { // a ResponseWriter of a test, or one that a handler has put around it
		return nil
	}
	if before, ok := raw.(*readConn); ok && len(before.read) == 0 { // it was here already
		raw = before.Conn
	}
	c := &conn{Conn: raw, bridge: b, header: w.Header()}
	c.close = r.Close || b.listener.Load() == nil
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		c.idle = s.IdleTimeout
	}
	if n := buffered.Reader.Buffered(); n > 0 {
		c.ahead, _ = buffered.Reader.Peek(n)
		c.quiet = true
	}
	return c
}

// serve calls answer, which reports whether the response is whole, and gives the
// connection back. The context is cancelled when the client leaves.
func (c *conn) serve(ctx *streamContext, answer func(*streamContext, http.ResponseWriter) bool) {
	whole := false
	defer func() {
		// As net/http has it: a fault in one response does not end all of them.
		if err := recover(); err != nil {
			c.bridge.config.Log.Error("panic in a stream", "cause", fmt.Sprint(err), "stack", string(debug.Stack()))
			whole = false
		}
		c.end(whole)
	}()
	if !c.quiet {
		go c.watch(ctx.cancel)
	}
	whole = answer(ctx, c)
}

// watch calls gone when the client closes the connection during the response. What
// else it sends is its next request: with that, or at its departure, the connection
// is let go, if the response has ended.
func (c *conn) watch(gone context.CancelFunc) {
	var b [1]byte
	n, _ := c.Read(b[:])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet, c.left = true, n == 0
	c.ahead = b[:n]
	switch {
	case c.ended:
		c.letGo()
	case c.left:
		gone()
	}
}

// Header implements http.ResponseWriter.
func (c *conn) Header() http.Header { return c.header }

// WriteHeader implements http.ResponseWriter. The head is sent with the first
// data, or with the end.
func (c *conn) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

// Write implements http.ResponseWriter.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	scratch := buffers.Get().(*[]byte)
	defer release(scratch)
	b := c.appendHead(*scratch)
	if c.chunked {
		b = strconv.AppendUint(b, uint64(len(p)), 16)
		b = append(b, "\r\n"...)
		b = append(b, p...)
		b = append(b, "\r\n"...)
	} else {
		b = append(b, p...)
	}
	*scratch = b
	if _, err := c.Conn.Write(b); err != nil {
		c.failed = true
		return 0, err
	}
	return len(p), nil
}

// appendHead appends the status line and the headers, once.
func (c *conn) appendHead(b []byte) []byte {
	if c.begun {
		return b
	}
	c.begun = true
	c.WriteHeader(http.StatusOK)
	h := c.header
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if c.status != http.StatusNoContent && h.Get("Content-Length") == "" {
		c.chunked = true
		h.Set("Transfer-Encoding", "chunked")
	}
	if c.close {
		h.Set("Connection", "close")
	}
	head := headWriter(fmt.Appendf(b, "HTTP/1.1 %03d %s\r\n", c.status, http.StatusText(c.status)))
	_ = h.Write(&head) // which cannot fail, and lets no line end through
	c.header = nil
	return append(head, "\r\n"...)
}

type headWriter []byte

func (w *headWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}

func (w *headWriter) WriteString(s string) (int, error) {
	*w = append(*w, s...)
	return len(s), nil
}

// end ends the response. A connection that is whole goes back with the next request
// on it, and waits for that where it is watched.
func (c *conn) end(whole bool) {
	if !whole || c.failed || !c.finish() {
		c.Conn.Close()
		return
	}
	_ = c.SetWriteDeadline(time.Time{})
	if c.close {
		c.idle = lingering
		if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.quiet {
		c.letGo()
		return
	}
	if c.idle > 0 {
		_ = c.SetReadDeadline(time.Now().Add(c.idle))
	}
	if l := c.bridge.listener.Load(); l != nil && !l.wait(c) {
		c.Conn.Close()
	}
}

// letGo gives a connection back to net/http, or closes it, when its response has
// ended and nobody watches it.
func (c *conn) letGo() {
	l := c.bridge.listener.Load()
	if l != nil {
		l.waited(c)
	}
	switch {
	case c.left:
		c.Conn.Close()
	case c.close:
		time.AfterFunc(lingering, func() { c.Conn.Close() })
	default:
		_ = c.SetReadDeadline(time.Time{})
		l.give(&readConn{c.Conn, c.ahead})
	}
}

// finish writes what is left of a response that is whole.
func (c *conn) finish() bool {
	rest := c.appendHead(nil)
	if c.chunked {
		rest = append(rest, "0\r\n\r\n"...)
	}
	_, err := c.Conn.Write(rest)
	return err == nil
}

// readConn is a connection of which the beginning has been read already.
type readConn struct {
	net.Conn
	read []byte
}

func (c *readConn) Read(p []byte) (int, error) {
	if len(c.read) > 0 {
		n := copy(p, c.read)
		c.read = c.read[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
