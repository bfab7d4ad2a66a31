package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// maxLatency is how long after a client's departure its upstream connection may
// still be open, for 99 of 100.
const maxLatency = 50 * time.Millisecond

// A visit is a request under way.
type visit struct {
	delta func() error // waits for the first delta of a stream
	leave func()
}

// departures are the ways to leave. A visit asks for a stream or for the whole
// completion.
var departures = []struct {
	name  string
	visit func(t *testing.T, p *e2etest.Program, request string, stream bool) visit
}{
	{"HTTP/1.1 reset", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP1(t, p, "/v1/completions", request, stream, func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() })
	}},
	{"HTTP/1.1 FIN", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP1(t, p, "/v1/completions", request, stream, func(c *net.TCPConn) { _ = c.Close() })
	}},
	{"HTTP/1.1 FIN of one direction", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP1(t, p, "/v1/completions", request, stream, func(c *net.TCPConn) { _ = c.CloseWrite() })
	}},
	{"HTTP/2 cancel", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP2(t, p, "/v1/completions", request, stream, nil)
	}},
	{"HTTP/2 reset", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP2(t, p, "/v1/completions", request, stream, func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() })
	}},
	{"HTTP/2 FIN", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP2(t, p, "/v1/completions", request, stream, func(c *net.TCPConn) { _ = c.Close() })
	}},
	{"OpenAI, HTTP/1.1 FIN", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP1(t, p, "/openai/v1/chat/completions", ofOpenAI(request, stream), stream, func(c *net.TCPConn) { _ = c.Close() })
	}},
	{"OpenAI, HTTP/2 cancel", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP2(t, p, "/openai/v1/chat/completions", ofOpenAI(request, stream), stream, nil)
	}},
	{"Responses, HTTP/1.1 FIN", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP1(t, p, responsesPath, ofResponses(request, stream), stream, func(c *net.TCPConn) { _ = c.Close() })
	}},
	{"Responses, HTTP/2 cancel", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitHTTP2(t, p, responsesPath, ofResponses(request, stream), stream, nil)
	}},
	{"gRPC cancel", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitGRPC(t, p, request, stream, false)
	}},
	{"gRPC FIN", func(t *testing.T, p *e2etest.Program, request string, stream bool) visit {
		return visitGRPC(t, p, request, stream, true)
	}},
}

func accept(stream bool) string {
	if stream {
		return "text/event-stream"
	}
	return "application/json"
}

// ofOpenAI makes a request one of OpenAI's API.
func ofOpenAI(request string, stream bool) string {
	if !stream {
		return request
	}
	return strings.Replace(request, "{", `{"stream":true,`, 1)
}

// ofResponses makes a request one of the Responses API.
func ofResponses(request string, stream bool) string {
	return strings.Replace(ofOpenAI(request, stream), `"messages":`, `"input":`, 1)
}

func visitHTTP1(t *testing.T, p *e2etest.Program, path, request string, stream bool, leave func(*net.TCPConn)) visit {
	t.Helper()
	conn, raw, host := p.Dial(t)
	_, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n%s",
		path, host, accept(stream), len(request), request)
	if err != nil {
		t.Fatal(err)
	}
	return visit{
		delta: func() error {
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return err
			}
			return firstDelta(resp.Body)
		},
		leave: func() { leave(raw) },
	}
}

// visitHTTP2 leaves by resetting the stream, or as leave does with the connection.
func visitHTTP2(t *testing.T, p *e2etest.Program, path, request string, stream bool, leave func(*net.TCPConn)) visit {
	t.Helper()
	conns := make(chan net.Conn, 1)
	transport := &http.Transport{
		Protocols:       &http.Protocols{},
		TLSClientConfig: p.ClientTLS(),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				conns <- conn
			}
			return conn, err
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(p.TLS == nil)
	transport.Protocols.SetHTTP2(p.TLS != nil)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "POST", p.HTTP+path, strings.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept(stream))
	type answer struct {
		resp *http.Response
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		resp, err := transport.RoundTrip(req)
		answers <- answer{resp, err}
	}()
	return visit{
		delta: func() error {
			a := <-answers
			if a.err != nil {
				return a.err
			}
			if a.resp.ProtoMajor != 2 {
				return fmt.Errorf("the answer came over %s", a.resp.Proto)
			}
			return firstDelta(a.resp.Body)
		},
		leave: func() {
			if leave == nil {
				cancel()
				return
			}
			leave((<-conns).(*net.TCPConn))
		},
	}
}

