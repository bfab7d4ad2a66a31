// Package failure is what a caller is told of an error: an HTTP status, and a
// google.rpc.Status whose JSON is the body of an answer, or an error in a stream.
package failure

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// domain is that of the ErrorInfo in the server's errors, and in ours.
const domain = "completion.v1"

// Invalid returns an error for a request that the bridge itself refuses. The
// field is the part of the request that is wrong: a header, "body", "path".
func Invalid(httpStatus int, code codes.Code, field, format string, args ...any) error {
	s := status.New(code, truncate(fmt.Sprintf(format, args...), maxMessage))
	return &runtime.HTTPStatusError{
		HTTPStatus: httpStatus,
		Err: withDetails(s,
			infoOf(completionv1.ErrorReason_INVALID_REQUEST),
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: s.Message()}}},
		).Err(),
	}
}

// Overloaded returns what callers are told when the bridge itself has reached a limit,
// which is named as the server names its own: as the flag that sets it.
func Overloaded(message, limit string) error {
	info := infoOf(completionv1.ErrorReason_OVERLOADED)
	info.Metadata = map[string]string{"limit": limit}
	return withDetails(status.New(codes.ResourceExhausted, message), info,
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}).Err()
}

// Draining returns what callers are told by a bridge that stops, in the server's words.
func Draining() error {
	return withDetails(status.New(codes.Unavailable, "the server is stopping and begins no new completions: try again"),
		infoOf(completionv1.ErrorReason_DRAINING),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}).Err()
}

// Fault returns what callers are told of a panic, in the server's words. There is no reason
// for it: this one says that they are not to blame, and need not try again.
func Fault() error {
	return withDetails(status.New(codes.Internal, "the server has a fault, of which its log tells"),
		infoOf(completionv1.ErrorReason_UPSTREAM_REJECTED)).Err()
}

// Stopping is Draining for what is no completion.
func Stopping() error {
	return withDetails(status.New(codes.Unavailable, "the server is stopping: try again"),
		infoOf(completionv1.ErrorReason_DRAINING),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}).Err()
}

// CursorAhead returns what callers are told who want to go on after an event that does
// not exist.
func CursorAhead() error {
	return withDetails(status.New(codes.Aborted, "the completion has no event with that sequence yet"),
		infoOf(completionv1.ErrorReason_CURSOR_AHEAD)).Err()
}

// CompletionNotFound returns what callers are told who name a completion that cannot be, in
// the server's words for one that is not.
func CompletionNotFound() error {
	return withDetails(status.New(codes.NotFound, "no such completion"),
		infoOf(completionv1.ErrorReason_COMPLETION_NOT_FOUND)).Err()
}

// ModelNotFound returns what callers are told who ask for a model that is not listed.
func ModelNotFound(id string) error {
	return withDetails(status.Newf(codes.NotFound, "no model %q", Clip(id)),
		infoOf(completionv1.ErrorReason_MODEL_NOT_FOUND)).Err()
}

// unreachable is what callers learn of a server that cannot be reached, or
// answers what it never should.
func unreachable() *status.Status {
	return withDetails(status.New(codes.Unavailable, "the completion server cannot be reached: try again"),
		infoOf(completionv1.ErrorReason_UPSTREAM_UNAVAILABLE),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
}

// infoOf returns the detail that names a reason.
func infoOf(reason completionv1.ErrorReason) *errdetails.ErrorInfo {
	return &errdetails.ErrorInfo{Reason: reason.String(), Domain: domain}
}

func withDetails(s *status.Status, details ...protoadapt.MessageV1) *status.Status {
	if d, err := s.WithDetails(details...); err == nil { // it fails only for OK
		return d
	}
	return s
}

// maxMessage bounds what is said of a request, in bytes: it may quote it.
const maxMessage = 500

// Clip bounds a value that goes back to its sender in a message.
func Clip(s string) string { return truncate(s, 64) }

// truncate returns the beginning of a text, in UTF-8: without it, a status loses its details.
func truncate(s string, most int) string {
	if len(s) > most {
		for most > 0 && !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// Reason returns the reason that the server gives for an error. It is "" for an error
// that is not the server's: one of the connection to it.
func Reason(err error) string { return reasonOf(status.Convert(err)) }

func reasonOf(s *status.Status) string { return errorInfo(s).GetReason() }

// errorInfo returns that of a status, or nil.
func errorInfo(s *status.Status) *errdetails.ErrorInfo {
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			return info
		}
	}
	return nil
}

// OfCompletion tells the error in which a completion has ended from one that ends a
// reader's stream alone: the server cannot be reached, this reader was too slow, what
// it had still to read is gone, or the server says that it is one.
func OfCompletion(err error) bool {
	info := errorInfo(status.Convert(err))
	if info.GetMetadata()["ends"] == "reader" {
		return false
	}
	switch info.GetReason() {
	case "", completionv1.ErrorReason_SLOW_READER.String(), completionv1.ErrorReason_EVENTS_EXPIRED.String():
		return false
	}
	return true
}

// Explain turns an error into the HTTP status and the status that callers get. A
// fault of the connection to the server is told in our own words, for grpc-go's name
// addresses; these go to the log.
func Explain(log *slog.Logger, err error) (int, *status.Status) {
	var withHTTP *runtime.HTTPStatusError
	if errors.As(err, &withHTTP) {
		return withHTTP.HTTPStatus, status.Convert(withHTTP.Err)
	}
	s := status.Convert(err)
	if tooLarge(s) {
		err = Invalid(http.StatusRequestEntityTooLarge, codes.InvalidArgument, "body", "the request is larger than the completion server takes")
		return Explain(log, err)
	}
	if headerTooLarge(s) {
		err = Invalid(http.StatusBadRequest, codes.InvalidArgument, "header", "the header is larger than the completion server takes")
		return Explain(log, err)
	}
	if reasonOf(s) == "" && s.Code() != codes.Canceled {
		log.Warn("call the server", "cause", err)
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
	return s.Code() == codes.ResourceExhausted && reasonOf(s) == "" && strings.Contains(s.Message(), "larger than max")
}

// headerTooLarge tells that a header does not go on to a server which has said how large one
// may be (grpc-go's internal/transport/http2_client.go).
func headerTooLarge(s *status.Status) bool {
	return s.Code() == codes.Internal && reasonOf(s) == "" && strings.HasPrefix(s.Message(), "header list size to send")
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
