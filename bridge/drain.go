package bridge

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// Drain tells that the bridge is about to stop: /readyz answers 503 from now on, new
// completions are refused with DRAINING, unless they have a key, which the server may
// know, and each stream's next event asks its client to come back a little later, not
// all at once. The streams go on, and can be resumed.
func (b *Bridge) Drain() {
	b.draining.Store(true)
	b.closing.Store(true)
}

// watchAgain is how long after it has heard that its server drains a bridge asks again. It
// does not go on watching: a server that stops waits for the streams that are open.
const watchAgain = time.Second

// WatchServer has the bridge know that its server, in another process, is about to stop:
// as in Drain, each stream's next event then asks its client to come back a little later.
// New completions are the server's to refuse. It returns when ctx is done, or if the
// server has no health service.
func (b *Bridge) WatchServer(ctx context.Context) {
	for ctx.Err() == nil {
		if err := b.watchUntilDraining(ctx); status.Code(err) == codes.Unimplemented {
			return
		}
		select {
		case <-time.After(watchAgain):
		case <-ctx.Done():
		}
	}
}

// watchUntilDraining notes the server's health, until that says that it drains, or the
// server is gone.
func (b *Bridge) watchUntilDraining(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := b.health.Watch(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true))
	for serving := true; err == nil && serving; {
		var resp *healthpb.HealthCheckResponse
		if resp, err = stream.Recv(); err == nil {
			serving = resp.GetStatus() == healthpb.HealthCheckResponse_SERVING
			b.closing.Store(!serving)
			if b.draining.Load() { // since before, or just now
				b.closing.Store(true)
			}
		}
	}
	return err
}
