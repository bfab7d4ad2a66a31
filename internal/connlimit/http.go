package connlimit

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// HTTP bounds how many requests of each HTTP/2 connection of an http.Server are broken
// off. One that is broken off before its handler begins costs next to nothing, and is not
// counted. One is counted, too, that the server itself had to break off, for instance as
// the client has misused a window (CVE-2025-8671).
type HTTP struct {
	PerSecond int                   // so many a second in the long run, and five times as many at once
	Closed    func(remote net.Addr) // is called when a connection is closed for one more
}

// connKey is that of a request's connection in its context.
type connKey struct{}

// httpConn is a connection of an http.Server.
type httpConn struct {
	net.Conn
	resets resets

	close  sync.Once
	closed chan struct{} // closed when the connection is: nobody is held any more
}

// ConnContext is the http.Server's.
func (h *HTTP) ConnContext(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, &httpConn{Conn: c, resets: newResets(h.PerSecond), closed: make(chan struct{})})
}

// Handler returns a handler around one.
func (h *HTTP) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			defer h.count(r.Context())
		}
		next.ServeHTTP(w, r)
	})
}

// count counts a request whose handler has returned, if its context is done: that is the
// client's, or the server's that stops.
func (h *HTTP) count(ctx context.Context) {
	c, ok := ctx.Value(connKey{}).(*httpConn)
	if !ok || ctx.Err() == nil {
		return
	}
	wait, ok := c.resets.add()
	if ok {
		// Until the handler returns, the request counts among those that run. Of so many,
		// net/http closes a connection with four times as many that wait to begin.
		select {
		case <-time.After(min(wait, time.Second)):
		case <-c.closed:
		}
		return
	}
	c.close.Do(func() { close(c.closed) })
	raw := c.Conn
	if t, ok := raw.(interface{ NetConn() net.Conn }); ok {
		raw = t.NetConn() // under TLS, whose end would wait for the client to read
	}
	if raw.Close() == nil {
		h.Closed(raw.RemoteAddr())
	}
}
