package auth

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// TestBadIssuer has an issuer answer in every way but with its keys: those from before stay
// in force, it takes neither long nor much memory, and when the issuer is good again, so are
// its keys.
func TestBadIssuer(t *testing.T) {
	i := testbed.NewIssuer(t)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 {
		_, _ = z.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	z.Close()
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	var now atomic.Pointer[http.HandlerFunc]
	behave := func(h http.HandlerFunc) { now.Store(&h) }
	behave(i.ServeHTTP)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*now.Load())(w, r) }))
	t.Cleanup(s.Close)
	v, err := newVerifier(t.Context(), Tokens{testbed.IssuerURL, testbed.Audience, s.URL}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	<-v.keys.begin()
	token := i.Token("alice")
	good := string(i.JWKS())
	for name, h := range map[string]http.HandlerFunc{
		"304":                 status(304, ""),
		"204":                 status(204, ""),
		"206":                 status(206, good),
		"500 with keys":       status(500, good),
		"nothing":             status(200, ""),
		"half":                status(200, good[:len(good)/2]),
		"a page":              status(200, "<html>"),
		"something behind it": status(200, good+"{}"),
		"ten thousand keys":   status(200, `{"keys":[`+strings.Repeat(`{"kty":"new"},`, 10_000)+good[len(`{"keys":[`):]),
		"of deep nesting":     status(200, `{"keys":`+strings.Repeat("[", 100_000)),
		"a compressed bomb": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		},
		"endless": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		},
		"broken off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			_, _ = w.Write([]byte(good[:len(good)/2]))
			panic(http.ErrAbortHandler)
		},
		"a large header": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Large", strings.Repeat("x", 1<<20))
			_, _ = w.Write([]byte(good))
		},
	} {
		behave(h)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begun := time.Now()
		<-v.keys.begin()
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 32<<20 || time.Since(begun) > refreshTimeout {
			t.Errorf("%s: takes %d MiB and %v", name, took>>20, time.Since(begun))
		}
		if v.keys.trouble.now == "" {
			t.Errorf("%s: is taken for the keys", name)
		}
		if _, err := v.principal(t.Context(), token); err != nil {
			t.Errorf("%s: takes the keys away: %v", name, err)
		}
	}
	behave(i.ServeHTTP)
	i.RemoveKey("ES256")
	<-v.keys.begin()
	if _, err := v.principal(t.Context(), token); err == nil {
		t.Error("the issuer's keys are not read again")
	}
}

// TestTricklingIssuer checks that one who sends a byte now and then is not waited for.
func TestTricklingIssuer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte(" "))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(10 * time.Millisecond)
		}
	}))
	t.Cleanup(s.Close)
	ask, err := newURLSource(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx); err == nil || t.Context().Err() != nil {
		t.Errorf("got %v", err)
	}
}

// TestRedirects checks that who has been asked under TLS sends nobody on to where there is
// none: not to this machine, either, where any user may listen.
func TestRedirects(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"https://a.test/", "https://a.test/keys", true},
		{"https://a.test/", "https://b.test/keys", true},
		{"https://a.test/", "http://a.test/keys", false},
		{"https://a.test/", "http://127.0.0.1/keys", false},
		{"https://a.test/", "file:///etc/keys", false},
		{"http://127.0.0.1/", "http://localhost/keys", true},
		{"http://127.0.0.1/", "https://a.test/keys", true},
		{"http://127.0.0.1/", "http://a.test/keys", false},
	} {
		request := func(address string) *http.Request {
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			return &http.Request{URL: u}
		}
		if err := checkRedirect(request(tt.to), []*http.Request{request(tt.from)}); (err == nil) != tt.ok {
			t.Errorf("from %s to %s: %v", tt.from, tt.to, err)
		}
	}
}
