package openai

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// key has a slash, which may be escaped in JSON and in URLs.
const key = "sk-secret/key"

// patience is how long to wait for what must happen at once.
const patience = 10 * time.Second

// newEngine returns an engine that is closed with the test.
func newEngine(t testing.TB, cfg Config) *Engine {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// serve returns an engine whose upstream is handler, on a loopback port.
func serve(t testing.TB, handler http.HandlerFunc) *Engine {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	return newEngine(t, Config{BaseURL: srv.URL + "/v1", Key: key})
}

// chat returns a request to model m with one message.
func chat() *completionv1.CompletionRequest {
	return &completionv1.CompletionRequest{
		Model:    "m",
		Messages: []*completionv1.Message{{Role: "user", Content: proto.String("Hi")}},
	}
}

func ignore(*engine.Chunk) error { return nil }

// within fails the test unless done is closed soon.
func within(t testing.TB, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
}

// noLeak fails the test if there are more goroutines after its other cleanups than now.
func noLeak(t *testing.T) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		deadline := time.After(patience)
		for tick := time.Tick(time.Millisecond); runtime.NumGoroutine() > before; {
			select {
			case <-tick:
			case <-deadline:
				stacks := make([]byte, 1<<20)
				t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
}

// generate calls emit for each chunk of a completion, until its end or an error of emit. It
// only lets Next wait when there is no chunk.
func generate(ctx context.Context, e *Engine, req *completionv1.CompletionRequest, emit func(*engine.Chunk) error) error {
	s := e.Generate(ctx, req)
	defer s.Close()
	for {
		c, err := s.Next(false)
		if c == nil && err == nil {
			c, err = s.Next(true)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := emit(c); err != nil {
			return err
		}
	}
}
