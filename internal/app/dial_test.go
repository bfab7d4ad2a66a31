package app

import (
	"strings"
	"testing"
	"time"
)

// A target that is none is refused; a name that is none yet is told.
func TestTargets(t *testing.T) {
	for target, want := range map[string]string{
		"http://127.0.0.1:9090":        "write HOST:PORT, such as 127.0.0.1:9090",
		"http://sluice.test:1/v1":      "write HOST:PORT, such as sluice.test:1",
		"https://[::1]":                "write HOST:PORT, such as [::1]:9090",
		"http://":                      "write HOST:PORT, such as 127.0.0.1:9090",
		"DNS:///sluice.test:1":         "write HOST:PORT, such as sluice.test:1",
		"https://sluice.internal/":     "write HOST:PORT, such as sluice.internal:9090",
		"grpc://127.0.0.1:9090":        "write HOST:PORT",
		"127.0.0.1":                    "write HOST:PORT",
		"localhost":                    "write HOST:PORT",
		"localhost:":                   "write HOST:PORT",
		"::1":                          "write HOST:PORT",
		"[::1]":                        "write HOST:PORT",
		"dns:///sluice.internal":       "write HOST:PORT",
		"dns:sluice.internal":          "write HOST:PORT",
		"passthrough:///127.0.0.1":     "write HOST:PORT",
		"127.0.0.1:99999":              "99999 is not a port",
		"127.0.0.1:0":                  "0 is not a port",
		"127.0.0.1:9090/v1":            "9090/v1 is not a port",
		"":                             "write HOST:PORT",
		"127.0.0.1:9090":               "",
		"localhost:9090":               "",
		":9090":                        "",
		"[::1]:9090":                   "",
		"dns:///sluice.internal:9090":  "",
		"dns://127.0.0.1/sluice:9090":  "",
		"dns:sluice.internal:9090":     "",
		"passthrough:///sluice:9090":   "",
		"unix:/run/sluice.sock":        "",
		"unix:///run/sluice.sock":      "",
		"unix-abstract:sluice":         "",
		"sluice.internal:https":        "",
		"dns://[2001:db8::1]:53/s:443": "",
	} {
		err := checkTarget(target)
		if got := errorText(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", target, got, want)
		}
	}
}

// A server that is not ours lets itself be asked every five minutes at most: gRPC's own
// servers then close the connection, with all streams on it.
func TestStrangersAreLeftInPeace(t *testing.T) {
	if after := pingAfter(true); after < 5*time.Minute {
		t.Errorf("a stranger is asked after %v", after)
	}
	if after := pingAfter(false); after > time.Minute {
		t.Errorf("a server of ours that is gone is noticed after %v", after)
	}
}
