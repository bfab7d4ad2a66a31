package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// TestAttackFillsJournal begins far more streams at once than the journal has room
// for, and counts how they end. What is refused costs nothing; what was begun is paid
// for, and must not fail because of the others.
func TestAttackFillsJournal(t *testing.T) {
	const streams, deltas = 200, 60
	word := strings.Repeat("x", 100)
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		for range deltas {
			e2etest.Chunk(w, `{"content":"`+word+`"}`, "null")
			select {
			case <-time.After(5 * time.Millisecond): // so that all grow together
			case <-r.Context().Done():
				return
			}
		}
		e2etest.Chunk(w, `{}`, "stop")
	})
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			p := e2etest.Start(t, layout, u.Env(), "--journal-memory=256KiB")
			var mu sync.Mutex // guards ends
			ends := map[string]int{}
			var all sync.WaitGroup
			for i := range streams {
				all.Go(func() {
					end := endOf(t.Context(), p, faces[2*(i%2)].ask, deltas*len(word)) // SSE and gRPC
					mu.Lock()
					defer mu.Unlock()
					ends[end]++
				})
			}
			all.Wait()
			fmt.Fprintf(os.Stdout, "%d streams of 6 KB at --journal-memory 256KiB, %s: %v\n", streams, layout, ends)
			if ends["failed"] > 0 || ends["finished"] == 0 || ends["finished"]+ends["refused"] != streams {
				t.Errorf("got %v", ends)
			}
		})
	}
}

// endOf asks for a completion and returns how that ended.
func endOf(ctx context.Context, p *e2etest.Program, ask func(context.Context, *e2etest.Program, string) (*answer, error), size int) string {
	a, err := ask(ctx, p, e2etest.Question)
	switch {
	case err != nil:
		return err.Error()
	case a.status == nil && len(a.text) == size:
		return "finished"
	case a.status != nil && reason(a.status) == "OVERLOADED" && len(a.events) == 0:
		return "refused"
	case a.status != nil:
		return "failed"
	}
	return fmt.Sprintf("%d bytes", len(a.text))
}

// TestJournalMemory fills the journal three times over with completions that have
// ended, and holds the most memory that the program ever had against the flag.
func TestJournalMemory(t *testing.T) {
	testbed.NeedProc(t)
	if underRace {
		return // which takes memory of its own: it is measured without
	}
	const flag, size = 128 << 20, 1 << 20
	delta := fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", strings.Repeat("x", 1<<10))
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for range size / (1 << 10) {
			_, _ = io.WriteString(w, delta)
		}
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
	})
	p := testbed.Start(t, "sluice --http=127.0.0.1:0 --grpc=127.0.0.1:0 --journal-memory=128MiB --openai-base-url="+u.URL+"/v1")
	defer p.Stop()
	one := func() error {
		req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+p.Addrs[0]+"/v1/completions", strings.NewReader(e2etest.Question))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < size {
			return fmt.Errorf("%s with %d bytes, %v", resp.Status, n, err)
		}
		return nil
	}
	if err := one(); err != nil {
		t.Fatal(err)
	}
	before := p.Proc("status", "\nVmRSS:") << 10
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 3 * flag / size / 4 {
				if err := one(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	peak := p.Proc("status", "\nVmHWM:") << 10
	factor := float64(peak-before) / flag
	fmt.Fprintf(os.Stdout, "--journal-memory 128MiB, filled three times over: %d MiB at first, %d MiB at the peak: %.2f times the flag more\n", before>>20, peak>>20, factor)
	if factor > 1.5 {
		t.Errorf("the memory grew by %.2f times the flag", factor)
	}
}
