package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestResponsesAsTheyStand reads a response whole, while it runs, when it has ended, and when
// it has failed: its items are those of its events, each with its id and in its place.
func TestResponsesAsTheyStand(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			goOn := make(chan string)
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				e2etest.Say(w, "a")
				e2etest.Chunk(w, `{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}`, "null")
				e2etest.Say(w, "b")
				e2etest.Chunk(w, `{"reasoning_content":"c"}`, "null")
				select {
				case end := <-goOn:
					if end != "" {
						e2etest.Chunk(w, `{}`, end)
					}
				case <-r.Context().Done():
				}
			})
			p := e2etest.Start(t, layout, u.Env())
			type item struct{ ID, Type, Status string }
			type response struct {
				ID, Status string
				Error      struct{ Code string }
				Output     []item
			}
			ask := func(method, path, body string) (r response) {
				t.Helper()
				if err := json.Unmarshal([]byte(readResponse(t, p.Send(t.Context(), t, method, path, body, "Content-Type", "application/json"))), &r); err != nil {
					t.Fatal(err)
				}
				return r
			}
			for _, end := range []string{"stop", ""} {
				r := ask("POST", responsesPath, `{"model":"m","input":"Hi","background":true}`)
				rest := strings.TrimPrefix(r.ID, "resp_")
				want := fmt.Sprintf("[{msg_%s_0 message completed} {fc_%s_1 function_call in_progress} {msg_%s_2 message completed} {rs_%s_3 reasoning }]", rest, rest, rest, rest)
				e2etest.Eventually(t, "all that the upstream says", func() bool { r = ask("GET", responsesPath+"/"+r.ID, ""); return len(r.Output) == 4 })
				if fmt.Sprint(r.Output) != want || r.Status != "in_progress" {
					t.Errorf("while it runs, it is %+v, want %s", r, want)
				}
				goOn <- end
				status, call := "completed", "completed"
				if end == "" {
					status, call = "failed", "incomplete"
				}
				e2etest.Eventually(t, "the end", func() bool { r = ask("GET", responsesPath+"/"+r.ID, ""); return r.Status != "in_progress" })
				if fmt.Sprint(r.Output) != strings.Replace(want, "in_progress", call, 1) || r.Status != status || end == "" && r.Error.Code != "upstream_truncated" {
					t.Errorf("in the end, it is %+v, want %s", r, want)
				}
			}
		})
	}
}
