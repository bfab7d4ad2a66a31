package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/sse"
)

const responsesPath = "/openai/v1/responses"

// TestResponsesAtEveryOffset cuts the stream of a response at each byte. What its reader
// had, and what he gets with starting_after, is the whole, byte for byte, for one call
// upstream.
func TestResponsesAtEveryOffset(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				for _, word := range words {
					say(w, word)
				}
				chunk(w, `{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}`, "null")
				chunk(w, `{}`, "tool_calls")
			})
			p := start(t, layout, u.env())
			raw := readResponse(t, p.send(t.Context(), t, "POST", responsesPath, `{"model":"m","input":"Hi","stream":true}`, "Content-Type", "application/json"))
			created := raw[strings.Index(raw, `"id":"`)+len(`"id":"`):]
			id, _, _ := strings.Cut(created, `"`)
			rests := map[int]string{} // of the stream after an event, to be asked for once
			for offset := range len(raw) + 1 {
				last, had := -1, 0
				r := sse.NewReader(strings.NewReader(raw[:offset]), 1<<20)
				for m, err := r.Next(); err == nil; m, err = r.Next() {
					var event struct {
						N int `json:"sequence_number"`
					}
					if err := json.Unmarshal([]byte(m.Data), &event); err != nil || event.N != last+1 {
						t.Fatalf("event %d is %s: %v", last+1, m.Data, err)
					}
					last = event.N
				}
				had = endOfEvents(raw[:offset])
				if _, ok := rests[last]; !ok {
					path := responsesPath + "/" + id + "?stream=true"
					if last >= 0 {
						path += fmt.Sprintf("&starting_after=%d", last)
					}
					rests[last] = readResponse(t, p.send(t.Context(), t, "GET", path, ""))
				}
				if rests[last] != raw[had:] {
					t.Fatalf("cut at %d, after %d: got\n%s, want\n%s", offset, last, rests[last], raw[had:])
				}
			}
			if n := u.calls.Load(); n != 1 {
				t.Errorf("%d calls upstream", n)
			}
			t.Logf("%d offsets, %d events", len(raw)+1, len(rests)-1)
		})
	}
}

// endOfEvents returns where the last whole event of a stream ends.
func endOfEvents(stream string) int { return strings.LastIndex("\n\n"+stream, "\n\n") }

func readResponse(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s %s: %v", resp.Status, b, err)
	}
	return string(b)
}

// TestResponsesInTheBackground has nobody wait for a response, which goes on, is read
// while it runs, and is cancelled.
func TestResponsesInTheBackground(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			goOn := make(chan struct{})
			u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				say(w, "And")
				select {
				case <-goOn:
				case <-r.Context().Done():
					return
				}
				say(w, " so")
				chunk(w, `{}`, "stop")
			})
			p := start(t, layout, u.env())
			type response struct {
				ID, Status string
				Output     []struct{ Content []struct{ Text string } }
			}
			ask := func(method, path, body string) (r response) {
				t.Helper()
				if err := json.Unmarshal([]byte(readResponse(t, p.send(t.Context(), t, method, path, body, "Content-Type", "application/json"))), &r); err != nil {
					t.Fatal(err)
				}
				return r
			}
			const create = `{"model":"m","input":"Hi","background":true}`
			first, second := ask("POST", responsesPath, create), ask("POST", responsesPath, create)
			if first.Status != "in_progress" || second.Status != "in_progress" || first.ID == second.ID {
				t.Fatalf("got %+v, %+v", first, second)
			}
			time.Sleep(300 * time.Millisecond) // in which one that nobody reads would have been stopped
			if got := ask("POST", responsesPath+"/"+first.ID+"/cancel", ""); got.Status != "cancelled" {
				t.Errorf("cancelled, it is %+v", got)
			}
			if got := ask("GET", responsesPath+"/"+second.ID, ""); got.Status != "in_progress" {
				t.Errorf("it is %+v", got)
			}
			close(goOn)
			eventually(t, "the end of the response", func() bool { return ask("GET", responsesPath+"/"+second.ID, "").Status == "completed" })
			if got := ask("GET", responsesPath+"/"+second.ID, ""); len(got.Output) != 1 || len(got.Output[0].Content) != 1 || got.Output[0].Content[0].Text != "And so" {
				t.Errorf("it is %+v", got)
			}
			if n := u.calls.Load(); n != 2 {
				t.Errorf("%d calls upstream", n)
			}
		})
	}
}
