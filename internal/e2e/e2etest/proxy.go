package e2etest

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// CuttingProxy is a TCP proxy that cuts connections.
type CuttingProxy struct {
	Addr string
	URL  string
	Cuts atomic.Int64 // so far
}

// Cut says when the proxy cuts a connection, and how.
type Cut struct {
	After int  // this many bytes have gone to the client, and there are more
	Last  bool // or: all has gone but the last chunk of an HTTP/1.1 answer
	How   func(context.Context, *net.TCPConn)
}

// SendReset is a way to cut a connection: by a reset.
func SendReset(_ context.Context, c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// SendFIN ends what is sent.
func SendFIN(_ context.Context, c *net.TCPConn) { _ = c.CloseWrite() }

// Stall says nothing for a while, and then closes in one of the other ways.
func Stall(d time.Duration, then func(context.Context, *net.TCPConn)) func(context.Context, *net.TCPConn) {
	return func(ctx context.Context, c *net.TCPConn) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		then(ctx, c)
	}
}

// NewCuttingProxy starts a proxy to an address or a URL. The plan says what becomes of
// the connection with the number n, from 0 on; nil: it is left alone.
func NewCuttingProxy(t testing.TB, target string, plan func(n int) *Cut) *CuttingProxy {
	t.Helper()
	target = strings.TrimPrefix(target, "http://")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &CuttingProxy{Addr: l.Addr().String(), URL: "http://" + l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			planned := plan(n)
			serving.Go(func() { c.pass(ctx, conn.(*net.TCPConn), target, planned) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		cancel()
		serving.Wait()
	})
	return c
}

// pass serves one connection.
func (c *CuttingProxy) pass(ctx context.Context, client *net.TCPConn, target string, planned *Cut) {
	defer client.Close()
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", target)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { _ = client.Close(); _ = server.Close() })()
	var up sync.WaitGroup
	defer up.Wait()
	up.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	if c.down(client, server, planned) {
		c.Cuts.Add(1)
		planned.How(ctx, client)
		_ = server.Close()
	}
	_ = client.Close()
}

// lastChunk ends an answer of HTTP/1.1 that has no length.
var lastChunk = []byte("0\r\n\r\n")

// down passes on what comes from the server, and reports whether it is time to cut.
func (c *CuttingProxy) down(client io.Writer, server io.Reader, planned *Cut) bool {
	buf := make([]byte, 16<<10)
	for sent := 0; ; {
		n, err := server.Read(buf)
		p, cuts := buf[:n], false
		switch {
		case planned == nil:
		case planned.Last:
			p, cuts = bytes.CutSuffix(p, lastChunk)
		case sent+n > planned.After:
			p, cuts = p[:planned.After-sent], true
		}
		sent += len(p)
		if _, err := client.Write(p); err != nil {
			return false
		}
		if cuts || err != nil {
			return cuts
		}
	}
}

// Resetter is a TCP proxy whose connections can be reset in the middle.
type Resetter struct {
	URL      string
	listener net.Listener
	target   string
	Down     atomic.Bool // it takes no connection

	mu      sync.Mutex // guards all below
	clients []*net.TCPConn
	Cuts    int // connections that were open when they were reset
}

// NewResetter starts one, in front of a URL.
func NewResetter(t *testing.T, target string) *Resetter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Resetter{URL: "http://" + listener.Addr().String(), listener: listener, target: strings.TrimPrefix(target, "http://")}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			if c.Down.Load() {
				_ = client.Close()
				continue
			}
			serving.Go(func() { c.forward(client.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		c.Cut()
		serving.Wait()
	})
	return c
}

func (c *Resetter) forward(client *net.TCPConn) {
	server, err := net.Dial("tcp", c.target)
	if err != nil {
		_ = client.Close()
		return
	}
	c.mu.Lock()
	c.clients = append(c.clients, client)
	c.mu.Unlock()
	var requests sync.WaitGroup
	requests.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	_, _ = io.Copy(client, server)
	_ = client.Close()
	requests.Wait()
}

// Cut resets all connections.
func (c *Resetter) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.clients {
		if client.SetLinger(0) == nil { // it is open
			c.Cuts++
		}
		_ = client.Close()
	}
	c.clients = nil
}
