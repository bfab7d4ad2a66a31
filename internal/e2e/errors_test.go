package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// The upstream of these tests says everything that no caller may learn, and the
// request something that the log may not.
const (
	key      = "sk-secret-of-the-tests"
	rawWords = "raw words of the upstream"
	internal = "upstream.internal"
	asked    = "what nobody else may read"
	question = `{"model":"m","messages":[{"role":"user","content":"` + asked + `"}]}`
)

// refuse answers with a status and an error in OpenAI's shape.
func refuse(code int, errorCode string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, errorObject(errorCode))
	}
}

func errorObject(code string) string {
	return fmt.Sprintf(`{"error":{"message":"%s: %s at http://%s/v1","type":"t","code":%q}}`, rawWords, key, internal, code)
}

// refuseInWords answers with a status and a body, in which %s stands for all that no caller
// may learn.
func refuseInWords(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, body, rawWords+": "+key+" at http://"+internal+"/v1")
	}
}

// body answers 200 with an event stream that is just this.
func body(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, s)
	}
}

// text streams some text, and then does what follows.
func text(then http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		chunk(w, `{"role":"assistant","content":""}`, "null")
		chunk(w, `{"content":"some text"}`, "null")
		then(w, r)
	}
}

// comments keeps the connection busy and says nothing.
func comments(w http.ResponseWriter, r *http.Request) {
	for r.Context().Err() == nil {
		_, _ = io.WriteString(w, ": keep-alive\n\n")
		w.(http.Flusher).Flush()
		time.Sleep(time.Millisecond)
	}
}

