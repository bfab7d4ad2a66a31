package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// TestSeenDraining checks that load balancers can see that the program is about to stop
// before its listeners close: for --shutdown-delay it is not ready, refuses what is new,
// and goes on with what runs.
func TestSeenDraining(t *testing.T) {
	t.Parallel() // it waits for most of its time
	const delay = 3 * time.Second
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			p := e2etest.Start(t, layout, nil, "--echo-interval=40ms", "--shutdown-delay="+delay.String(), "--drain-timeout=20s")
			conn, err := grpc.NewClient(p.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			words := strings.Repeat("word ", 80) // 3.2 s
			body := `{"prompt":"` + words + `"}`
			running := p.Post(t, body, "Idempotency-Key", "running")
			id := strings.TrimPrefix(running.Header.Get("Location"), "/v1/completions/")
			begun := time.Now()
			stopped := p.Stop()

			e2etest.Eventually(t, "/readyz says so", func() bool { return e2etest.StatusOf(t, p.HTTP+"/readyz") == 503 })
			e2etest.Eventually(t, "the health service says so", func() bool {
				resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
				return err == nil && resp.GetStatus() == healthpb.HealthCheckResponse_NOT_SERVING
			})
			for _, accept := range []string{"text/event-stream", "application/json"} {
				resp := p.Post(t, `{"prompt":"Hi"}`, "Accept", accept)
				if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 503 || !strings.Contains(string(body), "DRAINING") || resp.Header.Get("Retry-After") == "" {
					t.Errorf("a new completion: %s %s", resp.Status, body)
				}
			}
			_, err = completionv1.NewCompletionServiceClient(conn).CreateCompletion(t.Context(), &completionv1.CompletionRequest{Prompt: &words})
			if reason(status.Convert(err)) != "DRAINING" {
				t.Errorf("a new completion over gRPC: %v", err)
			}
			if resp := p.Post(t, `{"prompt":"Hi"}`, "Idempotency-Key", "new"); resp.StatusCode != 503 {
				t.Errorf("a new completion with a key: %s", resp.Status)
			}
			again := p.Send(t.Context(), t, "GET", "/v1/completions/"+id+"/events", "")
			sameKey := p.Post(t, body, "Idempotency-Key", "running")
			if got := sameKey.Header.Get("Location"); got != "/v1/completions/"+id {
				t.Errorf("the same key: %s %s", sameKey.Status, got)
			}
			if e2etest.StatusOf(t, p.HTTP+"/healthz") != 200 {
				t.Error("it is not alive")
			}
			for name, resp := range map[string]*http.Response{"running": running, "resumed": again, "same key": sameKey} {
				if got, err := e2etest.Messages(resp.Body); err != nil || got[len(got)-1].Event != "finished" {
					t.Errorf("%s: got %v, %v", name, got, err)
				}
			}
			<-stopped
			if took := time.Since(begun); took < delay {
				t.Errorf("it has stopped after %v", took)
			}
			if c, err := net.Dial("tcp", strings.TrimPrefix(p.HTTP, "http://")); err == nil {
				c.Close()
				t.Error("it still listens")
			}
		})
	}
}

