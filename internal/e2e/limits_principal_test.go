package e2e

import (
	"crypto/rand"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/auth"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestLimitsPerPrincipal has one caller reach its limits, on either face: another one is
// not harmed.
func TestLimitsPerPrincipal(t *testing.T) {
	keys := map[string]string{"ann": rand.Text() + rand.Text(), "bob": rand.Text() + rand.Text()}
	var lines strings.Builder
	for name, key := range keys {
		line, err := auth.HashKey(name, key)
		if err != nil {
			t.Fatal(err)
		}
		lines.WriteString(strings.TrimSpace(line) + "\n")
	}
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := newSpoken(t)
			p := e2etest.Start(t, layout, u.Env(), "--api-keys="+file, "--max-running-per-principal=1", "--rate=0.001", "--rate-burst=3")
			post := func(as string) *http.Response {
				return p.Post(t, e2etest.Question, "Authorization", "Bearer "+keys[as])
			}
			list := func(as string) string {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+keys[as])
				_, err := p.Client(t).ListModels(ctx, &completionv1.ListModelsRequest{})
				if err == nil {
					return "OK"
				}
				return reason(status.Convert(err))
			}
			running := post("ann")
			if again := post("ann"); running.StatusCode != 200 || again.StatusCode != 429 {
				t.Errorf("ann's first: %s, her second: %s", running.Status, again.Status)
			}
			other := post("bob")
			if other.StatusCode != 200 {
				t.Errorf("bob's first: %s", other.Status)
			}
			if got := list("ann") + " " + list("ann") + " " + list("bob"); got != "OK RATE_LIMITED OK" {
				t.Errorf("ann's third and fourth call, and bob's second: %s", got)
			}
			refused := post("ann")
			if body, _ := io.ReadAll(refused.Body); refused.StatusCode != 429 || !strings.Contains(string(body), "RATE_LIMITED") || refused.Header.Get("Retry-After") == "" {
				t.Errorf("ann's fifth: %s %s", refused.Status, body)
			}
			close(u.finish)
			for _, resp := range []*http.Response{running, other} {
				if got, err := e2etest.Messages(resp.Body); err != nil || got[len(got)-1].Event != "finished" {
					t.Errorf("what ran: %v, %v", got, err)
				}
			}
			if n := u.Calls.Load(); n != 2 {
				t.Errorf("%d calls upstream", n)
			}
		})
	}
}
