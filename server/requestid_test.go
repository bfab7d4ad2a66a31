package server

import (
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
)

// TestLongRequestID checks that a run does not hold the whole of a long name that its caller
// gave the request.
func TestLongRequestID(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var ids []string
	for range 200 {
		ids = append(ids, requestID(metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-request-id", strings.Repeat("x", 60<<10)))))
	}
	if after := heap(); after > before+4<<20 {
		t.Errorf("%d names hold %d MiB", len(ids), (after-before)>>20)
	}
	if id := ids[0]; len(id) != maxRequestID {
		t.Errorf("a name has %d bytes", len(id))
	}
	runtime.KeepAlive(ids)
}
