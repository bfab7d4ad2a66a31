//go:build race

package bench

// maxAllocs is how many allocations a token may take: the race detector has pools forget a
// part of what they are given (sync.Pool.Put).
const maxAllocs = 0.9
