// Package skip skips tests that lack something, and says so where it is seen: go
// test hides what the tests of a package print that passes, and with -v alone shows
// them.
package skip

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

// For skips a test and says what is missing, and what is not tested for that, to the
// standard error of go test, if the system lets us at it, and else to our own.
//
// Nor does go test remember the package's result: it would not look whether what is
// missing has come, as that is outside of the module, and say nothing the next time.
func For(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf("SKIPPED %s: %s", t.Name(), fmt.Sprintf(format, args...))
	_, _ = io.WriteString(parentStderr(), reason+"\n")
	forget(reason)
	t.Skip(reason)
}

// forget has go test not keep the result: it does not when a file of the module's
// that was read is too new (cmd/go/internal/test, errFileTooNew).
func forget(reason string) {
	const name = "skipped.out" // .gitignore has it
	soon := time.Now().Add(time.Hour)
	if os.WriteFile(name, []byte(reason+"\n"), 0o600) == nil && os.Chtimes(name, soon, soon) == nil {
		_, _ = os.ReadFile(name)
	}
}
