//go:build !race

package bench

// maxAllocs is how many allocations a token may take.
const maxAllocs = 0.1
