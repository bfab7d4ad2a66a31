package failure

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
)

// Write answers a request with an error.
func Write(w http.ResponseWriter, log *slog.Logger, err error) {
	code, s := Explain(log, err)
	WriteBody(w, code, s, JSON(code, s))
}

// WriteBody answers a request with an error whose JSON is known.
func WriteBody(w http.ResponseWriter, code int, s *status.Status, body []byte) {
	h := w.Header()
	if delay := retryDelay(s); delay > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((delay-1)/time.Second)+1, 10))
	}
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	body = append(body, '\n')
	h.Set("Content-Length", strconv.Itoa(len(body)))
	Challenge(h, code)
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// Challenge says in the headers of a refusal, if it is one for want of credentials, what
// those are, as it must (RFC 9110 section 11.6.1).
func Challenge(h http.Header, httpStatus int) {
	if httpStatus == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
}

// JSON returns the JSON of an error, on one line: the body of an answer, and the
// data of an error event.
func JSON(httpStatus int, s *status.Status) []byte {
	return JSONWith(httpStatus, s, func(d *anypb.Any) ([]byte, error) { return protojson.Marshal(d) })
}

// JSONWith is JSON for details of types that are not linked in: detail returns their JSON.
func JSONWith(httpStatus int, s *status.Status, detail func(*anypb.Any) ([]byte, error)) []byte {
	type body struct {
		Code    int               `json:"code"`
		Status  string            `json:"status"`
		Message string            `json:"message"`
		Details []json.RawMessage `json:"details"`
	}
	e := body{
		Code:    httpStatus,
		Status:  codepb.Code(s.Code()).String(),
		Message: s.Message(),
		Details: []json.RawMessage{},
	}
	for _, d := range s.Proto().GetDetails() {
		// A detail of a type that is not known cannot be shown, nor one that is nested deeper
		// than encoding/json has it.
		if b, err := detail(d); err == nil && json.Valid(b) {
			e.Details = append(e.Details, b)
		}
	}
	b, err := json.Marshal(map[string]body{"error": e})
	if err != nil {
		panic(fmt.Sprintf("bridge: marshal an error: %v", err)) // of strings and numbers
	}
	return b
}

// retryDelay returns how long the server asks the caller to wait, or 0.
func retryDelay(s *status.Status) time.Duration {
	for _, d := range s.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}
