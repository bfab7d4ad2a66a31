package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// lives are the ways for a completion to go. Each returns its id and how it
// ended, as its caller saw it.
var lives = []struct {
	model string // what the upstream is told to do
	end   string
	live  func(ctx context.Context, p *e2etest.Program, c completionv1.CompletionServiceClient, i int, request string) (id, end string, err error)
}{
	{"finishes", "finished", readAll},
	{"breaks", "UPSTREAM_TRUNCATED", readAll},
	{"fails", "UPSTREAM_UNAVAILABLE", readAll},
	{"goes on", "left", readAndLeave},
	{"goes on", "CANCELLED", readAndCancel},
}

// answerLives is the upstream of these lives.
func answerLives(w http.ResponseWriter, r *http.Request) {
	model := e2etest.ModelOf(r)
	if model == "fails" {
		e2etest.Refuse(500, "server_error")(w, r)
		return
	}
	e2etest.Chunk(w, `{"content":"token"}`, "null")
	switch model {
	case "finishes":
		e2etest.Chunk(w, `{"content":"."}`, "stop")
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	case "breaks":
		e2etest.Abort(w, r)
	default:
		e2etest.Silence(w, r)
	}
}

func readAll(ctx context.Context, p *e2etest.Program, _ completionv1.CompletionServiceClient, i int, request string) (id, end string, err error) {
	a, err := faces[i%len(faces)].ask(ctx, p, request)
	switch {
	case err != nil:
		return "", "", err
	case a.status != nil:
		return a.id, reason(a.status), nil
	case a.text != "token.":
		return a.id, a.text, nil
	}
	return a.id, "finished", nil
}

func readAndLeave(ctx context.Context, p *e2etest.Program, c completionv1.CompletionServiceClient, i int, request string) (id, end string, err error) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	id, next, err := openOn(ctx, p, c, i, request)
	for err == nil {
		var event *completionv1.CompletionEvent
		if event, err = next(); event.GetDelta() != nil {
			return id, "left", nil
		}
	}
	return id, "", err
}

func readAndCancel(ctx context.Context, p *e2etest.Program, c completionv1.CompletionServiceClient, i int, request string) (id, end string, err error) {
	ctx, done := context.WithCancel(ctx)
	defer done()
	id, next, err := openOn(ctx, p, c, i, request)
	for err == nil {
		var event *completionv1.CompletionEvent
		event, err = next()
		switch {
		case event.GetDelta() != nil:
			err = cancelOn(ctx, p, c, i, id)
		case event.GetFinished() != nil:
			return id, event.GetFinished().GetFinishReason().String(), nil
		}
	}
	return id, "", err
}

// openOn opens a stream: the even ones over HTTP, the odd ones over gRPC.
func openOn(ctx context.Context, p *e2etest.Program, c completionv1.CompletionServiceClient, i int, request string) (id string, next func() (*completionv1.CompletionEvent, error), err error) {
	if i%2 == 1 {
		req := &completionv1.CompletionRequest{}
		if err := protojson.Unmarshal([]byte(request), req); err != nil {
			return "", nil, err
		}
		stream, err := c.StreamCompletion(ctx, req)
		if err != nil {
			return "", nil, err
		}
		header, err := stream.Header()
		return strings.Join(header.Get("completion-id"), ","), stream.Recv, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", p.HTTP+"/v1/completions", strings.NewReader(request))
	if err != nil {
		return "", nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", nil, err
	}
	context.AfterFunc(ctx, func() { _ = resp.Body.Close() })
	r := sse.NewReader(resp.Body, 1<<20)
	return strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/"), func() (*completionv1.CompletionEvent, error) {
		m, err := r.Next()
		if err != nil {
			return nil, err
		}
		event := &completionv1.CompletionEvent{}
		return event, protojson.Unmarshal([]byte(m.Data), event)
	}, nil
}

func cancelOn(ctx context.Context, p *e2etest.Program, c completionv1.CompletionServiceClient, i int, id string) error {
	if i%2 == 1 {
		_, err := c.CancelCompletion(ctx, &completionv1.CancelCompletionRequest{Id: id})
		return err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", p.HTTP+"/v1/completions/"+id+":cancel", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("the answer is %s", resp.Status)
	}
	_ = resp.Body.Close()
	return err
}

// TestNothingIsLeft checks that completions, however they went, leave behind no
// goroutine, no connection (each has a goroutine) and no journal entry.
func TestNothingIsLeft(t *testing.T) {
	const (
		atOnce = 50
		slack  = 5 // goroutines: of the runtime, of timers that fire
	)
	completions := 1000
	if underRace {
		completions = 200
	}
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, answerLives)
			p := e2etest.Start(t, layout, u.Env(), "--retention=1s")
			client := p.Client(t)
			// The connections that stay are opened before anything is counted.
			if _, err := client.ListModels(t.Context(), &completionv1.ListModelsRequest{}); err != nil {
				t.Fatal(err)
			}
			if status := e2etest.StatusOf(t, p.HTTP+"/v1/models"); status != 200 {
				t.Fatalf("/v1/models: %d", status)
			}
			letGo := func() { http.DefaultClient.CloseIdleConnections(); u.CloseClientConnections() }
			letGo()
			baseline := settled()

			ids := liveThrough(t, p, client, completions, atOnce)
			if len(ids) != completions {
				t.Errorf("%d completions have %d ids", completions, len(ids))
			}
			e2etest.Eventually(t, "no completion is under way upstream", func() bool { return u.Open.Load() == 0 })
			letGo()
			if after := settled(); after > baseline+slack {
				_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
				t.Errorf("%d goroutines before, %d after", baseline, after)
			}

			for id := range ids {
				e2etest.Eventually(t, id+" is forgotten", func() bool {
					_, err := client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
					return status.Code(err) == codes.NotFound
				})
			}
			for id := range ids {
				if got := e2etest.StatusOf(t, p.HTTP+"/v1/completions/"+id); got != 404 {
					t.Fatalf("%s: %d", id, got)
				}
			}
			for _, outcome := range []string{"finished", "upstream_truncated", "upstream_unavailable", "abandoned", "cancelled"} {
				if got := strings.Count(p.Log.String(), "outcome="+outcome); got != completions/len(lives) {
					t.Errorf("%d completions %s", got, outcome)
				}
			}
		})
	}
}

// settled returns the number of goroutines when it has not fallen for a while.
func settled() int {
	n := runtime.NumGoroutine()
	for since := time.Now(); time.Since(since) < 300*time.Millisecond; time.Sleep(time.Millisecond) {
		if now := runtime.NumGoroutine(); now < n {
			n, since = now, time.Now()
		}
	}
	return n
}

// liveThrough has n completions, some at once, and returns their ids.
func liveThrough(t *testing.T, p *e2etest.Program, client completionv1.CompletionServiceClient, n, atOnce int) map[string]bool {
	t.Helper()
	var mu sync.Mutex // guards ids
	ids := map[string]bool{}
	next := make(chan int)
	var done sync.WaitGroup
	for range atOnce {
		done.Go(func() {
			for i := range next {
				l := lives[i%len(lives)]
				id, end, err := l.live(t.Context(), p, client, i/len(lives), `{"model":"`+l.model+`","messages":[{"role":"user","content":"Hi"}]}`)
				if err != nil || end != l.end {
					t.Errorf("completion %d, which %s: got %s, %v; want %s", i, l.model, end, err, l.end)
				}
				mu.Lock()
				ids[id] = true
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	done.Wait()
	return ids
}
