package app

import (
	"context"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// Requests that are small wait for each other alone, since one that is large may
// take a hundred times as long to decode.
const (
	smallBody  = 64 << 10
	smallTotal = 1 << 20
)

// room waits until there is room to decode a request of so many bytes, or the context
// is done. leave is called when it is decoded.
type room = func(ctx context.Context, bytes int) (leave func(), err error)

// newRoom returns a room for both faces of a process: what is made of a request is a
// multiple of it, so that many at once would take the memory, and the processors, of
// everybody. Half the processors are left for the streams.
func newRoom(maxBody byteSize) room {
	largeTotal := int64(maxBody) * int64(max(1, runtime.GOMAXPROCS(0)/2))
	small, large := semaphore.NewWeighted(smallTotal), semaphore.NewWeighted(largeTotal)
	return func(ctx context.Context, bytes int) (func(), error) {
		of, weight := small, int64(bytes)
		if bytes > smallBody {
			of, weight = large, min(weight, largeTotal)
		}
		if err := of.Acquire(ctx, weight); err != nil {
			return nil, err
		}
		return func() { of.Release(weight) }, nil
	}
}
