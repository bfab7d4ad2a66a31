//go:build !linux

package skip

import "os"

// parentStderr is our own: nothing is known of go test's.
func parentStderr() *os.File { return os.Stderr }
