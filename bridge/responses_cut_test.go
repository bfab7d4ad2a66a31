package bridge_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge"
)

// Whoever reads a response, in whichever way, and leaves in the middle of it: what was kept is
// given back, so that there is room for as much as at first.
func TestResponseMemoryIsGivenBack(t *testing.T) {
	onBoth(t, "many", func(t *testing.T, kind string) {
		piece := strings.Repeat("x", 32<<10)
		const pieces = 12 // which take all of the memory
		s := serveBridge(t, newBridgeOn(t, kind, func(s eventStream) error {
			err := errors.Join(s.SendHeader(metadata.Pairs("completion-id", "cmpl_x", "last-sequence", "14")), created(s))
			for n := range int32(pieces) {
				if n == 6 && rand.IntN(4) == 0 {
					time.Sleep(time.Millisecond)
				}
				if err := delta(s, n+2, piece); err != nil {
					return err
				}
			}
			return errors.Join(err, finished(s, pieces+2))
		}, bridge.Config{ResponseMemory: 384 << 10}))
		ask := func(ctx context.Context, method, path, body string) (*http.Response, error) {
			req, err := http.NewRequestWithContext(ctx, method, "http://"+s.addr+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			return http.DefaultClient.Do(req)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 60 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(20))*time.Millisecond)
					var resp *http.Response
					var err error
					switch rand.IntN(5) {
					case 0:
						resp, err = ask(ctx, "POST", responsesPath, `{"input":"x"}`)
					case 1:
						resp, err = ask(ctx, "POST", responsesPath, `{"input":"x","stream":true}`)
					case 2:
						resp, err = ask(ctx, "GET", responsesPath+"/resp_x", "")
					case 3:
						resp, err = ask(ctx, "GET", responsesPath+"/resp_x?stream=true&starting_after=5", "")
					case 4:
						resp, err = ask(ctx, "POST", responsesPath, `{"input":[{"type":"item_reference","id":"msg_x_0"}]}`)
					}
					if err == nil {
						_, _ = io.CopyN(io.Discard, resp.Body, rand.Int64N(1<<20))
						resp.Body.Close()
					}
					cancel()
				}
			})
		}
		all.Wait()
		for n := 0; ; n++ {
			resp, err := ask(t.Context(), "POST", responsesPath, `{"input":"x"}`)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil && resp.StatusCode == 200 && strings.Contains(string(body), strings.Repeat(piece, pieces)) {
				break
			}
			if n == 200 { // the last ones may still be on their way out
				t.Fatalf("got %s %.300s, %v", resp.Status, body, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}
