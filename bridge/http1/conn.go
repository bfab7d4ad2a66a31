package http1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// lingerTimeout is how long a connection stays half open that is to be closed: data
// that the client still sends would else reset it, and destroy what is on its way
// (RFC 9112 section 9.6).
const lingerTimeout = 500 * time.Millisecond

// maxAhead bounds how much is read, during a response, of what a client sends behind its
// request, in bytes. Its departure cannot be seen before all of that is read; behind
// more, the next write finds it.
const maxAhead = 16 << 10

// Conn is a connection for the length of one response, and that response's
// http.ResponseWriter: each Write is a chunk and a system call. One goroutine at a time
// may write; a deadline may be set at any time.
type Conn struct {
	net.Conn
	headWritten bool
	chunked     bool // the body is in chunks
	failed      bool // a write has: the client cannot tell where the response is
	closing     bool // the response is the connection's last

	header       http.Header   // until the head is written
	status       int           // 0: not known yet
	writeTimeout time.Duration // of the response's begin and end
	idleTimeout  time.Duration // how long the connection may then wait for another request; 0: no limit

	// Of the goroutine that watches, until watched is closed.
	ahead   []byte // what the client has sent behind its request
	left    bool   // the client has
	watched chan struct{}
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
func (c *Conn) watch(gone context.CancelFunc) {
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

// Header implements http.ResponseWriter. It is nil once the head is written.
func (c *Conn) Header() http.Header { return c.header }

// WriteHeader implements http.ResponseWriter. The head is sent with the first
// data, or with the end. It sets a write deadline, for all that follows and has no
// other.
func (c *Conn) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
		_ = c.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	}
}

// Begun tells whether the status is said, or data.
func (c *Conn) Begun() bool { return c.status != 0 }

// Write implements http.ResponseWriter.
func (c *Conn) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	buf := GetBuffer()
	defer PutBuffer(buf)
	b := c.appendHead((*buf)[:0])
	if c.chunked {
		b = strconv.AppendUint(b, uint64(len(p)), 16)
		b = append(b, "\r\n"...)
		b = append(b, p...)
		b = append(b, "\r\n"...)
	} else {
		b = append(b, p...)
	}
	*buf = b
	if err := c.send(b); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteChunk is Write for data behind ChunkHeadroom bytes, which it changes: after the
// first chunk, with which the head goes, data is written from where it stands. There may
// be room for a line end behind it.
func (c *Conn) WriteChunk(b []byte) error {
	if !c.chunked {
		_, err := c.Write(b[ChunkHeadroom:])
		return err
	}
	const digits = "0123456789abcdef"
	start := ChunkHeadroom - len("\r\n")
	copy(b[start:], "\r\n")
	for n := len(b) - ChunkHeadroom; n > 0; n >>= 4 {
		start--
		b[start] = digits[n&0xf]
	}
	return c.send(append(b, "\r\n"...)[start:])
}

// send writes to the client.
func (c *Conn) send(b []byte) error {
	_, err := c.Conn.Write(b)
	c.failed = c.failed || err != nil
	return err
}

// appendHead appends the status line and the headers, once.
func (c *Conn) appendHead(b []byte) []byte {
	if c.headWritten {
		return b
	}
	c.headWritten = true
	c.WriteHeader(http.StatusOK)
	h := c.header
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	if c.status != http.StatusNoContent && h.Get("Content-Length") == "" {
		c.chunked = true
		h.Set("Transfer-Encoding", "chunked")
	}
	if c.closing {
		h.Set("Connection", "close")
	}
	head := bytes.NewBuffer(b)
	fmt.Fprintf(head, "HTTP/1.1 %03d %s\r\n", c.status, http.StatusText(c.status))
	_ = h.Write(head) // which cannot fail, and lets no line end through
	c.header = nil
	head.WriteString("\r\n")
	return head.Bytes()
}

// end ends the response. It returns the connection if that can go back to net/http; if
// not, it is closed.
func (c *Conn) end(whole bool) *returnedConn {
	if !whole || c.failed || !c.finish() {
		c.Conn.Close()
		return nil
	}
	if c.closing {
		c.linger()
		return nil
	}
	_ = c.SetReadDeadline(time.Unix(1, 0))
	<-c.watched
	if c.left || c.SetDeadline(time.Time{}) != nil {
		c.Conn.Close()
		return nil
	}
	return &returnedConn{Conn: c.Conn, read: c.ahead, idleTimeout: c.idleTimeout}
}

// finish writes what is left of a response that is whole.
func (c *Conn) finish() bool {
	rest := c.appendHead(nil)
	if c.chunked {
		rest = append(rest, "0\r\n\r\n"...)
	}
	_ = c.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	return c.send(rest) == nil
}

// linger closes the connection when the client has, or after a while.
func (c *Conn) linger() {
	defer c.Conn.Close()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_ = c.SetReadDeadline(time.Now().Add(lingerTimeout))
		<-c.watched
		_, _ = io.Copy(io.Discard, c.Conn)
	}
}
