package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// started runs the program and returns all that it prints at the start.
func started(t *testing.T, env map[string]string, args ...string) string {
	t.Helper()
	var printed e2etest.LockedBuffer
	e2etest.StartOne(t, &e2etest.Program{Log: &e2etest.LockedBuffer{}, Printed: &printed}, env, args...)
	e2etest.Eventually(t, "print what to try", func() bool {
		_, try, _ := strings.Cut(printed.String(), "\n\n")
		return strings.Contains(try, "grpcurl") || len(args) > 0 && args[0] == "bridge" && (strings.Contains(try, "/v1/models") || strings.Contains(try, "/openapi.json"))
	})
	return printed.String()
}

// TestBannerCanBeTried runs the lines that are printed at the start, as they are
// printed, in front of a provider that takes messages alone, and must be told a
// model that it has.
func TestBannerCanBeTried(t *testing.T) {
	for _, name := range []string{"curl", "grpcurl"} {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(name); err != nil {
				skip.For(t, "there is no %s in PATH: what is printed for it is not run", name)
			}
		})
	}
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/chat/completions") || e2etest.ModelOf(r) != "m" {
			e2etest.Refuse(http.StatusNotFound, "model_not_found")(w, r)
			return
		}
		sayHello(w, r)
	})
	withoutModel := func(args ...string) []string { return args }
	withModel := func(args ...string) []string { return append(args, "--model=m") }
	for _, with := range []func(...string) []string{withoutModel, withModel} {
		for _, host := range []string{"127.0.0.1", "[::1]", "0.0.0.0", "[::]", "", "localhost"} {
			for _, env := range []map[string]string{nil, u.Env()} {
				args := with("--http="+host+":0", "--grpc="+host+":0")
				if env == nil {
					args = args[:2]
				}
				if host != "127.0.0.1" && host != "[::1]" && host != "localhost" {
					args = append(args, "--allow-anonymous")
				}
				t.Run(fmt.Sprint(args, len(env)), func(t *testing.T) {
					t.Parallel()
					tryAll(t, started(t, env, args...))
				})
			}
		}
		t.Run("two processes", func(t *testing.T) {
			t.Parallel()
			printed := started(t, u.Env(), with("server", "--grpc=127.0.0.1:0")...)
			tryAll(t, printed)
			server := e2etest.Address.FindString(printed)
			tryAll(t, started(t, nil, "bridge", "--http=[::]:0", "--server="+server))
			printed = started(t, nil, "bridge", "--http=127.0.0.1:0", "--server="+server, "--expose=completion.v1.CompletionService")
			if !strings.Contains(printed, "exposes   completion.v1.CompletionService") || strings.Contains(printed, "/v1/") {
				t.Errorf("of a stranger's server it prints\n%s", printed)
			}
			_, try, _ := strings.Cut(printed, "\n\n")
			if out, err := exec.CommandContext(t.Context(), "sh", "-c", try).CombinedOutput(); err != nil || !strings.Contains(string(out), `"/completion.v1.CompletionService/GetCompletion"`) {
				t.Errorf("%s: %v, %.300s", try, err, out)
			}
		})
	}
}

// TestBannerOverTLS runs them with certificates: those that are for the address that is
// printed are to be trusted, and others not to be looked at.
func TestBannerOverTLS(t *testing.T) {
	a := testbed.NewAuthority(t)
	dir := filepath.Join(t.TempDir(), "it's a folder")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for names, want := range map[string]string{"localhost,127.0.0.1": "--cacert", "sluice.test": "-k"} {
		t.Run(names, func(t *testing.T) {
			c, k := a.Issue(t, strings.Split(names, ",")...)
			testbed.WriteFile(t, cert, c)
			testbed.WriteFile(t, key, k)
			printed := started(t, nil, "--http=127.0.0.1:0", "--grpc=127.0.0.1:0", "--tls-cert="+cert, "--tls-key="+key)
			if !strings.Contains(printed, "HTTP on https://127.0.0.1:") || !strings.Contains(printed, " over TLS\n") || !strings.Contains(printed, "curl "+want) {
				t.Errorf("it prints\n%s", printed)
			}
			tryAll(t, printed)
		})
	}
}

// tryAll runs the commands that were printed.
func tryAll(t *testing.T, printed string) {
	t.Helper()
	_, try, _ := strings.Cut(printed, "\n\n")
	if try == "" {
		t.Errorf("there is nothing to try:\n%s", printed)
	}
	for line := range strings.Lines(try) {
		line = strings.TrimSpace(line)
		name, _, _ := strings.Cut(line, " ")
		if _, err := exec.LookPath(name); err != nil {
			continue
		}
		out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput()
		got := string(out)
		if err != nil || strings.Contains(got, `"error"`) || !strings.Contains(got, "STOP") && !strings.Contains(got, `"models"`) {
			t.Errorf("%s: %v\n%s", line, err, got)
		}
	}
}

// TestBannerNames checks what is told of the upstream, and what is not.
func TestBannerNames(t *testing.T) {
	const key = "sk-secret-of-the-tests"
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		want []string
	}{
		{"no upstream", map[string]string{"OPENAI_API_KEY": key}, nil, []string{"upstream  none", "model echo"}},
		{"a key", map[string]string{"OPENAI_BASE_URL": "https://u.example/v1", "OPENAI_API_KEY": key}, []string{"--model=m"},
			[]string{"https://u.example/v1, with a key", "model     m,"}},
		{"a key in a file", nil, []string{"--openai-base-url=https://u.example/v1", "--openai-api-key-file=" + file}, []string{"https://u.example/v1, with a key", "no default"}},
		{"no key", map[string]string{"OPENAI_BASE_URL": "https://u.example/v1"}, nil, []string{"https://u.example/v1, without a key"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, command := range []string{"", "server"} {
				args := append([]string{"--grpc=127.0.0.1:0"}, tt.args...)
				if command == "" {
					args = append(args, "--http=127.0.0.1:0")
				} else {
					args = append([]string{command}, args...)
				}
				printed := started(t, tt.env, args...)
				for _, want := range tt.want {
					if !strings.Contains(printed, want) {
						t.Errorf("sluice %q does not print %q:\n%s", args, want, printed)
					}
				}
				if strings.Contains(printed, key) {
					t.Errorf("sluice %q prints the key:\n%s", args, printed)
				}
			}
		})
	}
}
