package server

import (
	"sync"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/sluice-sse/sluice/server/failure"
)

// How many may watch the health at the same time: over a connection, which needs one for each
// service at most, from a host, which may be a proxy, and in all.
const (
	maxWatchesOfPeer = 16
	maxWatchesOfHost = maxWatches / 4
	maxWatches       = 10_000
)

// watchedHealth is the health service of a gRPC server. It bounds who watches: nobody needs
// credentials for it, a watch never ends, and a connection has room for thousands, each of
// which takes 12 KiB.
type watchedHealth struct {
	*health.Server

	mu     sync.Mutex     // guards all below
	all    int            // of all connections
	of     map[string]int // by the connection, of those that have any
	ofHost map[string]int // likewise
}

// Watch implements grpc.health.v1.Health.
func (h *watchedHealth) Watch(req *healthpb.HealthCheckRequest, stream healthpb.Health_WatchServer) error {
	from, host := peerOf(stream.Context())
	if !h.add(from, host) {
		return failure.New(failure.Overloaded, "as many watch the health as may: use Check")
	}
	defer h.remove(from, host)
	return h.Server.Watch(req, stream)
}

func (h *watchedHealth) add(from, host string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.all >= maxWatches || h.of[from] >= maxWatchesOfPeer || h.ofHost[host] >= maxWatchesOfHost {
		return false
	}
	h.all++
	h.of[from]++
	h.ofHost[host]++
	return true
}

func (h *watchedHealth) remove(from, host string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all--
	if h.of[from]--; h.of[from] == 0 {
		delete(h.of, from)
	}
	if h.ofHost[host]--; h.ofHost[host] == 0 {
		delete(h.ofHost, host)
	}
}
