package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestRefusalsAreLogged checks that whoever is refused leaves one line that says so, over
// HTTP in the words of HTTP, and that no line has what is nobody's business: a query, a
// key, a prompt.
func TestRefusalsAreLogged(t *testing.T) {
	const secret = "sk-of-the-caller-0123456789abcdef"
	for _, tt := range []struct {
		name, method, path, body string
		header                   []string
		status                   float64
		reason                   string
		args                     []string
	}{
		{name: "no such path", method: "GET", path: "/nowhere?q=" + secret, status: 404, reason: "invalid_request"},
		{name: "no such completion", method: "GET", path: "/v1/completions/cmpl_x?q=" + secret, status: 404, reason: "completion_not_found"},
		{name: "a form", method: "POST", path: "/v1/completions", body: e2etest.Question, header: []string{"Content-Type", "application/x-www-form-urlencoded"}, status: 415, reason: "invalid_request"},
		{name: "a page of elsewhere", method: "POST", path: "/v1/completions", body: e2etest.Question, header: []string{"Origin", "https://evil.example"}, status: 403},
		{name: "another host", method: "GET", path: "/v1/models", header: []string{"Host", "evil.example"}, status: 403},
		{name: "another method", method: "DELETE", path: "/v1/completions", status: 405, reason: "invalid_request"},
		{name: "a wrong field", method: "POST", path: "/v1/completions", body: `{"promt":"` + e2etest.Asked + `"}`, status: 400, reason: "invalid_request"},
		{name: "a wrong key", method: "GET", path: "/v1/models", header: []string{"Authorization", "Bearer " + secret}, status: 401, reason: "unauthenticated"},
		{name: "too often", method: "GET", path: "/v1/models", status: 429, reason: "rate_limited", args: []string{"--rate=0.001", "--rate-burst=1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append([]string{"--log-format=json"}, tt.args...)
			if tt.status == 401 {
				args = append(args, "--api-keys="+noKeys(t))
			}
			p := e2etest.Start(t, "one process", nil, args...)
			if tt.status == 429 {
				e2etest.StatusOf(t, p.HTTP+tt.path)
			}
			req, err := http.NewRequestWithContext(t.Context(), tt.method, p.HTTP+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(tt.header); i += 2 {
				req.Header.Set(tt.header[i], tt.header[i+1])
			}
			req.Host = req.Header.Get("Host")
			req.Header.Set("X-Request-Id", "request-1")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			e2etest.Eventually(t, "the line", func() bool { return len(refusalsIn(t, p)) > 0 })
			lines := refusalsIn(t, p)
			path, _, _ := strings.Cut(tt.path, "?")
			got := lines[0]
			if len(lines) != 1 || got["level"] != "INFO" || got["protocol"] != "http" || got["method"] != tt.method || got["path"] != path ||
				got["status"] != tt.status || got["request_id"] != "request-1" || tt.reason != "" && got["reason"] != tt.reason {
				t.Errorf("%v", lines)
			}
			if log := p.Log.String(); strings.Contains(log, secret) || strings.Contains(log, e2etest.Asked) {
				t.Errorf("a secret is in the log: %s", log)
			}
		})
	}
}

// TestRefusedCallIsLogged checks the same of gRPC.
func TestRefusedCallIsLogged(t *testing.T) {
	p := e2etest.Start(t, "two processes", nil, "--log-format=json", "--max-messages=1")
	ctx := metadata.AppendToOutgoingContext(e2etest.ShortContext(t), "x-request-id", "call-1")
	text := e2etest.Asked
	m := &completionv1.Message{Role: "user", Content: &text}
	if _, err := p.Client(t).CreateCompletion(ctx, &completionv1.CompletionRequest{Model: "echo", Messages: []*completionv1.Message{m, m}}); err == nil {
		t.Fatal("it was not refused")
	}
	e2etest.Eventually(t, "the line", func() bool { return len(refusalsIn(t, p)) > 0 })
	lines := refusalsIn(t, p)
	got := lines[0]
	if len(lines) != 1 || got["protocol"] != "grpc" || got["method"] != "completion.v1.CompletionService/CreateCompletion" || got["status"] != "INVALID_ARGUMENT" ||
		got["reason"] != "invalid_request" || got["limit"] != "max_messages" || got["request_id"] != "call-1" {
		t.Errorf("%v", lines)
	}
}

// TestAccessIsLoggedAtDebug checks that requests which are answered have a line only for
// who asks for it.
func TestAccessIsLoggedAtDebug(t *testing.T) {
	for _, level := range []string{"debug", "info"} {
		p := e2etest.Start(t, "one process", nil, "--log-level="+level, "--echo-interval=0s")
		if word := lastWord(p.Post(t, `{"prompt":"`+e2etest.Asked+`"}`)); word != "finished" {
			t.Fatal(word)
		}
		line := func() bool {
			return strings.Contains(p.Log.String(), "level=DEBUG msg=request protocol=http method=POST path=/v1/completions status=200")
		}
		if level == "debug" {
			e2etest.Eventually(t, "the line", line)
		} else {
			<-p.Stop()
		}
		if line() != (level == "debug") || strings.Contains(p.Log.String(), e2etest.Asked) {
			t.Errorf("at %s: %s", level, p.Log)
		}
	}
}

// noKeys is a file of keys that has none.
func noKeys(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(name, []byte("# none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// refusalsIn returns the lines of a log that are of refusals.
func refusalsIn(t *testing.T, p *e2etest.Program) (lines []map[string]any) {
	t.Helper()
	for line := range strings.Lines(p.Log.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if msg, _ := fields["msg"].(string); strings.HasSuffix(msg, " refused") {
			lines = append(lines, fields)
		}
	}
	return lines
}
