package openai

import (
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/server/failure"
)

// TestConnect checks the errors of requests that get no response.
func TestConnect(t *testing.T) {
	// listen calls serve for each connection.
	listen := func(t *testing.T, serve func(net.Conn)) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { c.Close() })
				serve(c)
			}
		}()
		return l.Addr().String()
	}
	for _, tc := range []struct {
		name   string
		config func(t *testing.T) Config
		want   failure.Reason
	}{
		{"refused", func(t *testing.T) Config {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			return Config{BaseURL: "http://" + l.Addr().String()}
		}, failure.UpstreamUnavailable},
		{"closed without a word", func(t *testing.T) Config {
			return Config{BaseURL: "http://" + listen(t, func(c net.Conn) { c.Close() })}
		}, failure.UpstreamUnavailable},
		{"not HTTP", func(t *testing.T) Config {
			return Config{BaseURL: "http://" + listen(t, func(c net.Conn) { c.Write([]byte("SSH-2.0-x\r\n")) })}
		}, failure.UpstreamUnavailable},
		{"not TLS", func(t *testing.T) Config {
			return Config{BaseURL: "https://" + listen(t, func(c net.Conn) { c.Write([]byte("HTTP/1.1 400\r\n\r\n")) })}
		}, failure.UpstreamUnavailable},
		{"an unknown name", func(t *testing.T) Config { return Config{BaseURL: "http://sluice.invalid"} }, failure.UpstreamUnavailable},
		{"dialling takes too long", func(t *testing.T) Config {
			return Config{BaseURL: "http://" + listen(t, func(net.Conn) {}), ConnectTimeout: 1}
		}, failure.ConnectTimeout},
		{"the TLS handshake takes too long", func(t *testing.T) Config {
			return Config{BaseURL: "https://" + listen(t, func(net.Conn) {}), ConnectTimeout: 50 * time.Millisecond}
		}, failure.ConnectTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := tc.config(t)
			cfg.Key = key
			e := newEngine(t, cfg)
			_, modelsErr := e.Models(t.Context())
			for _, err := range []error{generate(t.Context(), e, chat(), ignore), modelsErr} {
				var failed *failure.Error
				if !errors.As(err, &failed) || failed.Reason != tc.want {
					t.Fatalf("got %v, want %s", err, tc.want)
				}
				if failed.Unwrap() == nil {
					t.Error("no cause for the log")
				}
				if host := strings.TrimPrefix(cfg.BaseURL, "http://"); strings.Contains(failed.Message, host) {
					t.Errorf("callers see the address: %s", failed.Message)
				}
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		seconds, millis string
		want            time.Duration
	}{
		{"", "", 0},
		{"20", "", 20 * time.Second},
		{"0.5", "", 500 * time.Millisecond},
		{"20", "1500", 1500 * time.Millisecond},
		{"20", "soon", 20 * time.Second},
		{"0", "", 0},
		{"-1", "", 0},
		{"NaN", "", 0},
		{"Inf", "", time.Hour},
		{"1e300", "", time.Hour},
		{"3601", "", time.Hour},
		{"soon", "", 0},
		{"Sun, 01 Mar 2026 12:00:30 GMT", "", 30 * time.Second},
		{"Sun, 01 Mar 2026 11:00:00 GMT", "", 0},
		{"Sun, 01 Mar 2099 12:00:00 GMT", "", time.Hour},
	} {
		h := http.Header{}
		if tc.seconds != "" {
			h.Set("Retry-After", tc.seconds)
		}
		if tc.millis != "" {
			h.Set("Retry-After-Ms", tc.millis)
		}
		if got := parseRetryAfter(h, now); got != tc.want {
			t.Errorf("Retry-After %q, Retry-After-Ms %q: got %v, want %v", tc.seconds, tc.millis, got, tc.want)
		}
	}
}

// TestCause checks that the key is removed before a text is cut to its maximum length, and
// that no other error is wrapped.
func TestCause(t *testing.T) {
	e := newEngine(t, Config{BaseURL: "http://localhost", Key: key})
	for _, form := range []string{key, "sk-secret%2Fkey", `sk-secret\/key`} {
		for _, before := range []int{0, maxCause - 5, maxErrorBody} {
			err := e.logCause(strings.Repeat("x", before) + form + strings.Repeat("y", 100))
			if strings.Contains(err.Error(), "secr") || len(err.Error()) > maxCause+10 {
				t.Errorf("%s after %d bytes: got %d bytes: …%s", form, before, len(err.Error()), err.Error()[max(0, len(err.Error())-50):])
			}
			if errors.Unwrap(err) != nil {
				t.Error("it wraps an error")
			}
		}
	}
	keyless := newEngine(t, Config{BaseURL: "http://localhost"})
	if got := keyless.logCause("as it is").Error(); got != "as it is" {
		t.Errorf("got %q", got)
	}
}

// The extra of a request may be large, and most phrases name no parameter to look for in it.
func TestNoParameterIsNotLookedFor(t *testing.T) {
	info := requestInfo{model: "m", input: "messages", extraJSON: `{"top_k":1}`}
	if got := info.fieldOf("top_k"); got != "extra.top_k" {
		t.Errorf("got %q", got)
	}
	for _, path := range []string{"", ".top_k", "[0]"} {
		if n := testing.AllocsPerRun(100, func() { _ = info.fieldOf(path) }); info.fieldOf(path) != "" || n > 4 {
			t.Errorf("%q: got %q, in %v allocations", path, info.fieldOf(path), n)
		}
	}
}