func silence(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func abort(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// reset resets the connection.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// closedPort is an address where nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return l.Addr().String()
}

// deafPort is an address that takes connections and answers none.
func deafPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// failures are the ways in which an upstream fails, and what callers learn.
var failures = []struct {
	name   string
	args   []string
	script http.HandlerFunc        // nil: there is only
	url    func(testing.TB) string // where the upstream is said to be
	events int                     // before the failure; -1: some
	reason string
	code   codes.Code
	http   int
	retry  time.Duration
	field  string // that is said to be wrong
}{
	{name: "400", script: refuse(400, "odd"),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "400 as the context is too long", script: refuse(400, "context_length_exceeded"),
		reason: "CONTEXT_LENGTH_EXCEEDED", code: codes.InvalidArgument, http: 400},
	{name: "401", script: refuse(401, "invalid_api_key"),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "403", script: refuse(403, "forbidden"),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "404 for the model", script: refuse(404, "model_not_found"),
		reason: "MODEL_NOT_FOUND", code: codes.NotFound, http: 404},
	{name: "404 page", script: func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>"+rawWords+" "+key+" "+internal, http.StatusNotFound)
	}, reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "307", script: refuse(307, "", "Location", "/v1/elsewhere"),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "408", script: refuse(408, "timeout"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "429", script: refuse(429, "rate_limit_exceeded"),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: time.Second},
	{name: "429 with Retry-After", script: refuse(429, "rate_limit_exceeded", "Retry-After", "7"),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: 7 * time.Second},
	{name: "400 for a parameter", script: refuseInWords(400, `{"error":{"message":"%s","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}`),
		reason: "INVALID_REQUEST", code: codes.InvalidArgument, http: 400, field: "temperature"},
	{name: "422 for a parameter", script: refuseInWords(422, `{"detail":[{"type":"extra_forbidden","loc":["body","messages",0,"user","name"],"msg":"%s"}]}`),
		reason: "INVALID_REQUEST", code: codes.InvalidArgument, http: 400, field: "messages[0].name"},
	{name: "400 for a parameter in words", script: refuseInWords(400, `{"code":"Client specified an invalid argument","error":"Argument not supported on this model: presencePenalty. %s"}`),
		reason: "INVALID_REQUEST", code: codes.InvalidArgument, http: 400, field: "presence_penalty"},
	{name: "400 as the context is too long, in words", script: refuseInWords(400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 213462 tokens > 200000 maximum; %s"}}`),
		reason: "CONTEXT_LENGTH_EXCEEDED", code: codes.InvalidArgument, http: 400},
	{name: "400 for the model", script: refuseInWords(400, `{"error":{"message":"m is not a valid model ID; %s","code":400}}`),
		reason: "MODEL_NOT_FOUND", code: codes.NotFound, http: 404},
	{name: "400 for the key", script: refuseInWords(400, `[{"error":{"code":400,"message":"API key not valid. %s","status":"INVALID_ARGUMENT"}}]`),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "413 for a rate", script: refuseInWords(413, `{"error":{"message":"Request too large for model m on tokens per minute (TPM); please try again in 7s. %s","type":"tokens","code":"rate_limit_exceeded"}}`),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: 7 * time.Second},
	{name: "429 with a delay in its body", script: refuseInWords(429, `[{"error":{"code":429,"message":"%s","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"53s"}]}}]`),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: 53 * time.Second},
	{name: "500 for an image", script: refuseInWords(500, `{"error":{"code":500,"message":"image input is not supported - hint: %s","type":"server_error"}}`),
		reason: "INVALID_REQUEST", code: codes.InvalidArgument, http: 400, field: "messages"},
	{name: "500", script: refuse(500, "server_error"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "502 page", script: func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>"+rawWords+" "+key+" "+internal, http.StatusBadGateway)
	}, reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "503 with Retry-After", script: refuse(503, "overloaded", "Retry-After", "3"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: 3 * time.Second},

	{name: "error as the first data", script: body("data: " + errorObject("odd") + "\n\n"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "rate limit as the first data", script: body(": ping\n\ndata: " + errorObject("rate_limit_exceeded") + "\n\n"),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: time.Second},
	{name: "error after text", script: text(body("data: " + errorObject("odd") + "\n\n")), events: 2,
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "garbage", script: body("data: " + rawWords + " " + key + " " + internal + "\n\n"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "garbage after text", script: text(body("data: {" + rawWords + " " + key + " " + internal + "\n\n")), events: 2,
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "page", script: body("<html>" + rawWords + " " + key + " " + internal),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},

	{name: "nothing", script: body(""),
		reason: "UPSTREAM_TRUNCATED", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "end after text", script: text(body("")), events: 2,
		reason: "UPSTREAM_TRUNCATED", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "[DONE] after text", script: text(body("data: [DONE]\n\n")), events: 2,
		reason: "UPSTREAM_TRUNCATED", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "cut after text", script: text(abort), events: 2,
		reason: "UPSTREAM_TRUNCATED", code: codes.Unavailable, http: 503, retry: time.Second},

	{name: "connection refused", url: func(t testing.TB) string { return "http://" + closedPort(t) },
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "connection closed before an answer", script: abort,
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "connection reset before an answer", script: reset,
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "TLS handshake without an answer", args: []string{"--connect-timeout=100ms"},
		url:    func(t testing.TB) string { return "https://" + deafPort(t) },
		reason: "CONNECT_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "no first token", args: []string{"--first-token-timeout=100ms"}, script: silence,
		reason: "FIRST_TOKEN_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "only comments", args: []string{"--first-token-timeout=100ms"}, script: comments,
		reason: "FIRST_TOKEN_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "silence after text", args: []string{"--idle-timeout=100ms"}, script: text(silence), events: 2,
		reason: "IDLE_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "only comments after text", args: []string{"--idle-timeout=100ms"}, script: text(comments), events: 2,
		reason: "IDLE_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "no end", args: []string{"--total-timeout=300ms"}, events: -1,
		script: func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				chunk(w, `{"content":"more"}`, "null")
				time.Sleep(10 * time.Millisecond)
			}
		},
		reason: "TOTAL_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
}

// TestUpstreamFailures holds each failure against each face: the same status
// everywhere, a true HTTP status before the first event, an error event after it,
// and nothing of what the upstream said.
func TestUpstreamFailures(t *testing.T) {
	for _, layout := range layouts {
		for _, f := range failures {
			t.Run(layout+"/"+f.name, func(t *testing.T) {
				t.Parallel()
				var calls func() int64
				env := map[string]string{"OPENAI_API_KEY": key}
				if f.script != nil {
					u := newUpstream(t, f.script)
					calls, env = u.calls.Load, u.env()
				} else {
					env["OPENAI_BASE_URL"] = f.url(t) + "/v1"
				}
				p := start(t, layout, env, f.args...)
				secrets := []string{rawWords, key, internal, strings.SplitAfter(env["OPENAI_BASE_URL"], "//")[1]}

				var first *answer
				for _, face := range faces {
					a, err := face.ask(t.Context(), p, question)
					if err != nil {
						t.Fatalf("%s: %v", face.name, err)
					}
					if a.status == nil {
						t.Fatalf("%s: no failure but %q", face.name, a.text)
					}
					if r := reason(a.status); r != f.reason || a.status.Code() != f.code || retryDelay(a.status) != f.retry {
						t.Errorf("%s: got %s, %v, retry after %v; want %s, %v, %v",
							face.name, r, a.status.Code(), retryDelay(a.status), f.reason, f.code, f.retry)
					}
					if got := strings.Join(fields(a.status), " "); got != f.field {
						t.Errorf("%s: got the fields %q, want %q", face.name, got, f.field)
					}
					if face.stream && len(a.events) != f.events && !(f.events < 0 && len(a.events) > 1) {
						t.Errorf("%s: got %d events before the failure, want %d", face.name, len(a.events), f.events)
					}
					if a.id == "" {
						t.Errorf("%s: the completion has no name", face.name)
					}
					if a.header != nil {
						checkRefusal(t, face.name, a, f.http, len(a.events) == 0)
					}
					for _, secret := range secrets {
						if strings.Contains(a.said, strings.TrimSuffix(secret, "/v1")) {
							t.Errorf("%s: %q is in %s", face.name, secret, a.said)
						}
					}
					if first == nil {
						first = a
					}
					if !proto.Equal(first.status.Proto(), a.status.Proto()) {
						t.Errorf("%s: got %v, and over SSE %v", face.name, a.status, first.status)
					}
				}
				if calls != nil && calls() != int64(len(faces)) {
					t.Errorf("%d calls upstream for %d completions", calls(), len(faces))
				}
				checkLog(t, p, f.reason)
			})
		}
	}
}

// checkRefusal checks what only HTTP has. The status and Retry-After are there
// only before a stream has begun.
func checkRefusal(t *testing.T, face string, a *answer, code int, before bool) {
	t.Helper()
	if a.code != code {
		t.Errorf("%s: status %d, want %d", face, a.code, code)
	}
	after, kind := "", "text/event-stream"
	if before {
		kind = "application/json"
		if delay := retryDelay(a.status); delay > 0 {
			after = strconv.Itoa(int(delay.Seconds()))
		}
	}
	if got := a.header.Get("Retry-After"); got != after {
		t.Errorf("%s: Retry-After %q, want %q", face, got, after)
	}
	if got := a.header.Get("Content-Type"); got != kind {
		t.Errorf("%s: Content-Type %q, want %q", face, got, kind)
	}
	if got := a.header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("%s: Cache-Control %q", face, got)
	}
}

// checkLog checks that the log gets a line for each completion, which tells
// operators the reason, and nothing secret.
func checkLog(t *testing.T, p *program, reason string) {
	t.Helper()
	eventually(t, "a line in the log for each completion", func() bool {
		return strings.Count(p.log.String(), "outcome=failed") == len(faces)
	})
	log := p.log.String()
	if n := strings.Count(log, "reason="+reason); n != len(faces) {
		t.Errorf("reason=%s stands in %d lines of %d", reason, n, len(faces))
	}
	for _, secret := range []string{key, asked} {
		if strings.Contains(log, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// TestCauseInLog checks that operators learn what callers must not.
func TestCauseInLog(t *testing.T) {
	u := newUpstream(t, refuse(401, "invalid_api_key"))
	p := start(t, "one process", u.env())
	if _, err := askSSE(t.Context(), p, question); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{rawWords, internal, "401", "[key]"} {
		eventually(t, want+" in the log", func() bool { return strings.Contains(p.log.String(), want) })
	}
}

// TestServerAway checks the bridge in front of no server: not ready, and a
// refusal in its own words.
func TestServerAway(t *testing.T) {
	p := &program{log: &lockedBuffer{}, grpc: closedPort(t)}
	p.http = startOne(t, p, nil, "bridge", "--http=127.0.0.1:0", "--server="+p.grpc)[0]
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/v1/models": 503, "/v1/completions/cmpl_1": 503} {
		resp, err := http.Get(p.http + path)
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want || strings.Contains(string(said), p.grpc) {
			t.Errorf("%s: %d %s, want %d and no address", path, resp.StatusCode, said, want)
		}
	}
	for _, face := range faces[:2] {
		a, err := face.ask(t.Context(), p, question)
		if err != nil {
			t.Fatal(err)
		}
		if reason(a.status) != "UPSTREAM_UNAVAILABLE" || strings.Contains(a.said, p.grpc) {
			t.Errorf("%s: %s", face.name, a.said)
		}
		checkRefusal(t, face.name, a, 503, true)
	}
}

// TestCommitWindow checks a stream whose upstream is silent until after the
// commit window: headers and heartbeats, then the failure as the error event that
// the body of a refusal would have been.
func TestCommitWindow(t *testing.T) {
	const window = 100 * time.Millisecond
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			fail := make(chan struct{})
			u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				select {
				case <-fail:
				case <-r.Context().Done():
				}
				refuse(429, "rate_limit_exceeded", "Retry-After", "7")(w, r)
			})
			p := start(t, layout, u.env(), "--commit-window="+window.String(), "--heartbeat=50ms")
			before := time.Now()
			resp := p.post(t, question)
			if waited := time.Since(before); waited < window {
				t.Errorf("the headers came after %v", waited)
			}
			id := strings.TrimPrefix(resp.Header.Get("Location"), "/v1/completions/")
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || !strings.HasPrefix(id, "cmpl_") {
				t.Errorf("got %d, %v", resp.StatusCode, resp.Header)
			}
			heartbeats := make([]byte, len(": hb\n")*3)
			if _, err := io.ReadFull(resp.Body, heartbeats); err != nil || string(heartbeats) != ": hb\n: hb\n: hb\n" {
				t.Fatalf("got %q, %v", heartbeats, err)
			}
			close(fail)
			rest, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			block := strings.ReplaceAll(string(rest), ": hb\n", "")

			refusal := p.post(t, question, "Accept", "application/json")
			said, err := io.ReadAll(refusal.Body)
			if err != nil || refusal.StatusCode != 429 {
				t.Fatalf("got %d, %v", refusal.StatusCode, err)
			}
			want := fmt.Sprintf("event: error\ndata: %sretry: 1000\nid: %s_1\n\n", said, id)
			if block != want {
				t.Errorf("got %q\nwant %q", block, want)
			}
		})
	}
}

