package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// ended says whether the terminal event is among what a reader has.
func ended(events []sse.Message) bool {
	return len(events) > 0 && events[len(events)-1].Event == "finished"
}

// repeatable is a request that a reader may repeat. Without readers the completion goes
// on for a while.
func repeatable(model, key string) string {
	return fmt.Sprintf(`{"model":%q,"messages":[{"role":"user","content":"Hi"}],"disconnect_grace":"60s","idempotency_key":%q}`, model, key)
}

// words are hard to cut: of one byte and of several, with line ends and marks of
// the event stream's own.
var words = []string{"Hello", " wörld", "\n", "日本語", " 😀👩‍👩‍👧", "é", "\u2028", "\r\n\r\n", `"data: {`, " end"}

// TestResumeAtEveryOffset cuts a stream at each byte. What its reader had, and
// what he gets when he comes back in any way, is the whole: once, in order, for
// one call upstream.
func TestResumeAtEveryOffset(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				for _, word := range words {
					e2etest.Say(w, word)
				}
				e2etest.Chunk(w, `{}`, "stop")
			})
			p := e2etest.Start(t, layout, u.Env())
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			request := repeatable("m", "every offset")
			resp := p.Post(t, request)
			raw, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			id := strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/")
			whole, err := e2etest.Messages(bytes.NewReader(raw))
			if err != nil || !ended(whole) || len(whole) != len(words)+2 {
				t.Fatalf("%d events, %v", len(whole), err)
			}
			for offset := range len(raw) + 1 {
				r := reader{p: p, request: request, id: id}
				had, _ := e2etest.Messages(bytes.NewReader(raw[:offset]))
				if len(had) > 0 {
					r.last = had[len(had)-1].ID
				}
				checkHastyID(t, raw[:offset], r.last)
				for i, way := range ways {
					if underRace && i != offset%len(ways) {
						continue
					}
					got, err := way.read(r, ctx)
					if err != nil {
						t.Fatalf("cut at %d, back after %q by %s: %v", offset, r.last, way.name, err)
					}
					rest := whole[len(had):]
					if len(rest) == 0 && way.name == "POST" {
						rest = whole[len(whole)-1:] // that a client that repeats itself sees the end
					}
					if !slices.Equal(got.events, rest) {
						t.Fatalf("cut at %d, back after %q by %s: got %q, want %q", offset, r.last, way.name, got.events, rest)
					}
				}
			}
			if n := u.Calls.Load(); n != 1 {
				t.Errorf("%d calls upstream", n)
			}
			t.Logf("%d offsets", len(raw)+1)
		})
	}
}

// checkHastyID checks the cursor of a client that takes an id when it has read
// its line, not with its event, as fetch-event-source does. It must not be ahead,
// but for the one byte between that line and the end of its block.
func checkHastyID(t *testing.T, prefix []byte, want string) {
	t.Helper()
	hasty := ""
	lines := strings.SplitAfter(string(prefix), "\n")
	lines = lines[:len(lines)-1] // the one that is not complete
	for i, line := range lines {
		id, ok := strings.CutPrefix(line, "id: ")
		if oneByteEarly := i == len(lines)-1 && bytes.HasSuffix(prefix, []byte("\n")); ok && !oneByteEarly {
			hasty = strings.TrimSuffix(id, "\n")
		}
	}
	if hasty != want {
		t.Fatalf("cut at %d, a hasty client would come back after %q, not %q", len(prefix), hasty, want)
	}
}

// TestResumeAfterReset resets connections in the middle of a stream, while the
// completion runs.
func TestResumeAfterReset(t *testing.T) {
	const step, most = 17, 1200 // bytes of an answer, its header included
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			gate := make(chan struct{})
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				for _, word := range words {
					e2etest.Say(w, word)
				}
				select {
				case <-gate:
				case <-r.Context().Done():
					return
				}
				for _, word := range words {
					e2etest.Say(w, word)
				}
				e2etest.Chunk(w, `{}`, "stop")
			})
			p := e2etest.Start(t, layout, u.Env(), "--commit-window=100ms")
			n := 0
			for after := 1; after <= most; after += step {
				way := ways[n%len(ways)]
				name := fmt.Sprintf("reset after %d bytes, back by %s", after, way.name)
				proxy := e2etest.NewCuttingProxy(t, p.HTTP, func(int) *e2etest.Cut { return &e2etest.Cut{After: after, How: e2etest.SendReset} })
				r := reader{p: &e2etest.Program{HTTP: proxy.URL}, request: repeatable("m", name)}
				ctx := e2etest.ShortContext(t)
				had, err := r.post(ctx)
				if err == nil || proxy.Cuts.Load() != 1 {
					t.Fatalf("%s: %v after %d cuts", name, err, proxy.Cuts.Load())
				}
				r.p, r.id = p, had.id
				r.answered = func() {
					select {
					case gate <- struct{}{}:
					case <-ctx.Done():
					}
				}
				if r.id == "" { // not even the header came
					way.read = reader.post
				}
				if len(had.events) > 0 {
					r.last = had.events[len(had.events)-1].ID
				}
				got, err := way.read(r, ctx)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				checkWhole(t, name, slices.Concat(had.events, got.events), 2*len(words)+2)
				n++
			}
			if calls := u.Calls.Load(); calls != int64(n) {
				t.Errorf("%d completions, %d calls upstream", n, calls)
			}
		})
	}
}

// checkWhole checks that there are n events of one completion, from the first to
// the last.
func checkWhole(t *testing.T, name string, events []sse.Message, n int) {
	t.Helper()
	for i, m := range events {
		if _, sequence, err := native.ParseID(m.ID); err != nil || int(sequence) != i+1 {
			t.Fatalf("%s: event %d has the id %q", name, i+1, m.ID)
		}
	}
	if len(events) != n || !ended(events) {
		t.Fatalf("%s: %d of %d events, the last %q", name, len(events), n, events[max(0, len(events)-1):])
	}
}
