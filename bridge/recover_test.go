package bridge

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/inproc"
)

// TestPanic checks that a handler which panics before it answers is answered for, in the
// words of each API, and that what is no fault goes on to net/http.
func TestPanic(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/completions":             `"status":"INTERNAL"`,
		"/openai/v1/chat/completions": `"code":"upstream_rejected"`,
	} {
		for _, cause := range []any{"a fault", http.ErrAbortHandler} {
			var log strings.Builder
			b, err := New(&inproc.Conn{}, Config{
				Log:         slog.New(slog.NewTextHandler(&log, nil)),
				DecodeLimit: func(context.Context, int) (func(), error) { panic(cause) },
			})
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			var passed any
			func() {
				defer func() { passed = recover() }()
				b.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(`{"messages":[{"role":"user","content":"x"}]}`)))
			}()
			if cause == http.ErrAbortHandler {
				if passed != cause || log.Len() > 0 {
					t.Errorf("%s: %v became %v; the log says %s", path, cause, passed, &log)
				}
				continue
			}
			if passed != nil || w.Code != 500 || !strings.Contains(w.Body.String(), want) || !strings.Contains(log.String(), "recover_test.go") {
				t.Errorf("%s: got %d, %s, and a panic %v; the log says %s", path, w.Code, w.Body, passed, &log)
			}
		}
	}
}