// TestKeyStaysHome checks that no redirect takes the key to another host.
func TestKeyStaysHome(t *testing.T) {
	var elsewhere http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { elsewhere = r.Header.Clone() }))
	defer other.Close()
	u := newUpstream(t, refuse(307, "", "Location", other.URL+"/v1/chat/completions"))
	p := start(t, "one process", u.env())
	a, err := askSSE(t.Context(), p, question)
	if err != nil || reason(a.status) != "UPSTREAM_REJECTED" {
		t.Fatalf("got %v, %v", a, err)
	}
	if elsewhere != nil {
		t.Errorf("the redirect was followed: %v", elsewhere)
	}
}

// TestAskedOnceMore checks that a request which is refused only for a name is asked
// once more, on each face, and that the next one is right at once.
func TestAskedOnceMore(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			var refused atomic.Int64
			u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				switch {
				case strings.Contains(string(body), `"max_tokens"`):
					refused.Add(1)
					refuseInWords(400, `{"error":{"message":"%s","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}`)(w, r)
				case strings.Contains(string(body), `"stream_options"`):
					refused.Add(1)
					refuseInWords(422, `{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"%s"}]}`)(w, r)
				default:
					chunk(w, `{"content":"4"}`, "stop")
				}
			})
			p := start(t, layout, u.env())
			for _, face := range faces {
				a, err := face.ask(t.Context(), p, `{"model":"m","max_tokens":7,"messages":[{"role":"user","content":"2+2"}]}`)
				if err != nil || a.status != nil || a.text != "4" {
					t.Errorf("%s: got %v, %v", face.name, a, err)
				}
			}
			if n := refused.Load(); n != 2 {
				t.Errorf("%d were refused, want one for each name", n)
			}
		})
	}
}

// TestWrongBaseURL checks that the log says what was asked for and what came back.
func TestWrongBaseURL(t *testing.T) {
	u := newUpstream(t, text(body("")))
	env := u.env()
	env["OPENAI_BASE_URL"] = u.URL
	p := start(t, "one process", env)
	if a, err := askSSE(t.Context(), p, question); err != nil || reason(a.status) != "UPSTREAM_REJECTED" {
		t.Fatalf("got %v, %v", a, err)
	}
	eventually(t, "what was asked for in the log", func() bool {
		return strings.Contains(p.log.String(), "the upstream answered 404 to POST /chat/completions: 404 page not found")
	})
}

// TestOrdinaryKey checks that a key which is an ordinary word leaves the log legible.
func TestOrdinaryKey(t *testing.T) {
	u := newUpstream(t, refuseInWords(400, `{"error":{"message":"unexpected text, key x","type":"t","code":"odd"}}%.0s`))
	env := u.env()
	env["OPENAI_API_KEY"] = "x"
	p := start(t, "one process", env)
	if _, err := askSSE(t.Context(), p, question); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the words in the log", func() bool { return strings.Contains(p.log.String(), "unexpected text, key [key]") })
}
