package bridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// domain is that of the ErrorInfo in the server's errors, and in ours.
const domain = "completion.v1"

// ofReading tells the reasons that end a reader's stream from those that end the
// completion: this reader was too slow, or what it had still to read is gone.
func ofReading(info *errdetails.ErrorInfo) bool {
	switch info.GetReason() {
	case completionv1.ErrorReason_SLOW_READER.String(), completionv1.ErrorReason_EVENTS_EXPIRED.String():
		return true
	}
	return false
}

// infoOf returns the detail that names a reason.
func infoOf(reason completionv1.ErrorReason) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: reason.String(), Domain: domain}
}

// invalid returns an error for a request that the bridge itself refuses. The
// field is the part of the request that is wrong: a header, "body", "path".
func invalid(httpStatus int, code codes.Code, field, format string, args ...any) error {
	s := status.New(code, brief(fmt.Sprintf(format, args...), maxWords))
	return &runtime.HTTPStatusError{
		HTTPStatus: httpStatus,
		Err: withDetails(s,
			infoOf(completionv1.ErrorReason_INVALID_REQUEST),
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: s.Message()}}},
		).Err(),
	}
}

// maxWords bounds what is said of a request, in bytes: it may quote it.
const maxWords = 500

// brief returns the beginning of a text, in UTF-8: without it, a status loses its details.
func brief(s string, most int) string {
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// unreachable is what callers learn of a server that cannot be reached, or
// answers what it never should.
func unreachable() *status.Status {
	return withDetails(status.New(codes.Unavailable, "the completion server cannot be reached: try again"),
		infoOf(completionv1.ErrorReason_UPSTREAM_UNAVAILABLE),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
}

// draining is what callers learn of a bridge that stops, in the server's words.
func draining() *status.Status {
	return withDetails(status.New(codes.Unavailable, "the server is stopping: try again"),
		infoOf(completionv1.ErrorReason_DRAINING),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
}

func withDetails(s *status.Status, details ...protoadapt.MessageV1) *status.Status {
	if d, err := s.WithDetails(details...); err == nil { // it fails only for OK
		return d
	}
	return s
}

// errorInfo returns what the server says of an error. It is nil for an error that
// is not the server's: one of the connection to it.
func errorInfo(s *status.Status) *errdetails.ErrorInfo {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			return info
		}
	}
	return nil
}

// explain turns an error into the HTTP status and the status that callers get. A
// fault of the connection to the server is told in our own words: grpc-go's name
// addresses.
func (b *Bridge) explain(err error) (int, *status.Status) {
	var withHTTP *runtime.HTTPStatusError
	if errors.As(err, &withHTTP) {
		return withHTTP.HTTPStatus, status.Convert(withHTTP.Err)
	}
	s := status.Convert(err)
	if tooLarge(s) {
		err = invalid(http.StatusRequestEntityTooLarge, codes.InvalidArgument, "body", "the request is larger than the completion server takes")
		return b.explain(err)
	}
	if errorInfo(s) == nil && s.Code() != codes.Canceled {
		b.config.Log.Warn("call the server", "cause", err)
		s = unreachable()
	}
	return httpStatus(s.Code()), s
}

// tooLarge tells a server's refusal of a request that this bridge had taken: by the
// server, or by grpc-go, which gives no details (rpc_util.go).
func tooLarge(s *status.Status) bool {
	for _, d := range s.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok && len(bad.GetFieldViolations()) == 1 {
			return bad.GetFieldViolations()[0].GetField() == "body"
		}
	}
	return s.Code() == codes.ResourceExhausted && errorInfo(s) == nil && strings.Contains(s.Message(), "larger than max")
}

// writeError answers with an error before a stream has begun.
func (b *Bridge) writeError(w http.ResponseWriter, err error) {
	code, s := b.explain(err)
	h := w.Header()
	if wait := retryAfter(s); wait > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	}
	h.Set("Content-Type", jsonType)
	h.Set("Cache-Control", "no-store")
	body := append(errorBody(code, s), '\n')
	h.Set("Content-Length", strconv.Itoa(len(body)))
	b.setWriteDeadline(w)
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// errorBody is the JSON of an error, on one line: the body of an answer, and the
// data of an error event.
func errorBody(httpStatus int, s *status.Status) []byte {
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
		// A detail of a type that is not linked in cannot be shown.
		if b, err := protojson.Marshal(d); err == nil {
			e.Details = append(e.Details, b)
		}
	}
	b, err := json.Marshal(map[string]body{"error": e})
	if err != nil {
		panic(fmt.Sprintf("bridge: marshal an error: %v", err)) // of strings and numbers
	}
	return b
}

// retryAfter returns how long the server asks the caller to wait, or 0.
func retryAfter(s *status.Status) time.Duration {
	for _, d := range s.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			return retry.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// httpStatus returns the HTTP status for a gRPC code. Where it differs from the
// gateway's table, the contract gives a code one meaning that HTTP has a status
// of its own for.
func httpStatus(code codes.Code) int {
	switch code {
	case codes.OK:
		return http.StatusOK
	case codes.Canceled:
		return 499 // the client closed the request: nginx's
	case codes.InvalidArgument:
		return http.StatusBadRequest
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.FailedPrecondition:
		return http.StatusUnprocessableEntity
	case codes.OutOfRange:
		return http.StatusGone
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.Unknown, codes.Internal, codes.DataLoss:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}
