package openai

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/sluice-sse/sluice/server/engine"
)

var errGone = errors.New("nobody reads any more")

const chunkLine = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n"

// flush writes and flushes.
func flush(w http.ResponseWriter, s string) {
	io.WriteString(w, s)
	w.(http.Flusher).Flush()
}

// TestCancel checks that the connection is closed when the context is done, at any point
// of the generation, and that no goroutine is left.
func TestCancel(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before func(w http.ResponseWriter) // what the upstream does before it falls silent
		chunks int
	}{
		{"before the headers", func(http.ResponseWriter) {}, 0},
		{"before the first chunk", func(w http.ResponseWriter) { flush(w, "") }, 0},
		{"after comments", func(w http.ResponseWriter) { flush(w, ": wait\n\n: wait\n") }, 0},
		{"within a chunk", func(w http.ResponseWriter) { flush(w, chunkLine+chunkLine[:20]) }, 1},
		{"in the middle", func(w http.ResponseWriter) { flush(w, chunkLine+chunkLine) }, 2},
		{"within an error", func(w http.ResponseWriter) { w.WriteHeader(500); flush(w, "{") }, 0},
		{"within JSON", func(w http.ResponseWriter) { flush(w, "{") }, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			noLeak(t)
			silent, gone := make(chan struct{}), make(chan struct{})
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				tc.before(w)
				close(silent)
				<-r.Context().Done()
				close(gone)
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			emitted := make(chan struct{}, 10)
			done := make(chan struct{})
			var err error
			go func() {
				defer close(done)
				err = generate(ctx, e, chat(), func(*engine.Chunk) error { emitted <- struct{}{}; return nil })
			}()
			within(t, silent, "the upstream gets the request")
			for range tc.chunks {
				<-emitted
			}
			cancel(errGone)
			within(t, done, "Generate returns")
			within(t, gone, "the upstream notices")
			if err != errGone {
				t.Errorf("got %v, want the cause of the context", err)
			}
			if len(emitted) > 0 {
				t.Errorf("%d chunks too many", len(emitted))
			}
		})
	}
}

// TestCancelledBefore checks that nothing is sent if the context is done at the start.
func TestCancelledBefore(t *testing.T) {
	e := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("it was sent") })
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGone)
	if err := generate(ctx, e, chat(), ignore); err != errGone {
		t.Errorf("got %v, want the cause of the context", err)
	}
}

// TestCancelledBetweenChunks checks that no more chunks are returned, even if they have been
// read.
func TestCancelledBetweenChunks(t *testing.T) {
	e := serve(t, func(w http.ResponseWriter, _ *http.Request) { flush(w, chunkLine+chunkLine+chunkLine) })
	ctx, cancel := context.WithCancelCause(t.Context())
	chunks := 0
	err := generate(ctx, e, chat(), func(*engine.Chunk) error { chunks++; cancel(errGone); return nil })
	if err != errGone || chunks != 1 {
		t.Errorf("got %v after %d chunks, want the cause of the context after 1", err, chunks)
	}
}

// TestCloseEarly checks that closing a stream in the middle closes the connection.
func TestCloseEarly(t *testing.T) {
	noLeak(t)
	gone := make(chan struct{})
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		flush(w, chunkLine)
		<-r.Context().Done()
		close(gone)
	})
	if err := generate(t.Context(), e, chat(), func(*engine.Chunk) error { return errGone }); err != errGone {
		t.Errorf("got %v", err)
	}
	within(t, gone, "the upstream notices")
}

