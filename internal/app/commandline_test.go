package app

import (
	"net"
	"slices"
	"strings"
	"testing"
)

// What people type first, and what they mistype.
func TestCommandLine(t *testing.T) {
	none := func(string) string { return "" }
	for _, tt := range []struct {
		line    string
		printed string // what it prints, and is content with
		err     string // or what it says is wrong
	}{
		{"help", "--openai-base-url", ""},
		{"--help", "--allow-host", ""},
		{"-h", "sluice bridge", ""},
		{"help server", "Usage: sluice server", ""},
		{"server help", "Usage: sluice server", ""},
		{"bridge --help", "one at a time", ""},
		{"help bridge", "Usage: sluice bridge", ""},
		{"version", "sluice ", ""},
		{"--version", "sluice ", ""},
		{"server version", "sluice ", ""},
		{"serve", "", `there is no command "serve": did you mean server?`},
		{"brigde", "", `there is no command "brigde": did you mean bridge?`},
		{"Server", "", `there is no command "Server": did you mean server?`},
		{"proxy", "", `there is no command "proxy": there are server, bridge, hash-key, help, version`},
		{"help proxy", "", `there is no command "proxy"`},
		{"server bridge", "", `there is no command "bridge"`},
		{"server 9090", "", `there is no command "9090"`},
		{"--http=127.0.0.1:0 bridge", "", "the command comes first: sluice bridge …"},
		{"server --http=127.0.0.1:0", "", "--http is a flag of sluice bridge, not of sluice server"},
		{"bridge --openai-base-url=http://x", "", "--openai-base-url is a flag of sluice server, not of sluice bridge"},
		{"--server=127.0.0.1:9090", "", "--server is a flag of sluice bridge, not of sluice"},
		{"-http=127.0.0.1:0", "", "write --http, with two dashes"},
		{"bridge -server 127.0.0.1:9090", "", "write --server, with two dashes"},
		{"--max-bdy=1", "", "unknown flag --max-bdy, did you mean \"--max-body\"?"},
		{"--shutdown-delay=-1s", "", `"-1s" is not a duration`},
		{"--journal-memory=256", "", "--journal-memory=256: that is less than 4KiB"},
		{"server --max-completion-bytes=16", "", "--max-completion-bytes=16: that is less than 4KiB"},
		{"--max-body=4611686018427387904", "", `"4611686018427387904" is not a size`},
		{"bridge --max-body=1048577GiB", "", `"1048577GiB" is not a size`},
		{"--max-running=0", "", `"0" is not a whole number from 1`},
		{"server --rate=NaN", "", `"NaN" is not a number of requests a second`},
		{"server --rate-burst=3", "", "--rate-burst: it needs --rate"},
		{"--http=8080 --grpc=127.0.0.1:0", "", "--http 8080: address 8080: missing port in address: write HOST:PORT"},
		{"--grpc=127.0.0.1:99999", "", "--grpc 127.0.0.1:99999: "},
		{"server --grpc=localhost", "", "--grpc localhost: address localhost: missing port in address"},
		{"server --grpc=unix:/run/sluice.sock", "", "--grpc unix:/run/sluice.sock: a socket in the file system cannot be listened on: write HOST:PORT"},
		{"bridge --http=/run/sluice.sock", "", "--http /run/sluice.sock: a socket in the file system"},
		{"--http=127.0.0.1:0 --grpc=127.0.0.1:0 --admin=unix:/run/sluice.sock", "", "--admin unix:/run/sluice.sock: a socket in the file system"},
		{"--http=127.0.0.1:0 --grpc=127.0.0.1:0 --admin=/run/sluice.sock", "", "--admin /run/sluice.sock: a socket in the file system"},
		{"bridge --http=127.0.0.1:0 --allow-host=http://x", "", `allow the host "http://x"`},
	} {
		t.Run(tt.line, func(t *testing.T) {
			var out, log strings.Builder
			err := Run(t.Context(), strings.Fields(tt.line), none, &out, &log)
			if got := errorText(err); tt.err == "" && err != nil || !strings.Contains(got, tt.err) {
				t.Errorf("got the error %q, want %q", got, tt.err)
			}
			if !strings.Contains(out.String(), tt.printed) {
				t.Errorf("printed %q, want %q", out.String(), tt.printed)
			}
		})
	}
}

// A listener that cannot be had is named, and the other one is not left behind.
func TestAddressInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used, other := l.Addr().String(), closedPort(t)
	for flag, args := range map[string][]string{
		"--http": {"--http=" + used, "--grpc=" + other}, "--grpc": {"--grpc=" + used, "--http=" + other},
	} {
		var out, log strings.Builder
		err := Run(t.Context(), args, func(string) string { return "" }, &out, &log)
		if want := flag + " " + used + ": another program listens there"; !strings.Contains(errorText(err), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		again, err := net.Listen("tcp", other)
		if err != nil {
			t.Fatalf("%s in use: %v", flag, err)
		}
		again.Close()
	}
}

// A variable that looks like one of ours and is none is told, with what is meant.
func TestUnknownVariables(t *testing.T) {
	got, err := unknownVariables([]string{
		"HOME=/root", "OPENAI_BASE_URL=x", "SLUICE_HTTP=x", "SLUICE_SERVER=x", "SLUICE_MAX_BODY=1", "SLUICE_OPENAI_API_KEY_FILE=x",
		// What Kubernetes sets for services that are called sluice and sluice-bridge.
		"SLUICE_SERVICE_HOST=10.0.0.1", "SLUICE_SERVICE_PORT=80", "SLUICE_SERVICE_PORT_HTTP=80", "SLUICE_PORT=tcp://10.0.0.1:80",
		"SLUICE_PORT_80_TCP=x", "SLUICE_PORT_80_TCP_PROTO=tcp", "SLUICE_PORT_80_TCP_ADDR=10.0.0.1", "SLUICE_BRIDGE_SERVICE_HOST=10.0.0.1",
		"SLUICE_MAXBODY=1", "SLUICE_HTTP_ADDR=x", "SLUICE_OPENAI_API_KEY=sk-x", "SLUICE_CORS_ORIGINS=x", "SLUICE_FROBNICATE=x", "SLUICE_VERSION=1",
	})
	want := []string{
		"the variable SLUICE_CORS_ORIGINS stands for no flag: did you mean SLUICE_CORS_ORIGIN?",
		"the variable SLUICE_FROBNICATE stands for no flag",
		"the variable SLUICE_HTTP_ADDR stands for no flag: did you mean SLUICE_HTTP?",
		"the variable SLUICE_MAXBODY stands for no flag: did you mean SLUICE_MAX_BODY?",
		"the variable SLUICE_OPENAI_API_KEY stands for no flag: did you mean OPENAI_API_KEY?",
		"the variable SLUICE_VERSION stands for no flag",
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
