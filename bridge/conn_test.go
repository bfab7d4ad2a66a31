package bridge_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/bridge/http1/http1test"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
)

// The bridge on a socket, where streams take their connections from net/http.

// socket is an http.Server that serves a bridge.
type socket struct {
	bridge *bridge.Bridge
	server *http.Server
	addr   string

	mu       sync.Mutex // guards the two below
	conns    []net.Conn // that net/http got, new ones and those that came back
	hijacked int        // how many were taken from it
}

func listen(t *testing.T, play func(eventStream) error) *socket {
	t.Helper()
	return serveBridge(t, newBridge(t, play, bridge.Config{}))
}

func serveBridge(t *testing.T, b *bridge.Bridge, change ...func(*http.Server)) *socket {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &socket{bridge: b, addr: l.Addr().String()}
	s.server = &http.Server{Handler: s.bridge, ConnState: func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.conns = append(s.conns, c)
		case http.StateHijacked:
			s.hijacked++
		}
	}}
	for _, c := range change {
		c(s.server)
	}
	l = s.bridge.Listener(l)
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(l) }()
	t.Cleanup(func() {
		s.server.Close()
		s.bridge.Close()
		s.bridge.Wait()
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("the server ended with %v", err)
		}
	})
	return s
}

func (s *socket) dial(t *testing.T) *http1test.Client {
	t.Helper()
	return http1test.Dial(t, s.addr)
}

const (
	postStream = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"x\"}"
	postWhole  = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nContent-Length: 14\r\n\r\n{\"prompt\":\"x\"}"
	getStream  = "GET /v1/completions/cmpl_x/events HTTP/1.1\r\nHost: x\r\n\r\n"
	getAlive   = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
)

func playShort(s eventStream) error {
	return errors.Join(named(s, "cmpl_x"), created(s), delta(s, 2, "a"), finished(s, 3))
}

// One connection serves streams and other requests, as often as one likes.
func TestConnectionStays(t *testing.T) {
	s := listen(t, playShort)
	c := s.dial(t)
	for range 3 {
		c.Send(postStream)
		resp := c.Whole(200, block1+block2+block3)
		if resp.Close || resp.Header.Get("Date") == "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" ||
			resp.Header.Get("Location") != "/v1/completions/cmpl_x" || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Errorf("got %v", resp.Header)
		}
		c.Send(getAlive)
		c.Whole(200, "ok\n")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hijacked != 3 || len(s.conns) != 4 {
		t.Errorf("%d streams took their connection, and net/http got %d; want one, and that back three times", s.hijacked, len(s.conns))
	}
}

// Responses that are no stream.
func TestConnectionOtherResponses(t *testing.T) {
	s := listen(t, func(s eventStream) error { return failed(codes.NotFound, "COMPLETION_NOT_FOUND") })
	c := s.dial(t)
	c.Send(getStream)
	if resp := c.Whole(404, `"reason":"COMPLETION_NOT_FOUND"`); resp.ContentLength <= 0 || len(resp.TransferEncoding) > 0 {
		t.Errorf("got the length %d", resp.ContentLength)
	}
	s = listen(t, func(s eventStream) error { return named(s, "cmpl_x") })
	c = s.dial(t)
	for range 2 {
		c.Send(getStream)
		if resp := c.Whole(204, ""); resp.Header["Content-Length"] != nil || len(resp.TransferEncoding) > 0 {
			t.Errorf("204 has a body: %v", resp.Header)
		}
	}
}

// forgetful is a connection to a server that is silent, and knows a request only
// as long as others do.
type forgetful struct {
	grpc.ClientConnInterface
	request chan weak.Pointer[completionv1.CompletionRequest]
}

func (f forgetful) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return &forgetfulStream{ctx: ctx, request: f.request}, nil
}

type forgetfulStream struct {
	grpc.ClientStream
	ctx     context.Context
	request chan weak.Pointer[completionv1.CompletionRequest]
}

func (f *forgetfulStream) SendMsg(m any) error {
	f.request <- weak.Make(m.(*completionv1.CompletionRequest))
	return nil
}

func (f *forgetfulStream) CloseSend() error { return nil }
func (f *forgetfulStream) Header() (metadata.MD, error) {
	return metadata.Pairs("completion-id", "cmpl_x"), nil
}

func (f *forgetfulStream) RecvMsg(any) error {
	<-f.ctx.Done()
	return context.Cause(f.ctx)
}

// forgetfulDirect is the same with a connection that pushes.
type forgetfulDirect struct{ forgetful }

