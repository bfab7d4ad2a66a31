package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSocketGoesWithClient checks that a client that has left what goes on without it,
// while the upstream is silent, has its connection closed, in whatever form it asked;
// and that it is noticed whatever else it sent.
func TestSocketGoesWithClient(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if modelOf(r) == "speaks" {
					chunk(w, `{"content":"token"}`, "null")
				}
				<-r.Context().Done()
			})
			p := start(t, layout, u.env(), "--commit-window=10ms", "--drain-timeout=100ms")
			host := strings.TrimPrefix(p.http, "http://")
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
					conn, err := net.Dial("tcp", host)
					if err != nil {
						t.Fatal(err)
					}
					defer conn.Close()
					_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
					calls := u.calls.Load()
					body := fmt.Sprintf(`{"model":%q,"disconnectGrace":"60s","messages":[{"role":"user","content":"Hi"}]}`, tt.model)
					fmt.Fprintf(conn, "POST /v1/completions %s\r\nHost: %s\r\nAccept: %s\r\nContent-Length: %d\r\n\r\n%s%s", tt.version, host, tt.accept, len(body), body, tt.ahead)
					eventually(t, "the upstream is called", func() bool { return u.calls.Load() > calls })
					if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
						t.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("the socket stays")
					}
				})
			}
			if open, calls := u.open.Load(), u.calls.Load(); open != calls {
				t.Errorf("of %d completions with a grace, %d go on", calls, open)
			}
		})
	}
}