// TestReuse checks that several generations use one connection, even if the context of
// each ends as soon as it has its answer.
func TestReuse(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(w http.ResponseWriter, cancelled <-chan struct{})
		fails  bool
	}{
		{"all at once", func(w http.ResponseWriter, _ <-chan struct{}) { io.WriteString(w, chunkLine+"data: [DONE]\n\n") }, false},
		{"the end comes later", func(w http.ResponseWriter, cancelled <-chan struct{}) {
			flush(w, chunkLine+"data: [DONE]\n\n")
			<-cancelled
			flush(w, ": bye\n\n")
		}, false},
		{"no [DONE]", func(w http.ResponseWriter, _ <-chan struct{}) { flush(w, chunkLine) }, false},
		{"an error", func(w http.ResponseWriter, _ <-chan struct{}) { http.Error(w, "no", 500) }, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var mu sync.Mutex // guards connections
			connections := 0
			cancelled := make(chan struct{}, 5)
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				tc.answer(w, cancelled)
			}))
			srv.Config.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					mu.Lock()
					connections++
					mu.Unlock()
				}
			}
			srv.Start()
			t.Cleanup(srv.Close)
			e := newEngine(t, Config{BaseURL: srv.URL})
			for range 5 {
				ctx, cancel := context.WithCancel(t.Context())
				if err := generate(ctx, e, chat(), ignore); (err != nil) != tc.fails {
					t.Fatal(err)
				}
				cancel()
				cancelled <- struct{}{}
				e.drains.Wait()
			}
			mu.Lock()
			defer mu.Unlock()
			if connections != 1 {
				t.Errorf("%d connections for 5 generations, want 1", connections)
			}
		})
	}
}

// TestStaysOpenAfterDone checks that nobody waits for an upstream that does not end its
// answer after [DONE], and that its connection is closed.
func TestStaysOpenAfterDone(t *testing.T) {
	for name, more := range map[string]bool{"silent": false, "talking": true} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			gone := make(chan struct{})
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				defer close(gone)
				io.Copy(io.Discard, r.Body)
				flush(w, "data: [DONE]\n\n")
				for more && r.Context().Err() == nil {
					flush(w, ": and another thing\n")
				}
				<-r.Context().Done()
			})
			if err := generate(t.Context(), e, chat(), ignore); err != nil {
				t.Fatal(err)
			}
			select {
			case <-gone:
				t.Error("Generate waited for the end of the answer")
			default:
			}
			e.Close()
			within(t, gone, "the upstream loses its connection")
		})
	}
}

// TestTLS checks a generation over HTTP/2, and its cancelling.
func TestTLS(t *testing.T) {
	gone := make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("got %s, want HTTP/2", r.Proto)
		}
		body, _ := io.ReadAll(r.Body)
		flush(w, chunkLine)
		if len(body) > 0 && r.URL.Path == "/stay/chat/completions" {
			<-r.Context().Done()
			close(gone)
			return
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	trust := func(e *Engine) *Engine {
		e.transport.(*http.Transport).TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		return e
	}
	if err := generate(t.Context(), trust(newEngine(t, Config{BaseURL: srv.URL})), chat(), ignore); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stay := trust(newEngine(t, Config{BaseURL: srv.URL + "/stay"}))
	if err := generate(ctx, stay, chat(), func(*engine.Chunk) error { cancel(errGone); return nil }); err != errGone {
		t.Errorf("got %v, want the cause of the context", err)
	}
	within(t, gone, "the upstream notices")
}

// TestConcurrent is for the race detector.
func TestConcurrent(t *testing.T) {
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		flush(w, chunkLine)
		flush(w, chunkLine+"data: [DONE]\n\n")
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			chunks := 0
			err := generate(t.Context(), e, chat(), func(c *engine.Chunk) error {
				if c.Delta.GetText() == "a" {
					chunks++
				}
				return nil
			})
			if err != nil || chunks != 2 {
				t.Errorf("got %v after %d chunks", err, chunks)
			}
		})
	}
	wg.Wait()
}

// TestEndlessError checks that an error is not read without a limit.
func TestEndlessError(t *testing.T) {
	gone := make(chan struct{})
	e := serve(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(gone)
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(500)
		for r.Context().Err() == nil {
			flush(w, "and another thing\n")
		}
	})
	if err := generate(t.Context(), e, chat(), ignore); err == nil {
		t.Error("no error")
	}
	within(t, gone, "the upstream loses its connection")
}