func (f forgetfulDirect) Stream(ctx context.Context, _ string, request any, _ inproc.Receiver, _ ...grpc.CallOption) error {
	f.request <- weak.Make(request.(*completionv1.CompletionRequest))
	<-ctx.Done()
	return context.Cause(ctx)
}

// A stream does not hold its request, which may be large.
func TestRequestIsNotHeld(t *testing.T) {
	requests := make(chan weak.Pointer[completionv1.CompletionRequest], 1)
	for name, conn := range map[string]grpc.ClientConnInterface{
		"pushed": forgetfulDirect{forgetful{request: requests}}, "received": forgetful{request: requests},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := bridge.New(conn, bridge.Config{})
			if err != nil {
				t.Fatal(err)
			}
			s := serveBridge(t, b)
			c := s.dial(t)
			c.Send(postStream)
			request := <-requests
			for deadline := time.Now().Add(10 * time.Second); request.Value() != nil; runtime.GC() {
				if time.Now().After(deadline) {
					t.Fatal("the request is still held")
				}
			}
		})
	}
}

// Under TLS a stream stays with net/http, and so the connection stays open.
func TestConnectionUnderTLS(t *testing.T) {
	b := newBridge(t, playShort, bridge.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(b)
	srv.Listener.Close()
	srv.Listener = b.Listener(l)
	var accepted atomic.Int32
	srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			accepted.Add(1)
		}
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	for range 2 {
		resp, err := srv.Client().Post(srv.URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != block1+block2+block3 || err != nil || resp.Close || resp.ProtoMajor != 1 {
			t.Errorf("got %s, %q, %v; it closes: %v", resp.Proto, got, err, resp.Close)
		}
	}
	b.Wait()
	if n := accepted.Load(); n != 1 {
		t.Errorf("two requests took %d connections", n)
	}
}

// Both calls that a POST from the terminal event makes are the caller's.
func TestBothCallsAreTheCallers(t *testing.T) {
	calls := make(chan []string, 2)
	s := listen(t, func(s eventStream) error {
		calls <- metadata.ValueFromIncomingContext(s.Context(), "authorization")
		if err := named(s, "cmpl_x"); err != nil || len(calls) == 1 {
			return err
		}
		return finished(s, 3)
	})
	c := s.dial(t)
	c.Send(strings.Replace(postStream, "\r\n", "\r\nAuthorization: Bearer me\r\nLast-Event-ID: cmpl_x_3\r\n", 1))
	c.Whole(200, "id: cmpl_x_3\n\n")
	for range 2 {
		if got := <-calls; len(got) != 1 || got[0] != "Bearer me" {
			t.Errorf("a call by %q", got)
		}
	}
}

// A client that takes nothing has little made for it, though the system would take
// megabytes.
func TestUnreadIsBounded(t *testing.T) {
	const most = 1 << 20
	text, begun := strings.Repeat("x", 1<<10), make(chan struct{})
	b := newBridge(t, func(s eventStream) error {
		close(begun)
		err := errors.Join(named(s, "cmpl_x"), created(s))
		for n := int32(2); err == nil && n < 16<<10; n++ {
			err = delta(s, n, text)
		}
		return err
	}, bridge.Config{WriteTimeout: 200 * time.Millisecond})
	s := serveBridge(t, b)
	c := s.dial(t)
	c.Send(postStream)
	<-begun
	b.Wait() // until it is let go
	if got, _ := io.Copy(io.Discard, c); got == 0 || got > most {
		t.Errorf("%d bytes were made for a client that took none", got)
	}
}

// A header that no metadata can hold is still one: a caller whose key has a character
// that is not ASCII has wrong credentials, not none.
func TestUnprintableCredentials(t *testing.T) {
	onBoth(t, "unprintable", func(t *testing.T, kind string) {
		got := make(chan []string, 1)
		b := newBridgeOn(t, kind, func(s eventStream) error {
			got <- metadata.ValueFromIncomingContext(s.Context(), "authorization")
			return nil
		}, bridge.Config{})
		for _, key := range []string{"Bearer a…b", "Bearer a\tb", "Bearer \xff"} {
			r := post(t.Context())
			r.Header.Set("Authorization", key)
			b.ServeHTTP(httptest.NewRecorder(), r)
			if md := <-got; len(md) != 1 || !strings.HasPrefix(md[0], "Bearer ") {
				t.Errorf("%q became %q", key, md)
			}
		}
	})
}
