package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	h2 "golang.org/x/net/http2"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// attacker is a process that attacks connections. It has the lowest priority: an attacker
// has a machine of its own, and takes no processor from the server but what it makes that
// do.
type attacker struct {
	http, grpc string // where the faces listen
	secure     bool   // over TLS
	count      int    // how many at once, or in all
	until      time.Time

	connections, closed, requests atomic.Int64 // that it has made, and that the server has closed
}

// attackKinds are what attackers can do.
var attackKinds = map[string]func(a *attacker){
	"slow-headers": func(a *attacker) { a.many(a.slowHeader) },
	"stalled":      func(a *attacker) { a.many(a.stalledBody) },
	"resets":       func(a *attacker) { a.many(a.resets) },
	"grpc-resets":  func(a *attacker) { a.many(a.grpcResets) },
	"storm":        (*attacker).storm,
	"large-bodies": func(a *attacker) { a.many(a.largeBody) },
	"tokens":       func(a *attacker) { a.many(a.tokens) },
	"spaces":       func(a *attacker) { a.many(a.spaces) },
}

// attackConnections is the role: its arguments are what it does, how many, for how long,
// where, and whether over TLS. It prints a line when it begins, and one when it is over.
func attackConnections(_ *testbed.Gate, args []string) error {
	if err := yieldProcessor(); err != nil {
		return err
	}
	count, err1 := strconv.Atoi(args[1])
	duration, err2 := time.ParseDuration(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	fmt.Println("begun")
	a := &attacker{http: args[3], grpc: args[4], secure: args[5] == "true", count: count, until: time.Now().Add(duration)}
	attackKinds[args[0]](a)
	fmt.Printf("%d connections, %d of them closed by the server, and %d requests\n", a.connections.Load(), a.closed.Load(), a.requests.Load())
	return nil
}

// yieldProcessor has all threads of this process, and those to come, run last.
func yieldProcessor() error {
	threads, err := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		var id int
		if id, err = strconv.Atoi(thread.Name()); err == nil {
			err = syscall.Setpriority(syscall.PRIO_PROCESS, id, 19)
		}
		if err != nil {
			break
		}
	}
	return err
}

// many has so many do something, again and again, until the attack is over.
func (a *attacker) many(do func(i int)) {
	var all sync.WaitGroup
	for i := range a.count {
		all.Go(func() {
			for time.Now().Before(a.until) {
				do(i)
			}
		})
	}
	all.Wait()
}

// dial opens a connection that ends with the attack, for HTTP/1.1 or for HTTP/2.
func (a *attacker) dial(addr string, protocols ...string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		a.closed.Add(1)
		return nil, err
	}
	a.connections.Add(1)
	_ = c.SetDeadline(a.until)
	if a.secure {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	}
	return c, nil
}

// ended counts a connection whose use has ended with an error.
func (a *attacker) ended(err error) {
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		a.closed.Add(1)
	}
}

// slowHeader sends a header bit by bit.
func (a *attacker) slowHeader(i int) {
	addr, begin, more, protocols := a.http, "GET / HTTP/1.1\r\nHost: localhost\r\n", "X-A: b\r\n", []string(nil)
	if i%4 == 3 {
		addr, begin, more, protocols = a.grpc, h2.ClientPreface[:10], h2.ClientPreface[:1], []string{"h2"}
	}
	c, err := a.dial(addr, protocols...)
	if err != nil {
		return
	}
	defer c.Close()
	for _, err = io.WriteString(c, begin); err == nil && time.Now().Before(a.until); _, err = io.WriteString(c, more) {
		time.Sleep(200 * time.Millisecond)
	}
	a.ended(err)
}

