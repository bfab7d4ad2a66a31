package e2e

import (
	"context"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// TestStreamOnTheWire checks every byte of a stream.
func TestStreamOnTheWire(t *testing.T) {
	const want = `event: created
data: {"sequence":1,"created":{"id":"ID","model":"echo","createTime":"TIME"}}
retry: 1000
id: ID_1

event: delta
data: {"sequence":2,"delta":{"text":"One"}}
id: ID_2

event: delta
data: {"sequence":3,"delta":{"text":"\n\ntwo"}}
id: ID_3

event: delta
data: {"sequence":4,"delta":{"text":" \"three\""}}
id: ID_4

event: finished
data: {"sequence":5,"finished":{"finishReason":"STOP","usage":{"promptTokens":3,"completionTokens":3,"totalTokens":6}}}
id: ID_5

`
	for _, layout := range layouts {
		for _, header := range [][]string{
			{},
			{"Accept-Encoding", "gzip, br, zstd"},
			{"Accept", "text/event-stream", "Accept-Encoding", "gzip;q=1, identity;q=0"},
			{"Content-Type", "text/event-stream"},
		} {
			t.Run(layout+"/"+strings.Join(header, " "), func(t *testing.T) {
				p := e2etest.Start(t, layout, nil, "--echo-interval=0s")
				resp := p.Post(t, `{"prompt":"One\n\ntwo \"three\""}`, append(header, "X-Request-Id", "mine-1")...)
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				id := strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/")
				if !regexp.MustCompile(`^cmpl_[A-Z2-7]{26}$`).MatchString(id) {
					t.Errorf("Location: %s", resp.Header.Get("Location"))
				}
				created := regexp.MustCompile(`"createTime":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"`)
				got := strings.ReplaceAll(created.ReplaceAllString(string(body), `"createTime":"TIME"`), id, "ID")
				if got != want {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
				checkHeader(t, resp, map[string]string{
					"Content-Type":           "text/event-stream",
					"Cache-Control":          "no-store, no-transform",
					"X-Accel-Buffering":      "no",
					"X-Content-Type-Options": "nosniff",
					"Location":               "/v1/completions/" + id,
					"X-Request-Id":           "mine-1",
				})
			})
		}
	}
}

// checkHeader checks that these are the fields, and no others but Date.
func checkHeader(t *testing.T, resp *http.Response, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for name, values := range resp.Header {
		if name != "Date" {
			got[name] = strings.Join(values, ", ")
		}
	}
	if resp.StatusCode != 200 || !maps.Equal(got, want) {
		t.Errorf("got %d %v, want 200 %v", resp.StatusCode, got, want)
	}
}

// TestPieces checks that each piece is with its reader before the upstream has
// said the next.
func TestPieces(t *testing.T) {
	pieces := []string{"One", " two", " three"}
	for _, layout := range layouts {
		for i, face := range []string{"SSE", "gRPC"} { // as openOn counts
			t.Run(layout+"/"+face, func(t *testing.T) {
				taken := make(chan struct{})
				u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
					for _, piece := range pieces {
						e2etest.Chunk(w, `{"content":"`+piece+`"}`, "null")
						select {
						case <-taken:
						case <-r.Context().Done():
							return
						}
					}
					e2etest.Chunk(w, `{}`, "stop")
				})
				p := e2etest.Start(t, layout, u.Env())
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				_, next, err := openOn(ctx, p, p.Client(t), i, e2etest.Question)
				var got []string
				for err == nil {
					var event *completionv1.CompletionEvent
					event, err = next()
					if event.GetFinished() != nil {
						break
					}
					if d := event.GetDelta(); d != nil {
						got = append(got, d.GetText())
						taken <- struct{}{}
					}
				}
				if err != nil || !slices.Equal(got, pieces) {
					t.Errorf("got %q, %v", got, err)
				}
			})
		}
	}
}

func TestStreams(t *testing.T) {
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		e2etest.Chunk(w, `{"role":"assistant","content":""}`, "null")
		e2etest.Chunk(w, `{"content":"Hello"}`, "null")
		e2etest.Chunk(w, `{"content":" you"}`, "stop")
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			p := e2etest.Start(t, layout, u.Env())
			resp := p.Post(t, `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`)
			got, err := e2etest.Messages(resp.Body)
			if err != nil || len(got) != 4 || got[3].Event != "finished" {
				t.Fatalf("got %v, %v", got, err)
			}
		})
	}
}
