// Package e2etest is what tests of the whole need, whichever package they are in: the program
// in its layouts, clients of its two faces, upstreams that follow a script, proxies that cut
// connections, callers' credentials, and what the documents show.
//
// A package of such tests has a TestMain that calls Prepare.
package e2etest

import (
	"context"
	"flag"
	"maps"
	"os"
	"runtime"
	"strconv"

	"github.com/sluice-sse/sluice/internal/app"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// Prepare is the beginning of a TestMain. In a process with a role (see testbed), it plays that,
// and does not return. Beside the roles of the package, there are
//
//   - sluice: the program with these arguments, and nothing from the environment;
//   - main: the same as it is, with signals and all;
//   - upstream: testbed.ServeUpstream.
//
// Unless -parallel says how many, it has twice as many tests run side by side as there are
// processors: those that may wait for most of their time.
func Prepare(roles map[string]testbed.Role) {
	all := map[string]testbed.Role{
		"upstream": testbed.ServeUpstream,
		"sluice": func(_ *testbed.Gate, args []string) error {
			return app.Run(context.Background(), args, func(string) string { return "" }, os.Stdout, os.Stderr)
		},
		"main": func(_ *testbed.Gate, args []string) error {
			os.Exit(app.Main(args))
			return nil
		},
	}
	maps.Copy(all, roles)
	testbed.Perform(all, nil)
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0)))
	}
}
