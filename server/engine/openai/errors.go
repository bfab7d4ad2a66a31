package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

const (
	maxRetryAfter = time.Hour
	maxCause      = 2 << 10 // bytes of an upstream's words in the log
)

// question is what errors say of the request; zero for the list of models.
type question struct {
	model string
	field string // that holds the input: messages or prompt
}

func questionOf(req *completionv1.CompletionRequest) question {
	if req.Prompt != nil {
		return question{model: req.GetModel(), field: "prompt"}
	}
	return question{model: req.GetModel(), field: "messages"}
}

// failed says what an error means that came instead of an answer. When ctx is
// done that is the cause of ctx, and no fault of the upstream.
func (e *Engine) failed(ctx context.Context, err error, q question) error {
	var (
		known   *failure.Error
		said    *refusal
		nothing *unreachable
	)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &known):
		return known
	case errors.As(err, &said):
		said.parse()
		return e.refused(said, q)
	case errors.As(err, &nothing) && nothing.connectTimedOut():
		return failure.New(failure.ConnectTimeout, "the upstream could not be reached in time").WithCause(e.cause(err.Error()))
	case errors.As(err, &nothing):
		return failure.New(failure.UpstreamUnavailable, "the upstream did not answer").WithCause(e.cause(err.Error()))
	case q == (question{}):
		return failure.New(failure.UpstreamUnavailable, "the upstream's list of models cannot be read").WithCause(e.cause(err.Error()))
	}
	return failure.New(failure.UpstreamRejected, "the request cannot be sent upstream").WithCause(e.cause(err.Error()))
}

// refusal is an error in an upstream's own words: an answer with a status that is
// not a success, or with status 200 an error within an answer.
type refusal struct {
	status  int
	header  http.Header
	body    []byte
	details errorDetails // by parse
}

// errorDetails is an error object as OpenAI has it; others have a number for its
// code and more than a string for its message.
type errorDetails struct {
	Message word `json:"message"`
	Type    word `json:"type"`
	Code    word `json:"code"`
}

// word is the text of a JSON string, and any other JSON value as it stands.
type word string

// UnmarshalJSON implements json.Unmarshaler.
func (w *word) UnmarshalJSON(b []byte) error {
	var s string // stays empty for null
	if json.Unmarshal(b, &s) != nil {
		s = string(b)
	}
	*w = word(s)
	return nil
}

// isError tells whether the value of the key error says that there is one.
func isError(raw json.RawMessage) bool {
	switch string(raw) {
	case "", "null", "false", `""`:
		return false
	}
	return true
}

// parse looks for an error object in the body and tells whether there is one:
// {"error":{…}}, {"error":"…"} as of Ollama, {"object":"error",…} as of vLLM, or a
// list that holds one, as of Gemini.
func (r *refusal) parse() bool {
	body := bytes.TrimSpace(r.body)
	if bytes.HasPrefix(body, []byte("[")) {
		var list []json.RawMessage
		if json.Unmarshal(body, &list) == nil && len(list) > 0 {
			body = list[0]
		}
	}
	var found struct {
		Object word            `json:"object"`
		Error  json.RawMessage `json:"error"`
		errorDetails
	}
	if json.Unmarshal(body, &found) != nil {
		return false
	}
	switch {
	case isError(found.Error):
		if json.Unmarshal(found.Error, &r.details) != nil {
			_ = r.details.Message.UnmarshalJSON(found.Error)
		}
	case found.Object == "error":
		r.details = found.errorDetails
	default:
		return false
	}
	return true
}

// Error returns the upstream's words, which are not for callers.
func (r *refusal) Error() string {
	d := &r.details
	if *d == (errorDetails{}) {
		return fmt.Sprintf("the upstream answered %d: %s", r.status, bytes.TrimSpace(r.body))
	}
	return fmt.Sprintf("the upstream answered %d: %s (type %q, code %q)", r.status, d.Message, d.Type, d.Code)
}

