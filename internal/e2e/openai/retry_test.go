package openai

import (
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// retryCase is a way in which a request of openai-node goes wrong, so that it asks again
// if it may.
type retryCase struct {
	name    string
	args    []string                          // of the program
	script  func(paid int64) http.HandlerFunc // of the upstream's call with this number, from 1
	cuts    int                               // so many connections are reset before a byte of the answer
	timeout time.Duration                     // of the client; default 30 s
	key     bool                              // the client sends a key, and a grace
	text    string                            // that it gets at last
	err     string                            // or the error
	again   bool                              // it asks more than once
	calls   int64                             // upstream
}

// always is the script of each call.
func always(h http.HandlerFunc) func(int64) http.HandlerFunc {
	return func(int64) http.HandlerFunc { return h }
}

// slow answers after a second and a half.
func slow(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(1500 * time.Millisecond):
	case <-r.Context().Done():
		return
	}
	e2etest.Say(w, "at last")
	e2etest.Chunk(w, `{}`, "stop")
}

var retryCases = []retryCase{
	{name: "500 of an upstream that was paid", script: always(e2etest.Refuse(500, "server_error")), err: "upstream_unavailable", calls: 1},
	{name: "reset of the upstream", script: always(e2etest.Reset), err: "upstream_unavailable", calls: 1},
	{name: "end of the upstream before a finish reason", script: always(e2etest.Text(e2etest.Abort)), err: "upstream_truncated", calls: 1},
	{name: "no first token", args: []string{"--first-token-timeout=100ms"}, script: always(e2etest.Silence), err: "first_token_timeout", calls: 1},
	{name: "refusal of our own key", script: always(e2etest.Refuse(401, "invalid_api_key")), err: "upstream_rejected", calls: 1},
	{name: "429, once", args: []string{"--upstream-retries=0"}, script: func(call int64) http.HandlerFunc {
		if call == 1 {
			return e2etest.Refuse(429, "rate_limit_exceeded", "Retry-After", "0")
		}
		return e2etest.Text(func(w http.ResponseWriter, _ *http.Request) { e2etest.Chunk(w, `{}`, "stop") })
	}, text: "some text", again: true, calls: 2}, // of which one was paid
	{name: "429, once, with a window", args: []string{"--upstream-retries=0", "--dedupe-window=10s"}, script: func(call int64) http.HandlerFunc {
		if call == 1 {
			return e2etest.Refuse(429, "rate_limit_exceeded", "Retry-After", "0")
		}
		return e2etest.Text(func(w http.ResponseWriter, _ *http.Request) { e2etest.Chunk(w, `{}`, "stop") })
	}, text: "some text", again: true, calls: 2},
	{name: "a client that waits too short, with a window", args: []string{"--dedupe-window=10s"}, script: always(slow), timeout: 700 * time.Millisecond, text: "at last", again: true, calls: 1},
	{name: "a client that waits too short, with a key", script: always(slow), timeout: 700 * time.Millisecond, key: true, text: "at last", again: true, calls: 1},
	{name: "resets before the answer, with a window", args: []string{"--dedupe-window=10s"}, script: always(slow), cuts: 2, text: "at last", again: true, calls: 1},
	{name: "resets before the answer, with a key", script: always(slow), cuts: 2, key: true, text: "at last", again: true, calls: 1},
}

// TestRetries counts the calls upstream for one request of openai-node's, whose retries
// are on: what was paid for is never called for again.
func TestRetries(t *testing.T) {
	node, _ := e2etest.NodeWith(t, programs)
	for _, c := range retryCases {
		for _, stream := range []bool{false, true} {
			name := c.name + "/whole"
			if stream {
				name = c.name + "/streamed"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var call atomic.Int64
				u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) { c.script(call.Add(1))(w, r) })
				p := e2etest.Start(t, "two processes", u.Env(), c.args...)
				proxy := e2etest.NewCuttingProxy(t, p.HTTP, func(n int) *e2etest.Cut {
					if n < c.cuts {
						return &e2etest.Cut{How: e2etest.SendReset}
					}
					return nil
				})
				request := map[string]any{"url": proxy.URL + "/openai/v1", "model": "m", "stream": stream, "timeout": 30_000}
				if c.timeout > 0 {
					request["timeout"] = c.timeout.Milliseconds()
				}
				if c.key {
					request["key"] = "a key"
				}
				asked, err := json.Marshal(request)
				if err != nil {
					t.Fatal(err)
				}
				var got struct {
					Text, Error string
					Asked       int
				}
				runOpenAINode(t, node, &got, "retry.js", string(asked))
				if got.Error != c.err || c.err == "" && got.Text != c.text || (got.Asked > 1) != c.again {
					t.Errorf("got %+v", got)
				}
				if calls := u.Calls.Load(); calls != c.calls {
					t.Errorf("%d calls upstream, want %d", calls, c.calls)
				}
			})
		}
	}
}
