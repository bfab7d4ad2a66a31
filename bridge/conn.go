package bridge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"time"
)

// lingering is how long a connection stays half open that is to be closed: data
// that the client still sends would else reset it, and destroy what is on its way
// (RFC 9112 section 9.6).
const lingering = 500 * time.Millisecond

// maxAhead bounds how much is read, during a stream, of what a client sends behind its
// request, in bytes. Its departure cannot be seen before all of that is read; behind
// more, the next write finds it.
const maxAhead = 16 << 10

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
	begun   bool // the head is written
	chunked bool // the body is in chunks
	failed  bool // a write has: the client cannot tell where the response is
	close   bool // the response is the connection's last

	bridge *Bridge
	header http.Header   // until the head is written
	status int           // 0: not known yet
	idle   time.Duration // how long the connection may then wait for another request; 0: no limit

	// Of the goroutine that watches, until watched is closed.
	ahead   []byte // what the client has sent behind its request
	left    bool   // the client has
	watched chan struct{}
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
	var ahead []byte
	if n := buffered.Reader.Buffered(); n > 0 {
		ahead, _ = buffered.Reader.Peek(n)
		ahead = bytes.Clone(ahead) // without the rest of the buffer
	}
	if before, ok := raw.(*givenBack); ok { // it was here already
		raw, ahead = before.Conn, append(ahead, before.read...)
	}
	c := &conn{Conn: raw, bridge: b, header: w.Header(), ahead: ahead, watched: make(chan struct{})}
	// Under TLS, the listener is not the one that net/http accepts from.
	c.close = r.Close || b.listener.Load() == nil || r.TLS != nil
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		c.idle = s.IdleTimeout
	}
	return c
}

// respond has answer respond to a request whose body has been read, and returns when it
// has, or has got a connection and a goroutine of its own. It reports whether the response
// is whole; if not, the client learns it. ctx is the request's, annotated.
func (b *Bridge) respond(w http.ResponseWriter, r *http.Request, ctx context.Context, answer func(*streamContext, http.ResponseWriter) bool) {
	b.streams.Add(1) // before net/http no longer counts the connection
	if own := b.take(w, r); own != nil {
		live := newStreamContext(context.Background(), ctx) // the request's ends with the handler
		go func() {
			defer b.streams.Done()
			own.serve(live, answer)
		}()
		return
	}
	defer b.streams.Done()
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok && r.ProtoMajor == 1 {
		stay := context.AfterFunc(r.Context(), func() { c.Close() }) // as watch does
		defer stay()
	}
	if !answer(newStreamContext(ctx, ctx), w) {
		panic(http.ErrAbortHandler)
	}
}

// serve calls answer, which reports whether the response is whole, and gives the
// connection back. The context is cancelled when the client leaves, or the bridge is
// closed.
func (c *conn) serve(ctx *streamContext, answer func(*streamContext, http.ResponseWriter) bool) {
	whole := false
	defer context.AfterFunc(c.bridge.ctx, func() {
		ctx.cancel()
		c.Conn.Close() // a write waits for the client, not for the context
	})()
	defer func() {
		// As net/http has it: a fault in one response does not end all of them.
		if err := recover(); err != nil {
			c.bridge.config.Log.Error("panic in a stream", "cause", fmt.Sprint(err), "stack", string(debug.Stack()))
			whole = false
		}
		c.end(whole)
	}()
	go c.watch(ctx.cancel)
	whole = answer(ctx, c)
}

// watch calls gone when the client closes the connection, and closes it, too: what the
// client asked for may go on without it. What else it sends is its next request, and is
// kept. A deadline ends the watch.
//
// A client that closes only its own direction has left, too, though it need not mean
// that (RFC 9112, section 6.3). A full close sends the same FIN and no more; what tells
// the two apart is the answer to a write, and while the model is silent there is nothing
// to write, and the bill runs on. Browsers, SDKs and curl send no FIN before they have
// the response (dotnet/aspnetcore#24462), and those that did were taught not to, for
// net/http, nginx, Envoy and Kestrel take it as this does (golang/go#18527,
// envoyproxy/envoy#17160, BusyBox's wget).
func (c *conn) watch(gone context.CancelFunc) {
	defer close(c.watched)
	b := make([]byte, 1) // most clients send nothing: that needs no more memory
	for len(c.ahead) < maxAhead {
		n, err := c.Read(b)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.left = true
				gone()
				c.Conn.Close()
			}
			return
		}
		c.ahead = append(c.ahead, b[:n]...)
		if len(b) == 1 {
			b = make([]byte, 512)
		}
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
	scratch := gathering()
	defer release(scratch)
	b := c.appendHead((*scratch)[:0])
	if c.chunked {
		b = strconv.AppendUint(b, uint64(len(p)), 16)
		b = append(b, "\r\n"...)
		b = append(b, p...)
		b = append(b, "\r\n"...)
	} else {
		b = append(b, p...)
	}
	*scratch = b
	if err := c.send(b); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeBlocks is Write for blocks that have room in front. But for the first, with
// which the head goes, they are made a chunk where they are.
func (c *conn) writeBlocks(b []byte) error {
	if !c.chunked {
		_, err := c.Write(b[room:])
		return err
	}
	const digits = "0123456789abcdef"
	at := room - len("\r\n")
	copy(b[at:], "\r\n")
	for n := len(b) - room; n > 0; n >>= 4 {
		at--
		b[at] = digits[n&0xf]
	}
	return c.send(append(b, "\r\n"...)[at:])
}

// send writes to the client.
func (c *conn) send(b []byte) error {
	_, err := c.Conn.Write(b)
	c.failed = c.failed || err != nil
	return err
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
	head := bytes.NewBuffer(b)
	fmt.Fprintf(head, "HTTP/1.1 %03d %s\r\n", c.status, http.StatusText(c.status))
	_ = h.Write(head) // which cannot fail, and lets no line end through
	c.header = nil
	head.WriteString("\r\n")
	return head.Bytes()
}

// end ends the response, and gives the connection back if it is whole.
func (c *conn) end(whole bool) {
	if !whole || c.failed || !c.finish() {
		c.Conn.Close()
		return
	}
	if c.close {
		c.linger()
		return
	}
	_ = c.SetReadDeadline(time.Unix(1, 0))
	<-c.watched
	if c.left || c.SetDeadline(time.Time{}) != nil {
		c.Conn.Close()
		return
	}
	c.bridge.listener.Load().giveBack(&givenBack{Conn: c.Conn, read: c.ahead, idle: c.idle})
}

// linger closes the connection when the client has, or after a while.
func (c *conn) linger() {
	defer c.Conn.Close()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(lingering))
		<-c.watched
		_, _ = io.Copy(io.Discard, c.Conn)
	}
}

// finish writes what is left of a response that is whole.
func (c *conn) finish() bool {
	rest := c.appendHead(nil)
	if c.chunked {
		rest = append(rest, "0\r\n\r\n"...)
	}
	_ = c.SetWriteDeadline(time.Now().Add(c.bridge.config.WriteTimeout)) // 204 has no other write
	_, err := c.Conn.Write(rest)
	return err == nil
}