func visitGRPC(t *testing.T, p *e2etest.Program, request string, stream, closes bool) visit {
	t.Helper()
	req := &completionv1.CompletionRequest{}
	if err := protojson.Unmarshal([]byte(request), req); err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(p.GRPC, p.Credentials())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := completionv1.NewCompletionServiceClient(conn)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	v := visit{leave: cancel}
	if closes {
		v.leave = func() { _ = conn.Close() }
	}
	if !stream {
		go func() { _, _ = client.CreateCompletion(ctx, req) }()
		return v
	}
	events, err := client.StreamCompletion(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	v.delta = func() error {
		for {
			if event, err := events.Recv(); err != nil || event.GetDelta() != nil {
				return err
			}
		}
	}
	return v
}

// firstDelta reads a stream up to its first delta.
func firstDelta(stream io.Reader) error {
	r := sse.NewReader(stream, 1<<20)
	for {
		if m, err := r.Next(); err != nil || m.Event == "delta" || m.Event == "response.output_text.delta" || strings.Contains(m.Data, `"delta":{"content":`) {
			return err
		}
	}
}

// TestDisconnect checks that a client that leaves, in whatever way, before the
// first token or after it, ends the upstream's work at once.
func TestDisconnect(t *testing.T) {
	tries := 8
	for _, layout := range append(layouts, e2etest.OverTLS...) {
		t.Run(layout, func(t *testing.T) {
			waiting := make(chan struct{}) // the upstream has said what it will
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if e2etest.ModelOf(r) == "speaks" {
					e2etest.Chunk(w, `{"content":"token"}`, "null")
				}
				select {
				case waiting <- struct{}{}:
				case <-r.Context().Done():
				}
				<-r.Context().Done()
			})
			p := e2etest.Start(t, layout, u.Env())
			var latencies []time.Duration
			for _, d := range departures {
				for _, stream := range []bool{true, false} {
					for _, model := range []string{"silent", "speaks"} {
						name := fmt.Sprintf("%s, stream %v, %s", d.name, stream, model)
						for range tries {
							v := d.visit(t, p, `{"model":"`+model+`","messages":[{"role":"user","content":"Hi"}]}`, stream)
							<-waiting
							if stream && model == "speaks" {
								if err := v.delta(); err != nil {
									t.Fatalf("%s: %v", name, err)
								}
							}
							left := time.Now()
							v.leave()
							select {
							case gone := <-u.Gone:
								latencies = append(latencies, gone.Sub(left))
							case <-time.After(10 * time.Second):
								t.Fatalf("%s: the upstream still works after 10 s", name)
							}
						}
					}
				}
			}
			slices.Sort(latencies)
			p50, p99 := latencies[len(latencies)/2], latencies[(len(latencies)*99+99)/100-1]
			t.Logf("%d departures: p50 %v, p99 %v, longest %v", len(latencies), p50, p99, latencies[len(latencies)-1])
			if len(latencies) < 100 || p99 >= maxLatency {
				t.Errorf("p99 of %d is %v, want less than %v of at least 100", len(latencies), p99, maxLatency)
			}
			e2etest.Eventually(t, "no completion is under way upstream", func() bool { return u.Open.Load() == 0 })
			checkCancelled(t, p, len(latencies))
		})
		tries = max(tries/2, 4)
	}
}

// checkCancelled checks that the log tells a departure from a failure.
func checkCancelled(t *testing.T, p *e2etest.Program, n int) {
	t.Helper()
	e2etest.Eventually(t, "a line in the log for each completion", func() bool { return strings.Count(p.Log.String(), "msg=completion") >= n })
	if abandoned := strings.Count(p.Log.String(), "outcome=abandoned"); abandoned != n {
		t.Errorf("%d of %d completions were abandoned", abandoned, n)
	}
}

// TestSocketGoesWithClient checks that a client that has left what goes on without it,
// while the upstream is silent, has its connection closed, in whatever form it asked;
// and that it is noticed whatever else it sent.
func TestSocketGoesWithClient(t *testing.T) {
	for _, layout := range append(layouts, e2etest.OverTLS...) {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if e2etest.ModelOf(r) == "speaks" {
					e2etest.Chunk(w, `{"content":"token"}`, "null")
				}
				<-r.Context().Done()
			})
			p := e2etest.Start(t, layout, u.Env(), "--commit-window=10ms", "--drain-timeout=100ms")
			for _, tt := range []struct {
				name, version, accept, model, ahead string
			}{
				{"a stream", "HTTP/1.1", "text/event-stream", "is silent", ""},
				{"a stream that speaks", "HTTP/1.1", "text/event-stream", "speaks", ""},
				{"with a line end", "HTTP/1.1", "text/event-stream", "is silent", "\r\n"},
				{"HTTP/1.0, as nginx asks", "HTTP/1.0", "text/event-stream", "is silent", ""},
				{"the whole", "HTTP/1.1", "application/json", "speaks", ""},
				{"the whole, with a line end", "HTTP/1.1", "application/json", "is silent", "\r\n"},
				{"the whole, HTTP/1.0", "HTTP/1.0", "application/json", "is silent", ""},
			} {
				t.Run(tt.name, func(t *testing.T) {
					conn, raw, host := p.Dial(t)
					_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
					calls := u.Calls.Load()
					body := fmt.Sprintf(`{"model":%q,"disconnectGrace":"60s","messages":[{"role":"user","content":"Hi"}]}`, tt.model)
					fmt.Fprintf(conn, "POST /v1/completions %s\r\nHost: %s\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n%s%s", tt.version, host, tt.accept, len(body), body, tt.ahead)
					e2etest.Eventually(t, "the upstream is called", func() bool { return u.Calls.Load() > calls })
					if err := raw.CloseWrite(); err != nil {
						t.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("the socket stays")
					}
				})
			}
			if open, calls := u.Open.Load(), u.Calls.Load(); open != calls {
				t.Errorf("of %d completions with a grace, %d go on", calls, open)
			}
		})
	}
}
