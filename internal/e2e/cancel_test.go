package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// cancelKeyOn cancels by an idempotency key: on the even faces over HTTP, on the odd
// ones over gRPC, as openOn counts. It reports whether the key stood for something.
func cancelKeyOn(ctx context.Context, p *e2etest.Program, c completionv1.CompletionServiceClient, i int, key string) (*completionv1.Completion, bool, error) {
	if i%2 == 1 {
		got, err := c.CancelCompletion(ctx, &completionv1.CancelCompletionRequest{IdempotencyKey: key})
		if status.Code(err) == codes.NotFound && reason(status.Convert(err)) == "COMPLETION_NOT_FOUND" {
			return nil, false, nil
		}
		return got, err == nil, err
	}
	body, _ := json.Marshal(map[string]string{"idempotencyKey": key})
	req, err := http.NewRequestWithContext(ctx, "POST", p.HTTP+"/v1/completions:cancel", strings.NewReader(string(body)))
	if err != nil {
		return nil, false, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, false, err
	case resp.StatusCode == 404 && strings.Contains(string(reply), "COMPLETION_NOT_FOUND"):
		return nil, false, nil
	case resp.StatusCode != 200:
		return nil, false, fmt.Errorf("the answer is %s: %s", resp.Status, reply)
	}
	got := &completionv1.Completion{}
	return got, true, protojson.Unmarshal(reply, got)
}

// TestCancelByKey stops, on each face, a completion that has not said its id yet, as
// its upstream has not begun to answer and nor has the bridge.
func TestCancelByKey(t *testing.T) {
	for _, layout := range layouts {
		u := e2etest.NewUpstream(t, e2etest.Silence)
		p := e2etest.Start(t, layout, u.Env(), "--commit-window=1h")
		client := p.Client(t)
		for i, face := range []string{"HTTP", "gRPC"} {
			t.Run(layout+"/"+face, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				end := make(chan string, 1)
				go func() {
					_, next, err := openOn(ctx, p, client, i, keyed("m", `,"idempotency_key":"`+face+`"`))
					for err == nil {
						var event *completionv1.CompletionEvent
						if event, err = next(); event.GetFinished() != nil {
							end <- event.GetFinished().GetFinishReason().String()
							return
						}
					}
					end <- err.Error()
				}()
				e2etest.Eventually(t, "the upstream is asked", func() bool { return u.Open.Load() == 1 })
				c, found, err := cancelKeyOn(ctx, p, client, i, face)
				if err != nil || !found || c.GetState() != completionv1.Completion_CANCELLED {
					t.Fatalf("got %v, %v, %v", c, found, err)
				}
				if got := <-end; got != "CANCELLED" {
					t.Errorf("the reader got %s", got)
				}
				e2etest.Eventually(t, "the upstream's connection is closed", func() bool { return u.Open.Load() == 0 })
				again, _, err := cancelKeyOn(ctx, p, client, 1-i, face)
				if err != nil || !proto.Equal(again, c) {
					t.Errorf("again, on the other face: %v, %v", again, err)
				}
				if _, found, err := cancelKeyOn(ctx, p, client, i, "nobody's"); found || err != nil {
					t.Errorf("a key that stands for nothing: %v, %v", found, err)
				}
			})
		}
	}
}

// TestCancelByKeyRacesTheCreate cancels again and again from before the completion
// begins. Once the cancelling has found it, it has ended, and the reader learns that.
func TestCancelByKeyRacesTheCreate(t *testing.T) {
	const rounds = 40
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, e2etest.Silence)
			p := e2etest.Start(t, layout, u.Env())
			client := p.Client(t)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var all sync.WaitGroup
			for i := range rounds {
				key := fmt.Sprint("k", i)
				all.Go(func() {
					_, next, err := openOn(ctx, p, client, i, keyed("m", `,"idempotency_key":"`+key+`"`))
					var event *completionv1.CompletionEvent
					for err == nil && event.GetFinished() == nil {
						event, err = next()
					}
					if err != nil || event.GetFinished().GetFinishReason() != completionv1.Finished_CANCELLED {
						t.Errorf("%d: the reader got %v, %v", i, event, err)
					}
				})
				all.Go(func() {
					for {
						c, found, err := cancelKeyOn(ctx, p, client, i/2, key)
						if err != nil || found && c.GetState() != completionv1.Completion_CANCELLED {
							t.Errorf("%d: got %v, %v", i, c, err)
						}
						if err != nil || found {
							return
						}
					}
				})
			}
			all.Wait()
			e2etest.Eventually(t, "all connections upstream are closed", func() bool { return u.Open.Load() == 0 })
		})
	}
}

// TestCancelByKeyIsStrict checks that the body is read as strictly as that of a
// completion request.
func TestCancelByKeyIsStrict(t *testing.T) {
	for _, layout := range layouts {
		p := e2etest.Start(t, layout, nil, "--max-body=1KiB", "--echo-interval=0s")
		for _, tt := range []struct {
			name, body string
			header     []string
			status     int
			says       string
		}{
			{"nothing", ``, nil, 400, "empty"},
			{"no object", `"k"`, nil, 400, "JSON"},
			{"neither", `{}`, nil, 400, "idempotency_key"},
			{"both", `{"id":"cmpl_x","idempotencyKey":"k"}`, nil, 400, "not by both"},
			{"an unknown field", `{"key":"k"}`, nil, 400, "key"},
			{"a wrong type", `{"idempotencyKey":7}`, nil, 400, "idempotencyKey"},
			{"a second value", `{"idempotencyKey":"k"}{}`, nil, 400, "JSON"},
			{"garbage behind", `{"idempotencyKey":"k"} x`, nil, 400, "JSON"},
			{"cut", `{"idempotencyKey":"k"`, nil, 400, "breaks off"},
			{"too large", `{"idempotencyKey":"` + strings.Repeat("k", 2000) + `"}`, nil, 413, "1024"},
			{"a form", `idempotencyKey=k`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
			{"compressed", `{"idempotencyKey":"k"}`, []string{"Content-Encoding", "gzip"}, 415, "gzip"},
			{"another origin's page", `{"idempotencyKey":"k"}`, []string{"Sec-Fetch-Site", "cross-site"}, 403, "origins"},
			{"its own name", `{"idempotency_key":"k"}`, nil, 404, "COMPLETION_NOT_FOUND"},
			{"the id", `{"id":"cmpl_x"}`, nil, 404, "COMPLETION_NOT_FOUND"},
			{"JSON by name", `{"idempotencyKey":"k"}`, []string{"Content-Type", "application/json"}, 404, "COMPLETION_NOT_FOUND"},
		} {
			resp := p.Send(t.Context(), t, "POST", "/v1/completions:cancel", tt.body, tt.header...)
			reply, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(reply), tt.says) || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s, %s: got %s %s, %v; want %d with %q", layout, tt.name, resp.Status, reply, err, tt.status, tt.says)
			}
		}
	}
}
