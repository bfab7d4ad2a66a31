// Package http1 takes a connection from net/http for the length of one response, and
// gives it back.
//
// While a response waits for what it is to say, net/http holds the goroutine that read
// and routed the request, with the deep stack that this takes, the request, and three
// buffers. A response on a connection of its own holds a shallow goroutine and a tiny
// one, which notices that the client leaves. Each write is a system call, and none
// waits in a buffer.
//
//	conns := http1.New(http1.Config{…})
//	server := &http.Server{Handler: …}  // which calls conns.Respond
//	conns.Configure(server)
//	server.Serve(conns.Listener(l))
//
// Where that cannot be, over HTTP/2, HTTP/1.0 or TLS, the response stays with net/http,
// and all else is the same.
//
// Caveats: http.Server.Shutdown does not wait for responses that have taken their
// connections: Conns.Wait does. http.Server.WriteTimeout does not bound them: Conn sets
// a write deadline when a response begins and when it ends, and who goes on writing in
// between sets others. A response that cannot go on, and is net/http's, ends by
// panicking with http.ErrAbortHandler, so a handler around it must let that through.
package http1

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Config is all that Conns want to know.
type Config struct {
	WriteTimeout time.Duration // how long a client may take nothing of the begin or the end of a response
	Log          *slog.Logger  // for panics
}

// Conns are the connections of one http.Server. All methods may be called by many
// goroutines at once.
type Conns struct {
	config   Config
	listener atomic.Pointer[listener]

	// Of the responses that have connections of their own.
	ctx    context.Context // done when they are to be cut
	cancel context.CancelFunc
	open   sync.WaitGroup
}

// New returns Conns, to be closed after use.
func New(config Config) *Conns {
	c := &Conns{config: config}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Wait waits for the end of the responses that have taken their connections.
func (c *Conns) Wait() { c.open.Wait() }

// Close cuts those responses, and closes their connections.
func (c *Conns) Close() { c.cancel() }

// connKey is that of a request's connection in its context.
type connKey struct{}

// Configure has an http.Server tell of its connections. Without it, a client over
// HTTP/1.0 or TLS that leaves keeps its socket until something is written, and a shutdown
// waits five seconds for a connection on which nothing has come. It is called before the
// server serves, and keeps the server's own ConnContext and ConnState.
func (c *Conns) Configure(s *http.Server) {
	inner := s.ConnContext
	s.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if inner != nil {
			ctx = inner(ctx, conn)
		}
		return context.WithValue(ctx, connKey{}, conn)
	}
	next := s.ConnState
	s.ConnState = func(conn net.Conn, state http.ConnState) {
		if l := c.listener.Load(); l != nil {
			l.stateChanged(conn, state)
		}
		if next != nil {
			next(conn, state)
		}
	}
}

// Listener returns a listener for the http.Server, through which connections go back to
// it. Without it, a connection is closed after a response that took it. It is called once.
func (c *Conns) Listener(l net.Listener) net.Listener {
	back := newListener(l)
	c.listener.Store(back)
	return back
}

// Follower is an http.ResponseWriter that wants to know what becomes of a response on a
// connection of its own, which does not go through it.
type Follower interface {
	// Follow is called before the handler returns. What it returns is called when the
	// response has ended, with its status, or 0 if nothing was written.
	Follow() (ended func(status int, whole bool))
}

// Respond has a function respond to a request whose body has been read. It returns when
// that has, or has got a connection and a goroutine of its own. The function reports
// whether the response is whole; if not, the client learns it. Its context has the values
// of ctx, which is the request's or made of it, and is done when the client leaves, or the
// function has returned.
func (c *Conns) Respond(w http.ResponseWriter, r *http.Request, ctx context.Context, respond func(*Context, http.ResponseWriter) (whole bool)) {
	c.open.Add(1) // before net/http no longer counts the connection
	if conn := c.hijack(w, r); conn != nil {
		detached := newContext(context.Background(), ctx) // the request's ends with the handler
		ended := func(int, bool) {}
		if f, ok := w.(Follower); ok {
			ended = f.Follow()
		}
		go func() {
			defer c.open.Done()
			c.serve(conn, detached, respond, ended)
		}()
		return
	}
	defer c.open.Done()
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok && r.ProtoMajor == 1 {
		stay := context.AfterFunc(r.Context(), func() { conn.Close() }) // as Conn.watch does
		defer stay()
	}
	own := newContext(ctx, ctx)
	defer own.Cancel()
	if !respond(own, w) {
		panic(http.ErrAbortHandler)
	}
}

// hijack takes the connection of a request whose body has been read. It returns nil where
// it cannot, or would do no good: HTTP/2 has streams of its own, HTTP/1.0 no chunks, and
// under TLS the connection could not go back, for the listener has only what is encrypted.
func (c *Conns) hijack(w http.ResponseWriter, r *http.Request) *Conn {
	if r.ProtoMajor != 1 || r.ProtoMinor == 0 || r.TLS != nil || r.Method == http.MethodGet && r.ContentLength != 0 {
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
	if before, ok := raw.(*returnedConn); ok { // it was here already
		raw, ahead = before.Conn, append(ahead, before.read...)
	}
	conn := &Conn{Conn: raw, header: w.Header(), ahead: ahead, writeTimeout: c.config.WriteTimeout, watched: make(chan struct{})}
	conn.closing = r.Close || c.listener.Load() == nil
	if s, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok {
		conn.idleTimeout = s.IdleTimeout
	}
	return conn
}

// serve responds on a connection, tells of it, and gives the connection back if it can.
func (c *Conns) serve(conn *Conn, ctx *Context, respond func(*Context, http.ResponseWriter) bool, ended func(int, bool)) {
	whole := false
	defer context.AfterFunc(c.ctx, func() {
		ctx.Cancel()
		conn.Conn.Close() // a write waits for the client, not for the context
	})()
	defer func() {
		// As net/http has it: a fault in one response does not end all of them.
		if err := recover(); err != nil {
			c.config.Log.Error("panic in a response", "cause", fmt.Sprint(err), "stack", string(debug.Stack()))
			whole = false
		}
		ended(conn.status, whole && !conn.failed)
		if returned := conn.end(whole); returned != nil {
			c.listener.Load().giveBack(returned)
		}
	}()
	defer ctx.Cancel()
	go conn.watch(ctx.Cancel)
	whole = respond(ctx, conn)
}
