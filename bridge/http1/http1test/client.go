// Package http1test lets tests talk raw HTTP/1 to a server, on one connection.
package http1test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Client is a client on one connection. Its methods end the test if the connection fails.
type Client struct {
	net.Conn
	R *bufio.Reader // of what the connection receives
	T *testing.T
}

// Dial connects to an address, for the length of a test. One that hangs fails.
func Dial(t *testing.T, addr string) *Client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return &Client{c, bufio.NewReader(c), t}
}

// Send sends raw bytes.
func (c *Client) Send(s string) {
	c.T.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		c.T.Fatal(err)
	}
}

// Response reads the head of a response.
func (c *Client) Response() *http.Response {
	c.T.Helper()
	resp, err := http.ReadResponse(c.R, nil)
	if err != nil {
		c.T.Fatal(err)
	}
	return resp
}

// Whole reads a response, which must have the status, and the text in its body.
func (c *Client) Whole(status int, text string) *http.Response {
	c.T.Helper()
	resp := c.Response()
	got, err := io.ReadAll(resp.Body)
	if resp.StatusCode != status || !strings.Contains(string(got), text) || err != nil {
		c.T.Errorf("got %s, %q, %v; want %d, %q", resp.Status, got, err, status, text)
	}
	return resp
}

// Over fails the test unless the server closes the connection, with nothing before.
func (c *Client) Over() {
	c.T.Helper()
	if rest, err := io.ReadAll(c.R); err != nil || len(rest) > 0 {
		c.T.Errorf("got %q, %v; want the connection's end", rest, err)
	}
}