// meaning returns the HTTP status that the error would have had: within a stream
// it stands in the code or is told by words.
func (r *refusal) meaning() int {
	if r.status != 200 {
		return r.status
	}
	for _, w := range []word{r.details.Code, r.details.Type} {
		if n, err := strconv.Atoi(string(w)); err == nil && n >= 400 && n <= 599 {
			return n
		}
		switch w := strings.ToLower(string(w)); w {
		case "invalid_request_error", "badrequesterror", "bad_request_error", "context_length_exceeded", "content_filter":
			return http.StatusBadRequest
		case "authentication_error", "invalid_api_key":
			return http.StatusUnauthorized
		case "permission_error":
			return http.StatusForbidden
		case "not_found_error", "notfounderror", "model_not_found":
			return http.StatusNotFound
		case "insufficient_quota", "too_many_requests":
			return http.StatusTooManyRequests
		default:
			if strings.HasPrefix(w, "rate_limit") || strings.HasPrefix(w, "ratelimit") {
				return http.StatusTooManyRequests
			}
		}
	}
	return http.StatusInternalServerError
}

// tooLong tells whether the input does not fit the model.
func (r *refusal) tooLong(status int) bool {
	for _, w := range []word{r.details.Code, r.details.Type} {
		switch w {
		case "context_length_exceeded", "exceed_context_size_error": // OpenAI; llama.cpp
			return true
		}
	}
	message := strings.ToLower(string(r.details.Message))
	return status == http.StatusBadRequest &&
		(strings.Contains(message, "context length") || strings.Contains(message, "context size") || strings.Contains(message, "context window"))
}

// refused says what an upstream's error, once parsed, means to callers.
func (e *Engine) refused(said *refusal, q question) error {
	status := said.meaning()
	hasDetails := said.details != (errorDetails{})
	wait := retryAfter(said.header, time.Now())
	var f *failure.Error
	switch {
	case said.tooLong(status):
		f = failure.New(failure.ContextLengthExceeded, "the request is longer than the model's context")
	case status == http.StatusBadRequest && said.details.Code == "content_filter" && q != (question{}):
		f = failure.Invalid(q.field, "the content filter of the upstream does not let it pass")
	case status == http.StatusTooManyRequests:
		f = failure.New(failure.UpstreamRateLimited, "the upstream takes no more requests for now").WithRetryAfter(wait)
	case status == http.StatusNotFound && hasDetails && q != (question{}):
		f = failure.New(failure.ModelNotFound, "there is no model %q", q.model)
	case status == http.StatusRequestTimeout, status >= 500:
		f = failure.New(failure.UpstreamUnavailable, "the upstream is not available").WithRetryAfter(wait)
	default:
		f = failure.New(failure.UpstreamRejected, "the upstream does not accept the request")
	}
	return f.WithCause(e.cause(said.Error()))
}

// retryAfter returns how long an upstream wants callers to wait, an hour at most,
// or 0 where it does not say: RFC 9110 section 10.2.3, and OpenAI's
// retry-after-ms, which is the more exact.
func retryAfter(h http.Header, now time.Time) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64)
	seconds /= 1000
	if err != nil {
		seconds, err = strconv.ParseFloat(h.Get("Retry-After"), 64)
	}
	if err != nil {
		if date, err := http.ParseTime(h.Get("Retry-After")); err == nil {
			seconds = date.Sub(now).Seconds()
		}
	}
	if !(seconds > 0) { // nor NaN
		return 0
	}
	return time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
}

// newRedactor replaces the key in all the ways in which it may be written.
func newRedactor(key string) *strings.Replacer {
	if key == "" {
		return strings.NewReplacer()
	}
	inJSON, _ := json.Marshal(key)
	var pairs []string
	for _, form := range []string{
		key, string(inJSON[1 : len(inJSON)-1]), strings.ReplaceAll(key, "/", `\/`), url.QueryEscape(key), url.PathEscape(key),
	} {
		pairs = append(pairs, form, "[key]")
	}
	return strings.NewReplacer(pairs...)
}

// cause returns words for the log without the key in them. They are no wrapped
// error: one could be asked for what it wraps.
func (e *Engine) cause(words string) error {
	words = e.redactor.Replace(words)
	if len(words) > maxCause {
		words = words[:maxCause] + " …"
	}
	return errors.New(strings.ToValidUTF8(words, "\uFFFD"))
}
