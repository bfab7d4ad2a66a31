// Package conformance holds what the bridge makes of any method (--expose) against the
// cases of connectrpc/conformance, a suite for clients and servers of gRPC.
//
// Its runner, the program connectconformance, starts its own servers, and a client that is
// to be tested. That is this test binary once more: it puts a bridge in front of each
// server, and calls the methods through it as a browser would, by POST, JSON and
// server-sent events. What comes back must be what a client of gRPC gets.
//
// Neither is a dependency of the module. The runner is installed (.ci/run says which one), and
// the messages are read by the descriptors in its source.
//
// testdata says which cases there are: config.yaml what a bridge can do, gzip.yaml what of that
// is tried with --server-compression, known-failing.txt what it cannot, and bridge.yaml, raw.yaml and timed.yaml what the runner's own cases leave out.
package conformance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/skip"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// directory is the variable of a process that is the client. It names the directory with
// the files that the client needs.
const directory = "SLUICE_CONFORMANCE_DIRECTORY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(directory); dir != "" {
		if err := obeyRunner(dir, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "client:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// timed are the runner's suites in which 200 ms more or less count.
var timed = []string{"Client Cancellation/**", "Deadline Propagation/**", "Timeouts/**"}

// TestCases passes the runner's cases, and our own. Those that are timed are by themselves,
// with nothing else to do; the runner's again if need be, and ours have more patience.
func TestCases(t *testing.T) {
	name, err := exec.LookPath("connectconformance")
	if err != nil {
		skip.For(t, "there is no connectconformance: what --expose serves is not held against gRPC's cases")
	}
	r := runner{name, newDirectory(t, name)}
	t.Run("untimed", func(t *testing.T) {
		r.parallel(t, "theirs", 1, 200, append(each("--skip", timed), "--known-failing=@testdata/known-failing.txt")...)
		r.parallel(t, "ours", 1, 120, "--test-file=testdata/bridge.yaml", "--test-file=testdata/raw.yaml")
		r.parallel(t, "compressed", 1, 8, "--conf=testdata/gzip.yaml", "--run=Basic/**")
	})
	t.Run("timed", func(t *testing.T) {
		r.parallel(t, "theirs", 3, 20, each("--run", timed)...)
		r.parallel(t, "ours", 1, 18, "--test-file=testdata/timed.yaml")
	})
}

// each gives a flag once with each value.
func each(name string, values []string) (flags []string) {
	for _, value := range values {
		flags = append(flags, name+"="+value)
	}
	return flags
}

// newDirectory returns a directory with what a client needs: descriptors, and a certificate
// for its bridges.
func newDirectory(t *testing.T, name string) string {
	t.Helper()
	certificate := testbed.NewAuthority(t).NewCertFiles(t)
	dir := filepath.Dir(certificate.Cert)
	testbed.WriteFile(t, filepath.Join(dir, descriptorsFile), compileDescriptors(t, name))
	return dir
}

// runner is the program that tests clients.
type runner struct{ name, dir string }

var summary = regexp.MustCompile(`Total cases: \d+\n(\d+) passed, 0 failed`)

// parallel has the runner test a client, so many times until all passes. So many cases at
// least must pass, lest it be that there are none.
func (r runner) parallel(t *testing.T, name string, times, atLeast int, args ...string) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		out, err := r.run(t, args...)
		for ; err != nil && times > 1; times-- {
			t.Logf("again, after %v\n%s", err, out)
			out, err = r.run(t, args...)
		}
		found := summary.FindSubmatch(out)
		if err != nil || found == nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Logf("%s", found[0])
		if passed, _ := strconv.Atoi(string(found[1])); passed < atLeast {
			t.Errorf("%d passed, want %d\n%s", passed, atLeast, out)
		}
	})
}

func (r runner) run(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args = append(append([]string{"--mode=client", "--conf=testdata/config.yaml"}, args...), "--", self)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.name, args...)
	cmd.Env = append(os.Environ(), directory+"="+r.dir)
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}
