package app

import (
	"context"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// Small requests wait for small ones only, as a large one may take a hundred times as
// long to decode.
const (
	smallRequest = 64 << 10 // the largest, in bytes
	smallTotal   = 1 << 20  // of all that are decoded at the same time
)

// decodeLimit bounds how much is decoded at the same time. It waits until a request of
// so many bytes may be decoded, or the context is done; release is called when it has
// been decoded.
type decodeLimit = func(ctx context.Context, bytes int) (release func(), err error)

// newDecodeLimit returns the limit of both faces of a process. What is made of a request
// is a multiple of it: many at once would take the memory, and the processors, of
// everybody. Half of the processors are left for the streams.
func newDecodeLimit(maxBody byteSize) decodeLimit {
	largeTotal := int64(maxBody) * int64(max(1, runtime.GOMAXPROCS(0)/2))
	small, large := semaphore.NewWeighted(smallTotal), semaphore.NewWeighted(largeTotal)
	return func(ctx context.Context, bytes int) (func(), error) {
		limit, weight := small, int64(bytes)
		if bytes > smallRequest {
			limit, weight = large, min(weight, largeTotal)
		}
		if err := limit.Acquire(ctx, weight); err != nil {
			return nil, err
		}
		return func() { limit.Release(weight) }, nil
	}
}
