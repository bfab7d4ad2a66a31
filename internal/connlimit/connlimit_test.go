package connlimit_test

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/connlimit"
)

func listen(t *testing.T) *net.TCPListener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

// client connects, and has what it sends come back, or not.
func client(t *testing.T, addr net.Addr) (c net.Conn, served bool) {
	t.Helper()
	c, err := net.Dial("tcp", addr.String())
	if errors.Is(err, syscall.ECONNRESET) {
		return nil, false // as soon as it was there
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write([]byte("x"))
	n, err := c.Read(make([]byte, 1))
	if err, ok := err.(net.Error); ok && err.Timeout() {
		t.Fatal("it waits")
	}
	return c, n == 1
}

// One connection more than may be is closed, at once, and the next is taken as soon as one
// of the others has gone. One that is closed twice has gone once.
func TestListener(t *testing.T) {
	var refused atomic.Int64
	raw := listen(t)
	l := connlimit.Listener(raw, 2, func() { refused.Add(1) })
	closed := make(chan bool, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				c.Close()
				c.Close()
				closed <- true
			}()
		}
	}()
	first, ok1 := client(t, raw.Addr())
	_, ok2 := client(t, raw.Addr())
	for range 3 {
		if _, served := client(t, raw.Addr()); served {
			t.Error("a third one is served")
		}
	}
	if n := refused.Load(); !ok1 || !ok2 || n != 3 {
		t.Errorf("the first two are served: %v, %v; %d are refused", ok1, ok2, n)
	}
	first.Close()
	<-closed
	if _, served := client(t, raw.Addr()); !served {
		t.Error("no other one is served when one has gone")
	}
	if _, served := client(t, raw.Addr()); served {
		t.Error("two are served for one that has gone")
	}
}
