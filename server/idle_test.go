package server

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"
)

// TestIdleConnection checks that a connection is not kept on which nobody calls, that its
// client can call again all the same, and that one call, which may be silent, keeps it.
func TestIdleConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, play(nil))
		g, _ := NewGRPCServer(f.server, time.Minute)
		l := bufconn.Listen(1 << 20)
		served := make(chan error, 1)
		go func() { served <- g.Serve(l) }()
		dial := func() *grpc.ClientConn {
			conn, err := grpc.NewClient("passthrough:", grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		idle, watching := dial(), dial()
		check := func() {
			if _, err := healthpb.NewHealthClient(idle).Check(t.Context(), &healthpb.HealthCheckRequest{}); err != nil {
				t.Error(err)
			}
		}
		check()
		watch, err := healthpb.NewHealthClient(watching).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(idleTimeout - 10*time.Second)
		if idle.GetState() != connectivity.Ready {
			t.Error("a connection is not kept for a while")
		}
		time.Sleep(20 * time.Second)
		if got := idle.GetState(); got != connectivity.Idle {
			t.Errorf("a connection on which nobody calls: %v", got)
		}
		if got := watching.GetState(); got != connectivity.Ready {
			t.Errorf("one with a call: %v", got)
		}
		check()
		idle.Close()
		watching.Close()
		g.Stop()
		<-served
	})
}
