package app

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
)

// TestSlowUploads has a hundred clients of one bridge send their requests slowly: no call
// begins before its request is there, and so the server, which gives up calls whose requests
// are slow to arrive when they are more than a few, gives up none.
func TestSlowUploads(t *testing.T) {
	t.Parallel() // it waits for most of its time
	var begun atomic.Int64
	count := interceptors{stream: []grpc.StreamServerInterceptor{func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if strings.Contains(info.FullMethod, "CompletionService") {
			begun.Add(1)
		}
		return handler(srv, ss)
	}}}
	server := serveWith(t, count, "server", "--grpc=127.0.0.1:0", "--echo-interval=0s")
	bridge := serveWith(t, interceptors{}, "bridge", "--http=127.0.0.1:0", "--server="+server[0])
	const clients = 100
	// Little enough for a call to take at once: on a busy machine it is soon there, too.
	whole := `{"prompt":"` + strings.Repeat("x", 20<<10) + `"}`
	goOn := make(chan struct{})
	var half, all sync.WaitGroup
	half.Add(clients)
	for range clients {
		body, w := io.Pipe()
		go func() {
			_, _ = io.WriteString(w, whole[:len(whole)/2])
			half.Done()
			<-goOn
			_, err := io.WriteString(w, whole[len(whole)/2:])
			_ = w.CloseWithError(err)
		}()
		all.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "POST", "http://"+bridge[0]+"/v1/completions", body)
			if err != nil {
				t.Error(err)
				return
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if got, err := io.ReadAll(resp.Body); resp.StatusCode != 200 || err != nil || !strings.Contains(string(got), "STOP") {
				t.Errorf("got %s, %.300q, %v", resp.Status, got, err)
			}
		})
	}
	half.Wait()
	time.Sleep(2500 * time.Millisecond) // longer than what the server takes for soon
	if n := begun.Load(); n != 0 {
		t.Errorf("%d calls have begun before their requests were there", n)
	}
	close(goOn)
	all.Wait()
	if n := begun.Load(); n != clients {
		t.Errorf("%d calls were made", n)
	}
}
