package e2e

import (
	"net/http"
	"sync/atomic"
	"testing"
)

// TestUpstreamRetries checks on each face that a refusal which says when to come back is
// tried again, unseen by the caller, and not if the operator does not want it.
func TestUpstreamRetries(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			var calls atomic.Int64
			u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1)%2 == 1 {
					refuse(429, "rate_limit_exceeded", "Retry-After-Ms", "20")(w, r)
					return
				}
				chunk(w, `{"content":"at last"}`, "stop")
			})
			p := start(t, layout, u.env())
			for _, face := range faces {
				if a, err := face.ask(t.Context(), p, question); err != nil || a.status != nil || a.text != "at last" {
					t.Errorf("%s: got %v, %v", face.name, a, err)
				}
			}
			if n := calls.Load(); n != 2*int64(len(faces)) {
				t.Errorf("%d calls upstream", n)
			}
			p = start(t, layout, u.env(), "--upstream-retries=0")
			if a, err := faces[0].ask(t.Context(), p, question); err != nil || a.status == nil || reason(a.status) != "UPSTREAM_RATE_LIMITED" {
				t.Errorf("without retries: got %v, %v", a, err)
			}
		})
	}
}
