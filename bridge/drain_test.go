package bridge_test

import (
	"context"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-sse/sluice/bridge"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// TestServerDrains has a bridge watch a server that is about to stop: each stream's next
// block asks its client to come back a little later, also if it is the last one; and the
// server's stop does not wait for the bridge.
func TestServerDrains(t *testing.T) {
	for name, end := range map[string]func(eventStream) error{
		"more":    func(s eventStream) error { return errors.Join(delta(s, 2, "b"), finished(s, 3)) },
		"the end": func(eventStream) error { return failed(codes.Unavailable, "DRAINING") },
	} {
		t.Run(name, func(t *testing.T) {
			begun, drained := make(chan bool), make(chan bool)
			h, g := health.NewServer(), grpc.NewServer()
			healthpb.RegisterHealthServer(g, h)
			completionv1.RegisterCompletionServiceServer(g, &service{play: func(s eventStream) error {
				err := errors.Join(named(s, "cmpl_x"), created(s))
				begun <- true
				<-drained
				return errors.Join(err, end(s))
			}})
			b := watching(t, g)
			w := httptest.NewRecorder()
			done := make(chan struct{})
			go func() {
				defer close(done)
				b.ServeHTTP(w, httptest.NewRequest("POST", "/v1/completions", strings.NewReader(`{"prompt":"x"}`)))
			}()
			<-begun
			time.Sleep(300 * time.Millisecond) // until the first event is written
			h.Shutdown()
			time.Sleep(300 * time.Millisecond) // and the bridge has heard
			close(drained)
			<-done
			if got := w.Body.String(); strings.Count(got, "\nretry: ") != 2 || !strings.Contains(got, "\nretry: 1000\n") {
				t.Errorf("got %q", got)
			}
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				g.GracefulStop()
			}()
			select {
			case <-stopped:
			case <-time.After(10 * time.Second):
				t.Error("the server waits for the bridge")
			}
		})
	}
}

// watching returns a bridge that watches a server on a port, until the test ends.
func watching(t *testing.T, g *grpc.Server) *bridge.Bridge {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = g.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bridge.New(conn, bridge.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		b.WatchServer(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-watched
		conn.Close()
		g.Stop()
	})
	return b
}
