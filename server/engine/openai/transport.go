package openai

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
)

const (
	// idleTimeout is how long an idle connection is kept. If the upstream closes a
	// connection just as it is reused, the caller gets a 503: net/http does not repeat a
	// POST, and must not, as it might have to be paid for twice. uvicorn and Node close
	// theirs after 5 s.
	idleTimeout = 4 * time.Second

	maxIdle = 1024 // connections
)

// newTransport returns the transport for all requests to an upstream. It is used
// without an http.Client, which would follow redirects, and send the key there.
func newTransport(upstream *url.URL, connectTimeout time.Duration) http.RoundTripper {
	dialer := &net.Dialer{Timeout: connectTimeout}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: upstream})
	international := strings.ContainsFunc(upstream.Host, func(r rune) bool { return r > unicode.MaxASCII })
	if upstream.Scheme == "http" && proxy == nil && err == nil && !international {
		return &plainTransport{dialer: dialer, address: net.JoinHostPort(upstream.Hostname(), cmp.Or(upstream.Port(), "80"))}
	}
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: connectTimeout,
		MaxIdleConnsPerHost: maxIdle, // there is only one host; the default is 2
		IdleConnTimeout:     idleTimeout,
		WriteBufferSize:     1 << 10, // for one request, then the connection waits for tokens
		DisableCompression:  true,    // gzip holds back what does not fill a block
		ForceAttemptHTTP2:   true,
		// Without pings, a connection whose peer is gone stays in use (golang/go#59690).
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
}

// plainTransport is an http.RoundTripper for one upstream, over HTTP/1.1 without TLS.
//
// It is here beside http.Transport because that keeps two goroutines and two buffers
// for each connection: a stream that waits for its next token has 51 KiB with it, and 33
// without. Here, whoever reads a body reads the connection, into a buffer of their own.
// net/http still writes the requests, and parses the heads of the responses.
//
// A connection is used for one request after the other. An idle connection is closed
// after idleTimeout, or when the upstream closes it or sends something.
type plainTransport struct {
	address string // host and port
	dialer  *net.Dialer

	mu     sync.Mutex // guards idle and closed
	idle   []*connection
	closed bool
}

// connection is a connection to the upstream.
type connection struct {
	net.Conn

	// While it is idle, the goroutine of watch reads it, and sends here whether it was
	// still good when the reading was stopped.
	good chan bool
}

// RoundTrip implements http.RoundTripper. When the context of the request is done, the
// connection is closed, unless the body has been closed.
func (t *plainTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	c, err := t.connect(ctx)
	if err != nil {
		return nil, err
	}
	body := &responseBody{transport: t, conn: c}
	body.stop = context.AfterFunc(ctx, func() { c.Close() })
	res, err := body.roundTrip(req)
	if err != nil {
		body.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	return res, nil
}

// connect returns an idle connection or a new one.
func (t *plainTransport) connect(ctx context.Context) (*connection, error) {
	for {
		c := t.takeIdle()
		if c == nil {
			break
		}
		// What has just arrived may not have woken watch, and would be taken for the
		// response to the next request (RFC 9112 section 6.3).
		if c.stopWatch() && !hasUnread(c.Conn) {
			return c, nil
		}
		c.Close()
	}
	conn, err := t.dial(ctx)
	if err != nil {
		return nil, err
	}
	return &connection{Conn: conn}, nil
}

// dial makes a new connection, in a goroutine of its own: a dialer needs 2 KiB more of a
// stack than all else that a stream does, and a stack that has once grown from 8 KiB to 16
// has them for as long as the stream waits.
func (t *plainTransport) dial(ctx context.Context) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err = t.dialer.DialContext(ctx, "tcp", t.address)
	}()
	<-done // which is not long after ctx is
	return conn, err
}

// takeIdle returns the connection that became idle last, or nil.
func (t *plainTransport) takeIdle() *connection {
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

// putIdle keeps a connection for the next request.
func (t *plainTransport) putIdle(c *connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || len(t.idle) == maxIdle || c.SetReadDeadline(time.Now().Add(idleTimeout)) != nil {
		c.Close()
		return
	}
	c.good = make(chan bool, 1)
	t.idle = append(t.idle, c)
	go t.watch(c, c.good)
}

// watch reads an idle connection until stopWatch, or until there is something to read:
// then it closes it.
func (t *plainTransport) watch(c *connection, good chan<- bool) {
	_, err := c.Read(make([]byte, 1))
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.idle, c); i >= 0 { // not stopped
		t.idle = slices.Delete(t.idle, i, i+1)
		c.Close()
	}
	good <- errors.Is(err, os.ErrDeadlineExceeded)
}

// stopWatch makes watch return, and tells whether the connection is good.
func (c *connection) stopWatch() bool {
	return c.SetReadDeadline(time.Unix(1, 0)) == nil && <-c.good && c.SetReadDeadline(time.Time{}) == nil
}

// CloseIdleConnections closes the idle connections, and all that would become idle
// later.
func (t *plainTransport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for _, c := range t.idle {
		c.Close()
	}
	t.idle = nil
}
