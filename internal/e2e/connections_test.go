package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// withAndWithoutTLS are layouts in which both listeners are of one process.
var withAndWithoutTLS = []string{"one process", "one process over TLS"}

// endless says something until its client leaves.
func endless(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		e2etest.Say(w, "x")
		time.Sleep(10 * time.Millisecond)
	}
}

// goingOn opens a stream over HTTP/1.1, and returns what checks that it goes on.
func goingOn(t *testing.T, p *e2etest.Program) (check func()) {
	t.Helper()
	conn, _, host := p.Dial(t)
	_, err := fmt.Fprintf(conn, "POST /v1/completions HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", host, len(e2etest.Question), e2etest.Question)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := sse.NewReader(resp.Body, 1<<20)
	check = func() {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		for since := time.Now(); time.Since(since) < 50*time.Millisecond; { // past what has come already
			if _, err := r.Next(); err != nil {
				t.Fatalf("the stream is cut: %v", err)
			}
		}
	}
	check()
	return check
}

// isClosed fails the test unless a connection ends, with whatever before.
func isClosed(t *testing.T, c net.Conn, what string) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the connection stays", what)
	}
}

// TestMaxConnections holds as many connections as may be on each listener: one more is
// closed, what runs goes on, and there is room again as soon as one has gone.
func TestMaxConnections(t *testing.T) {
	const most = 3
	for _, layout := range withAndWithoutTLS {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, endless)
			p := e2etest.Start(t, layout, u.Env(), "--max-connections=3")
			goesOn := goingOn(t, p)
			_, addr, _ := strings.Cut(p.HTTP, "://")
			for listener, open := range map[string]int{addr: 1, p.GRPC: 0} {
				var conns []net.Conn
				for ; open < most; open++ {
					c, err := net.Dial("tcp", listener)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					conns = append(conns, c)
				}
				for range 3 {
					c, err := net.Dial("tcp", listener)
					if err == nil { // else it was closed at once
						defer c.Close()
						isClosed(t, c, "one too many")
					}
				}
				_ = conns[0].Close()
				e2etest.Eventually(t, "there is room again", func() bool {
					c, err := net.Dial("tcp", listener)
					if err != nil {
						return false
					}
					defer c.Close()
					_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
					_, err = c.Read(make([]byte, 1))
					return err == nil || errors.Is(err, os.ErrDeadlineExceeded)
				})
			}
			goesOn()
			if log := p.Log.String(); !strings.Contains(log, "listener=--http refused=") || !strings.Contains(log, "listener=--grpc refused=") {
				t.Errorf("the log does not tell: %s", log)
			}
		})
	}
}

// TestSlowBeginnings has clients begin as slowly as they like: each connection is closed
// after the header timeout.
func TestSlowBeginnings(t *testing.T) {
	for _, layout := range withAndWithoutTLS {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, endless)
			p := e2etest.Start(t, layout, u.Env(), "--header-timeout=300ms")
			goesOn := goingOn(t, p)
			_, addr, _ := strings.Cut(p.HTTP, "://")
			for name, say := range map[string]string{
				"nothing":                "",
				"half a header":          "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-",
				"half of HTTP/2":         h2.ClientPreface[:20],
				"half a TLS handshake":   "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
				"HTTP/2 and no settings": h2.ClientPreface,
			} {
				for _, listener := range []string{addr, p.GRPC} {
					for _, secure := range []bool{false, true} {
						if secure && (p.TLS == nil || listener == addr && !strings.HasSuffix(name, "header")) {
							continue // there net/http has a time of its own for HTTP/2: 10 s
						}
						t.Run(fmt.Sprintf("%s, gRPC: %v, secure: %v", name, listener == p.GRPC, secure), func(t *testing.T) {
							t.Parallel()
							c, err := net.Dial("tcp", listener)
							if err != nil {
								t.Fatal(err)
							}
							defer c.Close()
							if secure {
								config := p.ClientTLS()
								config.NextProtos = []string{"h2"}
								if strings.Contains(name, "header") {
									config.NextProtos = nil
								}
								c = tls.Client(c, config)
							}
							if _, err := io.WriteString(c, say); err != nil && !secure { // gRPC wants ALPN
								t.Fatal(err)
							}
							isClosed(t, c, name)
						})
					}
				}
			}
			t.Cleanup(goesOn)
		})
	}
}

