// Package e2e tests the whole over real sockets: the program as it is, on free ports of
// the loopback interface, with a scripted upstream where one is needed, with clients and
// attackers in front of it. What the README and the documents show is run here, too.
//
// Browsers and the clients of OpenAI's API have packages of their own below this one, as go
// test gives each package ten minutes, and has several run side by side. What measures is
// here, one after the other. What they share is in e2etest.
package e2e

import (
	"flag"
	"os"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

func TestMain(m *testing.M) {
	e2etest.Prepare(map[string]testbed.Role{"attacker": attackConnections})
	if *shared {
		layouts = []string{e2etest.TwoServers}
	}
	os.Exit(checkStatuses(m.Run))
}

// layouts are the ways to run both faces.
var layouts = []string{"one process", "two processes"}

var shared = flag.Bool("shared", false, "have all tests run in the layout of two servers and redis-server")
