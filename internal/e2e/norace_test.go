//go:build !race

package e2e

// underRace says that the race detector is on, which makes everything slow.
const underRace = false