// TestStopIsPrompt checks that nothing but what runs is waited for: not a silent
// connection, not one between requests, nor one whose client stops in the middle of
// what opens it.
func TestStopIsPrompt(t *testing.T) {
	for _, layout := range append(layouts, e2etest.OverTLS...) {
		t.Run(layout, func(t *testing.T) {
			t.Parallel()
			p := e2etest.Start(t, layout, nil, "--echo-interval=0s")
			preface := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x06\x04\x00\x00\x00\x00\x00" // SETTINGS, and not what they are
			for _, addr := range []string{p.HTTP[strings.Index(p.HTTP, "//")+2:], p.GRPC} {
				for _, sent := range []string{"", "GET /healthz HT", preface, clientHello(t)} {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					if _, err := io.WriteString(c, sent); err != nil {
						t.Fatal(err)
					}
				}
			}
			_, _ = e2etest.Messages(p.Post(t, `{"prompt":"Hi"}`).Body)
			start := time.Now()
			<-p.Stop()
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// clientHello is how a client begins TLS.
func clientHello(t *testing.T) string {
	t.Helper()
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		defer client.Close()
		_ = tls.Client(client, &tls.Config{ServerName: "localhost", NextProtos: []string{"h2"}}).HandshakeContext(t.Context())
	}()
	hello := make([]byte, 16<<10)
	n, err := server.Read(hello)
	if err != nil {
		t.Fatal(err)
	}
	return string(hello[:n])
}

// TestStopWithStuckClients checks that clients which take nothing are not waited for, once
// the drain is over, whatever they have asked for.
func TestStopWithStuckClients(t *testing.T) {
	t.Parallel() // it waits for most of its time
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			p := e2etest.Start(t, layout, nil, "--echo-interval=0s", "--drain-timeout=1s")
			body := `{"prompt":"` + strings.Repeat("word ", 100_000) + `"}`
			post := fmt.Sprintf("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			for _, request := range []string{post, strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n", 100)} {
				c, err := net.Dial("tcp", strings.TrimPrefix(p.HTTP, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
				if _, err := io.WriteString(c, request); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			resp, err := http2(t).Post(p.HTTP+"/v1/completions", "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			time.Sleep(500 * time.Millisecond) // until all three are full
			start := time.Now()
			<-p.Stop()
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestSignals checks what the signals do: the first one begins to stop, says what is
// waited for, and that the second one stops at once; it does.
func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			p := testbed.Start(t, "main --http=127.0.0.1:0 --grpc=127.0.0.1:0 --echo-interval=1h --drain-timeout=1m --shutdown-delay=1s")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", "http://"+p.Addrs[0]+"/v1/completions", strings.NewReader(`{"prompt":"One two"}`))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			p.Signal(s)
			p.AwaitLog("running ones have 1m0s to end, and for 1s it can be seen that this is not ready; a second signal (Ctrl-C) stops at once")
			start := time.Now()
			// Later than what is still the same signal.
			again := time.AfterFunc(150*time.Millisecond, func() { p.Signal(s) })
			defer again.Stop()
			if end := p.Wait(); end.Exited() && end.ExitCode() != 1 || time.Since(start) > 10*time.Second {
				t.Errorf("%v after %v", end, time.Since(start))
			}
		})
	}
	// timeout, npm run and others pass on to the program what its process group has got.
	t.Run("twice in an instant", func(t *testing.T) {
		for range 3 {
			p := testbed.Start(t, "main --http=127.0.0.1:0 --grpc=127.0.0.1:0 --echo-interval=30ms --shutdown-delay=0s")
			resp, err := http.Post("http://"+p.Addrs[0]+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"`+strings.Repeat("word ", 10)+`"}`))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			p.Signal(syscall.SIGINT)
			p.Signal(syscall.SIGTERM)
			got, err := e2etest.Messages(resp.Body)
			if err != nil || got[len(got)-1].Event != "finished" {
				t.Errorf("the running completion ends in %v, %v", got, err)
			}
			if end := p.Wait(); !end.Success() {
				t.Error(end)
			}
		}
	})
	t.Run("nothing runs", func(t *testing.T) {
		p := testbed.Start(t, "main --http=127.0.0.1:0 --grpc=127.0.0.1:0")
		p.Signal(syscall.SIGTERM)
		p.AwaitLog("running ones have 10s to end; a second signal") // nobody else could look whether it is ready
		if end := p.Wait(); !end.Success() {
			t.Error(end)
		}
	})
}

// TestNothingRunsAfterStop checks that the program's end is that of all that it began,
// also of what clients left open.
func TestNothingRunsAfterStop(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			const slack = 5 // goroutines: of the runtime, of timers that fire
			http.DefaultClient.CloseIdleConnections()
			baseline := settled()
			p := e2etest.Start(t, layout, nil, "--echo-interval=1h", "--drain-timeout=100ms")
			var conns []net.Conn
			for _, request := range []string{"", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", postCompletionOf(`{"prompt":"One two"}`), postCompletionOf(`{"prompt":"One two"}`) + "\r\n"} {
				for _, addr := range []string{strings.TrimPrefix(p.HTTP, "http://"), p.GRPC} {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					if _, err := io.WriteString(c, request); err != nil {
						t.Fatal(err)
					}
					conns = append(conns, c)
				}
			}
			<-p.Stop()
			for _, c := range conns {
				_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("a connection is still open")
				}
			}
			if after := settled(); after > baseline+slack {
				_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
				t.Errorf("%d goroutines before, %d after", baseline, after)
			}
		})
	}
}

func postCompletionOf(body string) string {
	return fmt.Sprintf("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}
