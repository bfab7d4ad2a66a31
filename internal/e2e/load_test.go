package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// answerTogether answers so many requests, with so many tokens each, when all of them have
// come.
func answerTogether(requests, tokens int) http.HandlerFunc {
	var arrived atomic.Int64
	all := make(chan struct{})
	return func(w http.ResponseWriter, r *http.Request) {
		if arrived.Add(1) == int64(requests) {
			close(all)
		}
		select {
		case <-all:
		case <-time.After(time.Minute):
			e2etest.Refuse(503, "only some came")(w, r)
			return
		}
		for i := range tokens {
			time.Sleep(rand.N(4 * time.Millisecond)) // as models do
			e2etest.Chunk(w, fmt.Sprintf(`{"content":"%d "}`, i), "null")
		}
		e2etest.Chunk(w, `{}`, "stop")
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}
}

// TestManyStreams checks that of many streams, all open at the same time, none
// loses, repeats or swaps anything. Every fourth is a gRPC stream.
func TestManyStreams(t *testing.T) {
	const tokens = 50
	streams := 1000
	if underRace {
		streams = 200
	}
	var want strings.Builder
	for i := range tokens {
		fmt.Fprintf(&want, "%d ", i)
	}
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, answerTogether(streams, tokens))
			p := e2etest.Start(t, layout, u.Env())
			began := time.Now()
			var done sync.WaitGroup
			for i := range streams {
				ask := askSSE
				if i%4 == 3 {
					ask = askStream
				}
				done.Go(func() {
					a, err := ask(t.Context(), p, e2etest.Question)
					switch {
					case err != nil:
						t.Errorf("stream %d: %v", i, err)
					case a.status != nil:
						t.Errorf("stream %d failed after %d events: %v", i, len(a.events), a.status)
					case a.text != want.String():
						t.Errorf("stream %d has the text %q", i, a.text)
					case len(a.events) != tokens+2 || a.events[tokens+1].GetFinished().GetFinishReason() != completionv1.Finished_STOP:
						t.Errorf("stream %d has %d events, the last is %v", i, len(a.events), a.events[len(a.events)-1])
					}
				})
			}
			done.Wait()
			took := time.Since(began)
			t.Logf("%d streams of %d events in %v: %.0f events a second", streams, tokens+2, took, float64(streams*(tokens+2))/took.Seconds())
			if n := u.Calls.Load(); n != int64(streams) {
				t.Errorf("%d calls upstream", n)
			}
		})
	}
}
