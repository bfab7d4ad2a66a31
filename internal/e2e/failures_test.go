package e2e

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// upstreamFailure is a way in which an upstream fails, and what callers learn.
type upstreamFailure struct {
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
}

var failures = []upstreamFailure{
	{name: "400", script: e2etest.Refuse(400, "odd"),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "400 as the context is too long", script: e2etest.Refuse(400, "context_length_exceeded"),
		reason: "CONTEXT_LENGTH_EXCEEDED", code: codes.InvalidArgument, http: 400},
	{name: "401", script: e2etest.Refuse(401, "invalid_api_key"),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "403", script: e2etest.Refuse(403, "forbidden"),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "404 for the model", script: e2etest.Refuse(404, "model_not_found"),
		reason: "MODEL_NOT_FOUND", code: codes.NotFound, http: 404},
	{name: "404 page", script: func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>"+e2etest.RawWords+" "+e2etest.Key+" "+e2etest.Internal, http.StatusNotFound)
	}, reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "307", script: e2etest.Refuse(307, "", "Location", "/v1/elsewhere"),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "408", script: e2etest.Refuse(408, "timeout"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "429", script: e2etest.Refuse(429, "rate_limit_exceeded"),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: time.Second},
	{name: "429 with Retry-After", script: e2etest.Refuse(429, "rate_limit_exceeded", "Retry-After", "7"),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: 7 * time.Second},
	{name: "400 for a parameter", script: e2etest.RefuseInWords(400, `{"error":{"message":"%s","type":"invalid_request_error","param":"temperature","code":"unsupported_value"}}`),
		reason: "INVALID_REQUEST", code: codes.InvalidArgument, http: 400, field: "temperature"},
	{name: "422 for a parameter", script: e2etest.RefuseInWords(422, `{"detail":[{"type":"extra_forbidden","loc":["body","messages",0,"user","name"],"msg":"%s"}]}`),
		reason: "INVALID_REQUEST", code: codes.InvalidArgument, http: 400, field: "messages[0].name"},
	{name: "400 for a parameter in words", script: e2etest.RefuseInWords(400, `{"code":"Client specified an invalid argument","error":"Argument not supported on this model: presencePenalty. %s"}`),
		reason: "INVALID_REQUEST", code: codes.InvalidArgument, http: 400, field: "presence_penalty"},
	{name: "400 as the context is too long, in words", script: e2etest.RefuseInWords(400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 213462 tokens > 200000 maximum; %s"}}`),
		reason: "CONTEXT_LENGTH_EXCEEDED", code: codes.InvalidArgument, http: 400},
	{name: "400 for the model", script: e2etest.RefuseInWords(400, `{"error":{"message":"m is not a valid model ID; %s","code":400}}`),
		reason: "MODEL_NOT_FOUND", code: codes.NotFound, http: 404},
	{name: "400 for the key", script: e2etest.RefuseInWords(400, `[{"error":{"code":400,"message":"API key not valid. %s","status":"INVALID_ARGUMENT"}}]`),
		reason: "UPSTREAM_REJECTED", code: codes.Internal, http: 500},
	{name: "413 for a rate", script: e2etest.RefuseInWords(413, `{"error":{"message":"Request too large for model m on tokens per minute (TPM); please try again in 7s. %s","type":"tokens","code":"rate_limit_exceeded"}}`),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: 7 * time.Second},
	{name: "429 with a delay in its body", script: e2etest.RefuseInWords(429, `[{"error":{"code":429,"message":"%s","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"53s"}]}}]`),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: 53 * time.Second},
	{name: "500 for an image", script: e2etest.RefuseInWords(500, `{"error":{"code":500,"message":"image input is not supported - hint: %s","type":"server_error"}}`),
		reason: "INVALID_REQUEST", code: codes.InvalidArgument, http: 400, field: "messages"},
	{name: "500", script: e2etest.Refuse(500, "server_error"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "502 page", script: func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>"+e2etest.RawWords+" "+e2etest.Key+" "+e2etest.Internal, http.StatusBadGateway)
	}, reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "503 with Retry-After", script: e2etest.Refuse(503, "overloaded", "Retry-After", "9"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: 9 * time.Second},

	{name: "error as the first data", script: e2etest.Body("data: " + e2etest.ErrorObject("odd") + "\n\n"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "rate limit as the first data", script: e2etest.Body(": ping\n\ndata: " + e2etest.ErrorObject("rate_limit_exceeded") + "\n\n"),
		reason: "UPSTREAM_RATE_LIMITED", code: codes.ResourceExhausted, http: 429, retry: time.Second},
	{name: "error after text", script: e2etest.Text(e2etest.Body("data: " + e2etest.ErrorObject("odd") + "\n\n")), events: 2,
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "garbage", script: e2etest.Body("data: " + e2etest.RawWords + " " + e2etest.Key + " " + e2etest.Internal + "\n\n"),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "garbage after text", script: e2etest.Text(e2etest.Body("data: {" + e2etest.RawWords + " " + e2etest.Key + " " + e2etest.Internal + "\n\n")), events: 2,
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "page", script: e2etest.Body("<html>" + e2etest.RawWords + " " + e2etest.Key + " " + e2etest.Internal),
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},

	{name: "nothing", script: e2etest.Body(""),
		reason: "UPSTREAM_TRUNCATED", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "end after text", script: e2etest.Text(e2etest.Body("")), events: 2,
		reason: "UPSTREAM_TRUNCATED", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "[DONE] after text", script: e2etest.Text(e2etest.Body("data: [DONE]\n\n")), events: 2,
		reason: "UPSTREAM_TRUNCATED", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "cut after text", script: e2etest.Text(e2etest.Abort), events: 2,
		reason: "UPSTREAM_TRUNCATED", code: codes.Unavailable, http: 503, retry: time.Second},

	{name: "connection refused", url: func(t testing.TB) string { return "http://" + e2etest.ClosedPort(t) },
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "connection closed before an answer", script: e2etest.Abort,
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "connection reset before an answer", script: e2etest.Reset,
		reason: "UPSTREAM_UNAVAILABLE", code: codes.Unavailable, http: 503, retry: time.Second},
	{name: "TLS handshake without an answer", args: []string{"--connect-timeout=100ms"},
		url:    func(t testing.TB) string { return "https://" + e2etest.DeafPort(t) },
		reason: "CONNECT_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "connection taken, and nothing else", args: []string{"--first-token-timeout=100ms"},
		url:    func(t testing.TB) string { return "http://" + e2etest.DeafPort(t) },
		reason: "FIRST_TOKEN_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "no first token", args: []string{"--first-token-timeout=300ms"}, script: e2etest.Silence,
		reason: "FIRST_TOKEN_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "only comments", args: []string{"--first-token-timeout=300ms"}, script: e2etest.Comments,
		reason: "FIRST_TOKEN_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "silence after text", args: []string{"--idle-timeout=300ms"}, script: e2etest.Text(e2etest.Silence), events: 2,
		reason: "IDLE_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "only comments after text", args: []string{"--idle-timeout=300ms"}, script: e2etest.Text(e2etest.Comments), events: 2,
		reason: "IDLE_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "no end", args: []string{"--total-timeout=300ms"}, events: -1,
		script: func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				e2etest.Chunk(w, `{"content":"more"}`, "null")
				time.Sleep(10 * time.Millisecond)
			}
		},
		reason: "TOTAL_TIMEOUT", code: codes.DeadlineExceeded, http: 504, retry: time.Second},
	{name: "comments after text, until the end", args: []string{"--total-timeout=1s"}, script: e2etest.Text(e2etest.Comments), events: 2,
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
				env := map[string]string{"OPENAI_API_KEY": e2etest.Key}
				if f.script != nil {
					u := e2etest.NewUpstream(t, f.script)
					calls, env = u.Calls.Load, u.Env()
				} else {
					env["OPENAI_BASE_URL"] = f.url(t) + "/v1"
				}
				p := e2etest.Start(t, layout, env, f.args...)
				secrets := []string{e2etest.RawWords, e2etest.Key, e2etest.Internal, strings.SplitAfter(env["OPENAI_BASE_URL"], "//")[1]}

				var first *answer
				for _, face := range faces {
					a, err := face.ask(t.Context(), p, e2etest.Question)
					if err != nil {
						t.Fatalf("%s: %v", face.name, err)
					}
					if a.status == nil {
						t.Fatalf("%s: no failure but %q", face.name, a.text)
					}
					f.check(t, face, a)
					for _, secret := range secrets {
						if strings.Contains(a.raw, strings.TrimSuffix(secret, "/v1")) {
							t.Errorf("%s: %q is in %s", face.name, secret, a.raw)
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

// check checks what a caller has learned on a face.
func (f upstreamFailure) check(t *testing.T, face face, a *answer) {
	t.Helper()
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
		checkRefusal(t, face, a, f.http, len(a.events) == 0)
	}
}

// checkRefusal checks what only HTTP has. The status and Retry-After are there
// only before a stream has begun.
func checkRefusal(t *testing.T, face face, a *answer, code int, before bool) {
	t.Helper()
	if a.code != code {
		t.Errorf("%s: status %d, want %d", face.name, a.code, code)
	}
	after, kind := "", face.mediaType
	if before {
		kind = "application/json"
		if delay := retryDelay(a.status); delay > 0 {
			after = strconv.Itoa(int(math.Ceil(delay.Seconds())))
		}
	}
	if got := a.header.Get("Retry-After"); got != after {
		t.Errorf("%s: Retry-After %q, want %q", face.name, got, after)
	}
	if got := a.header.Get("Content-Type"); got != kind {
		t.Errorf("%s: Content-Type %q, want %q", face.name, got, kind)
	}
	if got := a.header.Get("Cache-Control"); !strings.Contains(got, "no-store") {
		t.Errorf("%s: Cache-Control %q", face.name, got)
	}
}

// checkLog checks that the log gets a line for each completion, which tells
// operators the reason, and nothing secret.
func checkLog(t *testing.T, p *e2etest.Program, reason string) {
	t.Helper()
	e2etest.Eventually(t, "a line in the log for each completion", func() bool {
		return strings.Count(p.Log.String(), "msg=completion") == len(faces)
	})
	log := p.Log.String()
	if n := strings.Count(log, "outcome="+strings.ToLower(reason)); n != len(faces) {
		t.Errorf("outcome=%s stands in %d lines of %d", strings.ToLower(reason), n, len(faces))
	}
	for _, secret := range []string{e2etest.Key, e2etest.Asked} {
		if strings.Contains(log, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}
