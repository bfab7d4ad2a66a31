package openai

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/failure"
)

// busy refuses, and says when to come back if that is not "".
func busy(status int, milliseconds string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if milliseconds != "" {
			w.Header().Set("Retry-After-Ms", milliseconds)
		}
		w.WriteHeader(status)
	}
}

func answer(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}`+"\n\n")
}

func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// TestRetry has an upstream that answers in turn in different ways, and checks which of
// its refusals are tried again.
func TestRetry(t *testing.T) {
	limited := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `data: {"error":{"message":"try again in 20ms","code":"rate_limit_exceeded"}}`+"\n\n")
	}
	const none failure.Reason = 0
	for _, tc := range []struct {
		name    string
		retries int
		answers []http.HandlerFunc // of which the last one is for all that follow
		calls   int64
		tried   failure.Reason // what it would have failed with
		failure failure.Reason
	}{
		{"429", 1, []http.HandlerFunc{busy(429, "20"), answer}, 2, failure.UpstreamRateLimited, none},
		{"503", 1, []http.HandlerFunc{busy(503, "20"), answer}, 2, failure.UpstreamUnavailable, none},
		{"not more often than it may", 2, []http.HandlerFunc{busy(429, "20")}, 3, failure.UpstreamRateLimited, failure.UpstreamRateLimited},
		{"not if it may not", 0, []http.HandlerFunc{busy(429, "20"), answer}, 1, none, failure.UpstreamRateLimited},
		{"not without a time", 1, []http.HandlerFunc{busy(429, ""), answer}, 1, none, failure.UpstreamRateLimited},
		{"not after a long time", 1, []http.HandlerFunc{busy(503, "60000"), answer}, 1, none, failure.UpstreamUnavailable},
		{"not what has failed within", 1, []http.HandlerFunc{busy(500, "20"), answer}, 1, none, failure.UpstreamUnavailable},
		{"not what may be generated", 1, []http.HandlerFunc{cut, answer}, 1, none, failure.UpstreamUnavailable},
		{"not what was begun", 1, []http.HandlerFunc{limited, answer}, 1, none, failure.UpstreamRateLimited},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var calls atomic.Int64
			var tried []failure.Reason
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				n := min(int(calls.Add(1)), len(tc.answers))
				tc.answers[n-1](w, r)
			}))
			defer srv.Close()
			e := newEngine(t, Config{BaseURL: srv.URL, Retries: tc.retries, OnRetry: func(r failure.Reason) { tried = append(tried, r) }})
			err := generate(t.Context(), e, chat(), ignore)
			var failed *failure.Error
			if errors.As(err, &failed) != (tc.failure != none) || failed != nil && failed.Reason != tc.failure {
				t.Errorf("got %v, want %v", err, tc.failure)
			}
			want := slices.Repeat([]failure.Reason{tc.tried}, int(tc.calls-1))
			if calls.Load() != tc.calls || !slices.Equal(tried, want) {
				t.Errorf("%d calls, tried again for %v; want %d, %v", calls.Load(), tried, tc.calls, want)
			}
		})
	}
}

// A server that is started again refuses connections for a moment.
func TestRetryRefusedConnection(t *testing.T) {
	for _, scheme := range []string{"http", "https"} { // which have transports of their own
		t.Run(scheme, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			srv := httptest.NewUnstartedServer(http.HandlerFunc(answer))
			srv.Listener.Close()
			defer srv.Close()
			e := newEngine(t, Config{BaseURL: scheme + "://" + l.Addr().String(), Retries: 1, OnRetry: func(failure.Reason) {
				if srv.Listener, err = net.Listen("tcp", l.Addr().String()); err != nil {
					t.Error(err)
				}
				if scheme == "https" {
					srv.StartTLS()
				} else {
					srv.Start()
				}
			}})
			if secure, ok := e.transport.(*http.Transport); ok {
				secure.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // a certificate of the test's
			}
			if err := generate(t.Context(), e, chat(), ignore); err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Nobody waits for an upstream on behalf of a caller who has left.
func TestRetryCancelled(t *testing.T) {
	e := serve(t, busy(429, "3900"))
	e.config.Retries, e.config.OnRetry = 1, func(failure.Reason) { t.Error("it was tried again") }
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(errGone) })
	if err := generate(ctx, e, chat(), ignore); err != errGone {
		t.Errorf("got %v, want the cause of the context", err)
	}
}

// TestRetryWaits checks how long a completion waits: as long as it is asked to and a
// little longer, and never longer in all than the budget.
func TestRetryWaits(t *testing.T) {
	asks := func(seconds string) error {
		return &upstreamError{status: 429, header: http.Header{"Retry-After": {seconds}}}
	}
	refused := &transportError{&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	for range 100 {
		r := (&Engine{config: Config{Retries: 10}}).newRetrier()
		_, wait := r.next(asks("2"))
		if wait < 2*time.Second || wait > 2500*time.Millisecond {
			t.Fatalf("asked for 2s, waits %v", wait)
		}
		r.budget -= wait
		if _, wait := r.next(asks("2")); wait != 0 {
			t.Fatalf("waits %v beyond the budget", wait)
		}
		if _, wait := r.next(asks("1.5")); wait < 1500*time.Millisecond || wait > r.budget {
			t.Fatalf("asked for 1.5s, waits %v", wait)
		}
		_, first := r.next(refused)
		if _, second := r.next(refused); first < refusedPause || second < 2*refusedPause || second > 2*refusedPause*5/4+1 {
			t.Fatalf("refused, waits %v and %v", first, second)
		}
		var all time.Duration
		for range 10 {
			_, wait := r.next(refused)
			r.budget -= wait
			all += wait
		}
		if all > retryBudget {
			t.Fatalf("waits %v in all", all)
		}
	}
}
