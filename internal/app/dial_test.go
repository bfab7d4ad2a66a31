package app

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
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

// encodings are those of the calls that a server gets.
type encodings chan string

func (e encodings) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (e encodings) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (e encodings) HandleConn(context.Context, stats.ConnStats)                       {}

func (e encodings) HandleRPC(_ context.Context, s stats.RPCStats) {
	if in, ok := s.(*stats.InHeader); ok {
		select {
		case e <- in.Compression:
		default:
		}
	}
}

// What a bridge sends is compressed if it is told so. The first call is its own: it asks for
// the server's health.
func TestCompressionTowardsTheServer(t *testing.T) {
	for flag, want := range map[string]string{"": "", "--server-compression=none": "", "--server-compression=gzip": "gzip"} {
		calls := make(encodings, 1)
		server := grpc.NewServer(grpc.StatsHandler(calls))
		healthpb.RegisterHealthServer(server, health.NewServer())
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		args := []string{"bridge", "--http=127.0.0.1:0", "--server=" + l.Addr().String()}
		if flag != "" {
			args = append(args, flag)
		}
		go func() { ended <- Run(ctx, args, func(string) string { return "" }, io.Discard, t.Output()) }()
		select {
		case got := <-calls:
			if got != want {
				t.Errorf("%s: %q", flag, got)
			}
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(20 * time.Second):
			t.Error("the server was not called")
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		server.Stop()
		<-served
	}
}
