package e2e

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// resetter is a TCP proxy whose connections can be reset in the middle.
type resetter struct {
	url      string
	listener net.Listener
	target   string
	down     atomic.Bool // it takes no connection

	mu      sync.Mutex // guards all below
	clients []*net.TCPConn
	cuts    int // connections that were open when they were reset
}

func newResetter(t *testing.T, target string) *resetter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &resetter{url: "http://" + listener.Addr().String(), listener: listener, target: strings.TrimPrefix(target, "http://")}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			if c.down.Load() {
				_ = client.Close()
				continue
			}
			serving.Go(func() { c.forward(client.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		c.cut()
		serving.Wait()
	})
	return c
}

func (c *resetter) forward(client *net.TCPConn) {
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

// cut resets all connections.
func (c *resetter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, client := range c.clients {
		if client.SetLinger(0) == nil { // it is open
			c.cuts++
		}
		_ = client.Close()
	}
	c.clients = nil
}
