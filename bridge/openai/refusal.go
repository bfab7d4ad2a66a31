package openai

import (
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/sluice-sse/sluice/bridge/failure"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Refusal is an error as a client of this API is told it.
type Refusal struct {
	Status  int    // over HTTP
	Message string // for people
	Type    string // the class of the error, one of OpenAI's
	Param   string // the parameter that is wrong; "": none
	Code    string // the reason, in lower case
	Retry   bool   // to send the same again may help, and costs nothing

	RetryAfter time.Duration // how long to wait before that; 0: not said
}

// newRefusal returns what a client is told of an error. began tells whether the server
// had begun a completion, so that the upstream may have been called and paid.
func newRefusal(log *slog.Logger, err error, began, keyed bool) Refusal {
	reason := failure.Reason(err) // "" for a server that cannot be reached: nobody knows how far it came
	httpStatus, s := failure.Explain(log, err)
	r := Refusal{Status: httpStatus, Message: s.Message(), Type: errorType(httpStatus), Code: "error"}
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			r.Code = strings.ToLower(d.GetReason())
		case *errdetails.RetryInfo:
			r.RetryAfter = d.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			r.setParam(d.GetFieldViolations())
		}
	}
	r.Retry = isFree(reason, httpStatus, began, keyed)
	return r
}

// isFree tells whether a client may send a request again that failed for a reason,
// without anybody paying twice. A completion with a key stays failed.
func isFree(reason string, httpStatus int, began, keyed bool) bool {
	switch completionv1.ErrorReason(completionv1.ErrorReason_value[reason]) {
	case completionv1.ErrorReason_UPSTREAM_RATE_LIMITED, completionv1.ErrorReason_CONNECT_TIMEOUT: // it has done nothing
		return !began || !keyed
	case completionv1.ErrorReason_OVERLOADED, completionv1.ErrorReason_RATE_LIMITED, completionv1.ErrorReason_DRAINING, completionv1.ErrorReason_UPSTREAM_UNAVAILABLE:
		return !began
	case completionv1.ErrorReason_INVALID_REQUEST: // its body did not arrive
		return httpStatus == http.StatusRequestTimeout
	}
	return false
}

// setParam names the parameter that is wrong, if it is one. Where that is all, the
// message says so in the words of this API.
func (r *Refusal) setParam(violations []*errdetails.BadRequest_FieldViolation) {
	if len(violations) == 0 {
		return
	}
	first := violations[0]
	switch first.GetField() {
	case "extra", "body", "header", "path", "method", "Host", "Origin", "Accept", "Content-Type", "Content-Encoding", "Idempotency-Key":
		return
	}
	r.Param = paramOf(first.GetField())
	if len(violations) == 1 && r.Message == first.GetField()+": "+first.GetDescription() {
		r.Message = r.Param + ": " + first.GetDescription()
	}
}

// paramOf returns a field of ours as this API names it.
func paramOf(field string) string {
	return fieldNames.Replace(strings.TrimPrefix(field, "extra."))
}

var fieldNames = strings.NewReplacer("].parts", "].content", "].reasoning_content", "].reasoning_content", "].reasoning", "].reasoning_content")

// cancelled returns what readers are told of a completion that somebody else has
// cancelled.
func cancelled() Refusal {
	const status = 499 // as nginx has it for a client that has closed its request
	return Refusal{Status: status, Message: "the completion was cancelled", Type: errorType(status), Code: "cancelled"}
}

// errorType returns OpenAI's class of an error.
func errorType(httpStatus int) string {
	switch {
	case httpStatus == http.StatusUnauthorized:
		return "authentication_error"
	case httpStatus == http.StatusForbidden:
		return "permission_error"
	case httpStatus == http.StatusNotFound:
		return "not_found_error"
	case httpStatus == http.StatusTooManyRequests:
		return "rate_limit_error"
	case httpStatus >= 500:
		return "server_error"
	}
	return "invalid_request_error"
}

// JSON returns the body of the answer, on one line.
func (r Refusal) JSON() []byte {
	m := members{out: []byte(`{"error":{`)}
	r.members(&m)
	return append(m.out, "}}"...)
}

func (r Refusal) members(m *members) {
	m.string("message", r.Message)
	m.string("type", r.Type)
	m.nullable("param", r.Param)
	m.string("code", r.Code)
}

// Write answers a request. The header x-should-retry, which the official clients obey,
// says whether they may repeat the request by themselves.
func (r Refusal) Write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("X-Should-Retry", strconv.FormatBool(r.Retry))
	if r.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((r.RetryAfter+time.Second-1)/time.Second), 10))
		h.Set("Retry-After-Ms", strconv.FormatInt(max(r.RetryAfter.Milliseconds(), 1), 10))
	}
	failure.Challenge(h, r.Status)
	writeJSON(w, r.Status, r.JSON())
}

// WriteError answers a request with an error that came before any completion. repeatable tells
// whether the request begins none.
func WriteError(w http.ResponseWriter, log *slog.Logger, err error, repeatable bool) {
	r := newRefusal(log, err, false, false)
	if repeatable {
		r = r.ofRepeatable(err)
	}
	r.Write(w)
}

// ofRepeatable returns the refusal of a request that begins nothing: when the server cannot be
// reached, nobody has to know how far the request came.
func (r Refusal) ofRepeatable(err error) Refusal {
	r.Retry = r.Retry || failure.Reason(err) == "" && r.Status == http.StatusServiceUnavailable
	return r
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	body = append(body, '\n')
	setJSONHeader(w.Header(), len(body))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func setJSONHeader(h http.Header, length int) {
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(length))
}
