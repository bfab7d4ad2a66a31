package app

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/auth"
)

const testKey = "1f0c86f3d1b54d5fb21f9d9e0f6b7a3c"

// keyFile writes a file with a key of alice's.
func keyFile(t *testing.T) string {
	t.Helper()
	line, err := auth.HashKey("alice", testKey)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(name, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestOpenAddress checks that the program does not serve strangers unless it was told so,
// that it says what to do, and that it leaves no listener behind.
func TestOpenAddress(t *testing.T) {
	keys := "--api-keys=" + keyFile(t)
	const open, here = "0.0.0.0:0", "127.0.0.1:0"
	for _, tt := range []struct {
		args    []string
		refused string
	}{
		{[]string{"--http=" + open, "--grpc=" + here}, "--http 0.0.0.0:0: "},
		{[]string{"--http=" + here, "--grpc=" + open}, "--grpc 0.0.0.0:0: "},
		{[]string{"--http=:0", "--grpc=:0"}, "--grpc :0: "},
		{[]string{"--http=[::]:0", "--grpc=" + here}, "--http [::]:0: "},
		{[]string{"server", "--grpc=" + open}, "--grpc 0.0.0.0:0: "},
		{[]string{"--http=" + open, "--grpc=" + open, keys}, ""},
		{[]string{"--http=" + open, "--grpc=" + open, "--allow-anonymous"}, ""},
		{[]string{"server", "--grpc=" + open, keys}, ""},
		{[]string{"--http=" + here, "--grpc=" + here}, ""},
		{[]string{"bridge", "--http=" + open, "--server=127.0.0.1:1"}, ""},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			if tt.refused == "" {
				serveWith(t, interceptors{}, tt.args...)
				return
			}
			var out strings.Builder
			err := Run(t.Context(), tt.args, func(string) string { return "" }, &out, t.Output())
			for _, want := range []string{tt.refused, "--api-keys", "sluice hash-key", "--jwt-issuer", "--allow-anonymous", "127.0.0.1"} {
				if !strings.Contains(errorText(err), want) {
					t.Errorf("it says %q, and not %s", errorText(err), want)
				}
			}
			if out.Len() > 0 {
				t.Errorf("it prints %s", out.String())
			}
		})
	}
}

// TestOpenBridge checks that a bridge says who decides.
func TestOpenBridge(t *testing.T) {
	for address, want := range map[string]bool{"0.0.0.0:0": true, "127.0.0.1:0": false} {
		var log strings.Builder
		p := &program{getenv: func(string) string { return "" }, stdout: io.Discard, stderr: &log}
		c, err := parse([]string{"bridge", "--http=" + address, "--server=127.0.0.1:1"}, p.getenv, io.Discard, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it stops as soon as it serves
		if err := c.run(ctx, p); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "is the server's to decide"); got != want {
			t.Errorf("%s: the log is\n%s", address, log.String())
		}
	}
}

// TestHashKeyCommand gives the command keys, and the server what it prints.
func TestHashKeyCommand(t *testing.T) {
	for _, tt := range []struct{ line, input, err string }{
		{"hash-key alice", testKey + "\n", ""},
		{"hash-key alice", testKey, ""},
		{"hash-key alice", "  " + testKey + "\r\nand more\n", ""},
		{"hash-key help", testKey, ""}, // who is called so
		{"hash-key alice", "", "no key"},
		{"hash-key alice", "hunter2\n", "can be guessed"},
		{"hash-key alice", strings.Repeat("x", 1<<20), "more than"},
		{"hash-key anonymous", testKey, "without credentials"},
		{"hash-key", testKey, "principal"},
		{"hash-key alice " + testKey, "", "unexpected argument"},
		{"hash-key --api-keys=x alice", "", "--api-keys is a flag of sluice server, not of sluice hash-key"},
	} {
		var out strings.Builder
		p := &program{stdin: strings.NewReader(tt.input), stdout: &out, stderr: t.Output()}
		c, err := parse(strings.Fields(tt.line), func(string) string { return "" }, io.Discard, io.Discard)
		if err == nil {
			err = c.run(t.Context(), p)
		}
		if tt.err == "" && err != nil || !strings.Contains(errorText(err), tt.err) {
			t.Errorf("%s < %.40q: got %v, want %s", tt.line, tt.input, err, tt.err)
		}
		if printed := regexp.MustCompile(`^\w+ [0-9a-f]{64}\n$`).MatchString(out.String()); printed != (tt.err == "") {
			t.Errorf("%s < %.40q: printed %q", tt.line, tt.input, out.String())
		}
	}
}

// TestCredentialFlags checks what the program does not start with.
func TestCredentialFlags(t *testing.T) {
	jwks := filepath.Join(t.TempDir(), "jwks")
	if err := os.WriteFile(jwks, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ line, err string }{
		{"--api-keys=" + jwks + ".missing", "no such file"},
		{"--api-keys=" + jwks, "line 1: it is not PRINCIPAL HASH"},
		{"--api-keys=" + empty, "it is empty"},
		{"--jwt-issuer=https://issuer.test", "tokens need all three"},
		{"--jwt-issuer=https://issuer.test --jwt-jwks=https://issuer.test/jwks", "tokens need all three"},
		{"--jwt-jwks=https://issuer.test/jwks", "tokens need all three"},
		{"--jwt-issuer=issuer.test --jwt-audience=a --jwt-jwks=https://issuer.test/jwks", "is not a URL"},
		{"--jwt-issuer=https://issuer.test --jwt-audience=a --jwt-jwks=http://issuer.test/jwks", "a URL is https, or of this machine"},
		{"--jwt-issuer=https://issuer.test --jwt-audience=a --jwt-jwks=" + jwks, "it has no key"},
		{"--jwt-issuer=https://issuer.test --jwt-audience=a --jwt-jwks=" + jwks + ".missing", "no such file"},
	} {
		args := append(strings.Fields(tt.line), "--http=127.0.0.1:0", "--grpc=127.0.0.1:0")
		if err := Run(t.Context(), args, func(string) string { return "" }, io.Discard, t.Output()); !strings.Contains(errorText(err), tt.err) {
			t.Errorf("%s: got %v, want %s", tt.line, err, tt.err)
		}
	}
}

// TestHelpIsGrouped checks that each flag is in a group, and each group on one screen.
func TestHelpIsGrouped(t *testing.T) {
	for _, command := range []string{"", "server", "bridge"} {
		var out strings.Builder
		if err := Run(t.Context(), strings.Fields(command+" --help"), func(string) string { return "" }, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		_, flags, _ := strings.Cut(out.String(), "\nFlags:\n")
		groups := strings.Split(strings.TrimSpace(flags), "\n\n")
		if n := strings.Count(groups[0], "--"); n != 2 { // help and version
			t.Errorf("sluice %s: not in a group: %s", command, groups[0])
		}
		for _, group := range groups {
			if n := strings.Count(group, "\n") + 1; n > 28 {
				t.Errorf("sluice %s: a group of %d lines:\n%s", command, n, group)
			}
		}
		if len(groups) < 5 {
			t.Errorf("sluice %s: %d groups", command, len(groups))
		}
	}
}
