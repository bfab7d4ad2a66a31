package bridge_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-sse/sluice/bridge"
)

const responsesPath = "/openai/v1/responses"

// A response that there is no room for is never one that seems complete: who reads it is told,
// in the stream or by the status. While there is no room, none is begun, and then again.
func TestResponseMemory(t *testing.T) {
	onBoth(t, "of a long response", func(t *testing.T, kind string) {
		var calls atomic.Int64
		said, goOn := make(chan struct{}, 1), make(chan struct{}, 1)
		pieces := 0
		b := newBridgeOn(t, kind, func(s eventStream) error {
			calls.Add(1)
			err := errors.Join(named(s, "cmpl_x"), created(s))
			for n := range pieces {
				err = errors.Join(err, delta(s, int32(n+2), strings.Repeat("x", 32<<10)))
			}
			if pieces == 5 {
				said <- struct{}{}
				<-goOn
			}
			return errors.Join(err, finished(s, int32(pieces+2)))
		}, bridge.Config{ResponseMemory: 128 << 10})
		s := serveBridge(t, b)
		ask := func(method, path, body string) (*http.Response, string) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			all, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Errorf("%s %s: it is cut: %v", method, path, err)
			}
			return resp, string(all)
		}
		refused := func(resp *http.Response, body, retry string) {
			t.Helper()
			if h := resp.Header; resp.StatusCode != 429 || h.Get("Retry-After") != "1" || h.Get("X-Should-Retry") != retry || !strings.Contains(body, `"code":"overloaded"`) {
				t.Errorf("got %s %v %.300s", resp.Status, h, body)
			}
		}
		const stream, whole = `{"input":"x","stream":true}`, `{"input":"x"}`

		pieces = 12
		resp, body := ask("POST", responsesPath, stream)
		if end := body[strings.LastIndex(body, "event: "):]; resp.StatusCode != 200 || !strings.HasPrefix(end, "event: error\n") || !strings.Contains(end, `"code":"overloaded"`) {
			t.Errorf("got %s, in the end %.300s", resp.Status, end)
		}
		resp, body = ask("GET", responsesPath+"/resp_x?stream=true&starting_after=1000", "")
		refused(resp, body, "true")
		resp, body = ask("POST", responsesPath, whole)
		refused(resp, body, "false") // the upstream is paid: read it by its id
		if resp.Header.Get("Location") != "/v1/completions/cmpl_x" {
			t.Errorf("got %v", resp.Header)
		}

		pieces = 5
		done := make(chan string)
		go func() {
			_, body := ask("POST", responsesPath, stream)
			done <- body
		}()
		<-said
		before := calls.Load()
		for _, body := range []string{stream, whole} {
			resp, body := ask("POST", responsesPath, body)
			refused(resp, body, "true")
		}
		if calls.Load() != before {
			t.Error("the server was called")
		}
		goOn <- struct{}{}
		if body := <-done; !strings.Contains(body, "event: response.completed\n") || strings.Count(body, strings.Repeat("x", 5*32<<10)) != 4 {
			t.Errorf("got %d bytes", len(body))
		}
		pieces = 2
		if resp, body := ask("POST", responsesPath, whole); resp.StatusCode != 200 || strings.Count(body, strings.Repeat("x", 2*32<<10)) != 1 {
			t.Errorf("got %s %.300s", resp.Status, body)
		}
	})
}
