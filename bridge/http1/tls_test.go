package http1_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/http1"
)

// Under TLS, and over HTTP/2, a response stays with net/http, and its client's departure
// ends it all the same.
func TestUnderTLS(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		conns := http1.New(http1.Config{})
		left := make(chan struct{}, 1)
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			conns.Respond(w, r, r.Context(), func(ctx *http1.Context, w http.ResponseWriter) bool {
				if _, taken := w.(*http1.Conn); taken {
					t.Error("the connection was taken")
				}
				if r.URL.Path == "/three" {
					return playThree(ctx, w)
				}
				write(w, "one\n")
				<-ctx.Done()
				left <- struct{}{}
				return false
			})
		}))
		srv.Listener = conns.Listener(srv.Listener)
		conns.Configure(srv.Config)
		srv.EnableHTTP2 = http2
		srv.StartTLS()
		t.Cleanup(srv.Close)
		for range 2 {
			resp, err := srv.Client().Get(srv.URL + "/three")
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if resp.Body.Close(); string(got) != three || err != nil || resp.Close || (resp.ProtoMajor == 2) != http2 {
				t.Errorf("got %s, %q, %v; it closes: %v", resp.Proto, got, err, resp.Close)
			}
		}
		ctx, leave := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/waits", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		leave()
		resp.Body.Close()
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Fatal("the response goes on")
		}
		conns.Wait()
	}
}