// TestLargeHeaders sends more header than may be, and as much as may be.
func TestLargeHeaders(t *testing.T) {
	for _, layout := range withAndWithoutTLS {
		t.Run(layout, func(t *testing.T) {
			p := e2etest.Start(t, layout, nil, "--max-header=4KiB", "--echo-interval=0s")
			large := strings.Repeat("x", 16<<10)
			for name, version2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
				transport := &http.Transport{Protocols: &http.Protocols{}, TLSClientConfig: p.ClientTLS()}
				defer transport.CloseIdleConnections()
				transport.Protocols.SetHTTP1(!version2)
				transport.Protocols.SetHTTP2(version2 && p.TLS != nil)
				transport.Protocols.SetUnencryptedHTTP2(version2 && p.TLS == nil)
				for value, want := range map[string]int{large: 431, large[:1<<10]: 200} {
					req, err := http.NewRequestWithContext(t.Context(), "GET", p.HTTP+"/healthz", nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("X-Large", value)
					resp, err := transport.RoundTrip(req)
					if err != nil {
						if want == 200 || !version2 {
							t.Errorf("%s with %d bytes: %v", name, len(value), err)
						}
						continue // the client does not send what the server does not want
					}
					_ = resp.Body.Close()
					if resp.StatusCode != want {
						t.Errorf("%s with %d bytes: got %s, want %d", name, len(value), resp.Status, want)
					}
				}
			}
			for value, want := range map[string]codes.Code{large: codes.Internal, large[:1<<10]: codes.OK} {
				ctx := metadata.AppendToOutgoingContext(e2etest.ShortContext(t), "x-large", value)
				if _, err := p.Client(t).ListModels(ctx, &completionv1.ListModelsRequest{}); status.Code(err) != want {
					t.Errorf("gRPC with %d bytes: got %v, want %v", len(value), err, want)
				}
			}
		})
	}
}

// http2To connects to a listener, over TLS if that speaks it.
func http2To(t testing.TB, p *e2etest.Program, listener string) *testbed.HTTP2 {
	t.Helper()
	c, err := net.DialTimeout("tcp", listener, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if p.TLS != nil {
		config := p.ClientTLS()
		config.NextProtos = []string{"h2"}
		c = tls.Client(c, config)
	}
	h, err := testbed.NewHTTP2(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// beginHTTP2 sends the header of a completion request, whose body is to come.
func beginHTTP2(h *testbed.HTTP2) (stream uint32, err error) {
	return h.Request(false, ":method", "POST", ":scheme", "http", ":authority", "localhost", ":path", "/v1/completions", "content-type", "application/json")
}

// TestMaxStreams has one HTTP/2 connection hold as many requests as may be, on each
// listener: one more is reset, those that run go on, and there is room again as soon as
// one has gone.
func TestMaxStreams(t *testing.T) {
	for _, layout := range withAndWithoutTLS {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, endless)
			p := e2etest.Start(t, layout, u.Env(), "--max-streams=2", "--grpc-max-streams=2")
			_, addr, _ := strings.Cut(p.HTTP, "://")
			h := http2To(t, p, addr)
			post := func() uint32 {
				stream, err := beginHTTP2(h)
				if err == nil {
					err = h.WriteData(stream, true, []byte(e2etest.Question))
				}
				if err != nil {
					t.Fatal(err)
				}
				return stream
			}
			first := post()
			post()
			e2etest.Eventually(t, "both run", func() bool { return u.Open.Load() == 2 })
			third := post()
			e2etest.Eventually(t, "the third one is refused", func() bool {
				_, reset := h.Reset(third)
				return reset
			})
			if err := h.WriteRSTStream(first, h2.ErrCodeCancel); err != nil {
				t.Fatal(err)
			}
			e2etest.Eventually(t, "the first one has ended", func() bool { return u.Open.Load() == 1 })
			fourth := post()
			e2etest.Eventually(t, "there is room again", func() bool { return u.Open.Load() == 2 })
			if _, reset := h.Reset(fourth); reset || u.Calls.Load() != 3 {
				t.Errorf("the fourth one is reset: %v; %d calls upstream", reset, u.Calls.Load())
			}

			client := p.Client(t) // which waits, as grpc-go does, to be told that there is room
			begin := func() context.CancelFunc {
				ctx, cancel := context.WithCancel(t.Context())
				t.Cleanup(cancel)
				stream, err := client.StreamCompletion(ctx, &completionv1.CompletionRequest{Model: "m", Prompt: new("Hi")})
				if err == nil {
					_, err = stream.Recv()
				}
				if err != nil {
					t.Fatal(err)
				}
				return cancel
			}
			leave := begin()
			begin()
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, err := client.ListModels(ctx, &completionv1.ListModelsRequest{}); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("a third call over gRPC: %v", err)
			}
			leave()
			if _, err := client.ListModels(e2etest.ShortContext(t), &completionv1.ListModelsRequest{}); err != nil {
				t.Errorf("when one has gone: %v", err)
			}
		})
	}
}

