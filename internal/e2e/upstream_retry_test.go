package e2e

import (
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestUpstreamRetries checks on each face that a refusal which says when to come back is
// tried again, unseen by the caller, and not if the operator does not want it.
func TestUpstreamRetries(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			var calls atomic.Int64
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1)%2 == 1 {
					e2etest.Refuse(429, "rate_limit_exceeded", "Retry-After-Ms", "20")(w, r)
					return
				}
				e2etest.Chunk(w, `{"content":"at last"}`, "stop")
			})
			p := e2etest.Start(t, layout, u.Env())
			for _, face := range faces {
				if a, err := face.ask(t.Context(), p, e2etest.Question); err != nil || a.status != nil || a.text != "at last" {
					t.Errorf("%s: got %v, %v", face.name, a, err)
				}
			}
			if n := calls.Load(); n != 2*int64(len(faces)) {
				t.Errorf("%d calls upstream", n)
			}
			p = e2etest.Start(t, layout, u.Env(), "--upstream-retries=0")
			if a, err := faces[0].ask(t.Context(), p, e2etest.Question); err != nil || a.status == nil || reason(a.status) != "UPSTREAM_RATE_LIMITED" {
				t.Errorf("without retries: got %v, %v", a, err)
			}
		})
	}
}