// stalledBody sends the beginning of a body, and no more.
func (a *attacker) stalledBody(i int) {
	const http1 = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
	var c net.Conn
	var err error
	switch i % 4 {
	case 0, 1:
		if c, err = a.dial(a.http); err == nil {
			_, err = io.WriteString(c, http1+strings.Repeat(" ", 1<<10))
		}
	case 2:
		if c, err = a.dial(a.http, "h2"); err == nil {
			err = a.beginStream(c, beginHTTP2)
		}
	case 3:
		if c, err = a.dial(a.grpc, "h2"); err == nil {
			err = a.beginStream(c, beginGRPC)
		}
	}
	if c == nil {
		return
	}
	defer c.Close()
	a.requests.Add(1)
	if err == nil {
		_, err = io.Copy(io.Discard, c)
	}
	a.ended(err)
}

// largeBody sends all but the last byte of as large a body as is taken.
func (a *attacker) largeBody(int) {
	const size = 4 << 20
	c, err := a.dial(a.http)
	if err != nil {
		return
	}
	defer c.Close()
	a.requests.Add(1)
	if _, err = fmt.Fprintf(c, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", size); err == nil {
		if _, err = io.WriteString(c, strings.Repeat(" ", size-1)); err == nil {
			_, err = io.Copy(io.Discard, c)
		}
	}
	a.ended(err)
}

// beginStream begins a request whose body does not come.
func (a *attacker) beginStream(c net.Conn, begin func(*testbed.HTTP2) (uint32, error)) error {
	h, err := testbed.NewHTTP2(c)
	if err == nil {
		_, err = begin(h)
	}
	if err == nil {
		<-h.Ended
	}
	return err
}

// beginGRPC sends the header of a call that is to get a message.
func beginGRPC(h *testbed.HTTP2) (stream uint32, err error) {
	return h.Request(false, ":method", "POST", ":scheme", "http", ":authority", "localhost",
		":path", completionv1.CompletionService_CreateCompletion_FullMethodName, "content-type", "application/grpc")
}

// resets asks for completions, and breaks each request off.
func (a *attacker) resets(int) {
	a.breakOff(a.http, func(h *testbed.HTTP2) (uint32, error) {
		stream, err := beginHTTP2(h)
		if err == nil {
			err = h.WriteData(stream, true, []byte(e2etest.Question))
		}
		return stream, err
	})
}

func (a *attacker) grpcResets(int) { a.breakOff(a.grpc, beginGRPC) }

func (a *attacker) breakOff(addr string, begin func(*testbed.HTTP2) (uint32, error)) {
	c, err := a.dial(addr, "h2")
	if err != nil {
		return
	}
	defer c.Close()
	h, err := testbed.NewHTTP2(c)
	for err == nil && time.Now().Before(a.until) {
		var stream uint32
		if stream, err = begin(h); err == nil {
			err = h.WriteRSTStream(stream, h2.ErrCodeCancel)
			a.requests.Add(1)
		}
	}
	a.ended(err)
}

// storm opens connections and closes them, as fast as it can.
func (a *attacker) storm() {
	var all sync.WaitGroup
	var next atomic.Int64
	for range 64 {
		all.Go(func() {
			for n := next.Add(1); int(n) <= a.count; n = next.Add(1) {
				addr, protocols := a.http, []string(nil)
				if n%4 == 3 {
					addr, protocols = a.grpc, []string{"h2"}
				}
				c, err := a.dial(addr, protocols...)
				if err != nil {
					continue
				}
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				if t, ok := c.(*tls.Conn); ok && n%2 == 0 { // the others break the handshake off
					_ = t.Handshake()
				}
				_ = c.Close()
			}
		})
	}
	all.Wait()
}

// spaces sends a body that is nothing but spaces, and has no end.
func (a *attacker) spaces(int) {
	c, err := a.dial(a.http)
	if err != nil {
		return
	}
	defer c.Close()
	a.requests.Add(1)
	chunk := fmt.Sprintf("%x\r\n%s\r\n", 16<<10, strings.Repeat(" ", 16<<10))
	for _, err = io.WriteString(c, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"); err == nil; {
		_, err = io.WriteString(c, chunk)
	}
	a.ended(err)
}