// TestMaxResets has one connection break its requests off, on each listener: with one too
// many it is closed, upstream is called no more often than that, and others go on.
func TestMaxResets(t *testing.T) {
	const most = 50 // at once
	for _, layout := range withAndWithoutTLS {
		t.Run(layout, func(t *testing.T) {
			var begun atomic.Int64
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				begun.Add(1)
				endless(w, r)
			})
			p := e2etest.Start(t, layout, u.Env(), "--max-resets=10", "--grpc-max-resets=10")
			goesOn := goingOn(t, p)
			_, addr, _ := strings.Cut(p.HTTP, "://")
			h := http2To(t, p, addr)
			for n := int64(2); n < 5*most; n++ {
				stream, err := beginHTTP2(h)
				if err != nil || h.WriteData(stream, true, []byte(e2etest.Question)) != nil {
					break
				}
				e2etest.Eventually(t, "the upstream is called, or the connection closed", func() bool {
					select {
					case <-h.Ended:
						return true
					default:
						return begun.Load() >= n
					}
				})
				_ = h.WriteRSTStream(stream, h2.ErrCodeCancel)
			}
			e2etest.Eventually(t, "the connection is closed", func() bool {
				select {
				case <-h.Ended:
					return true
				default:
					return false
				}
			})
			if n := u.Calls.Load(); n > 3*most { // and what came free meanwhile
				t.Errorf("%d calls upstream", n)
			}
			g := http2To(t, p, p.GRPC)
			for range 5 * most {
				stream, err := g.Request(false, ":method", "POST", ":scheme", "http", ":authority", "localhost", ":path", completionv1.CompletionService_StreamCompletion_FullMethodName, "content-type", "application/grpc")
				if err != nil || g.WriteRSTStream(stream, h2.ErrCodeCancel) != nil {
					break
				}
			}
			e2etest.Eventually(t, "the gRPC connection is closed", func() bool {
				select {
				case <-g.Ended:
					return true
				default:
					return false
				}
			})
			goesOn()
			if _, err := p.Client(t).ListModels(e2etest.ShortContext(t), &completionv1.ListModelsRequest{}); err != nil {
				t.Errorf("another connection: %v", err)
			}
			for _, flag := range []string{"more requests than --max-resets", "more requests than --grpc-max-resets"} {
				if !strings.Contains(p.Log.String(), flag) {
					t.Errorf("the log does not tell of %s", flag)
				}
			}
		})
	}
}
