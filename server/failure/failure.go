// Package failure holds the ways in which a completion can fail: the table of
// reasons that callers may rely on, as errors that are gRPC statuses.
//
// An Error says two things to two people. Its status, with the reason and the
// message, is for callers and gives away nothing of the upstream; its cause is
// for the operator's log.
package failure

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Domain is the domain of the ErrorInfo that every error carries.
const Domain = "completion.v1"

// A Reason is why a call or a completion failed, in a word for programs. The API
// defines them, and says what each means.
type Reason = completionv1.ErrorReason

// The API's reasons, by names that are shorter.
const (
	InvalidRequest        = completionv1.ErrorReason_INVALID_REQUEST
	Unauthenticated       = completionv1.ErrorReason_UNAUTHENTICATED
	ModelNotFound         = completionv1.ErrorReason_MODEL_NOT_FOUND
	CompletionNotFound    = completionv1.ErrorReason_COMPLETION_NOT_FOUND
	CursorAhead           = completionv1.ErrorReason_CURSOR_AHEAD
	EventsExpired         = completionv1.ErrorReason_EVENTS_EXPIRED
	IdempotencyKeyReused  = completionv1.ErrorReason_IDEMPOTENCY_KEY_REUSED
	ContextLengthExceeded = completionv1.ErrorReason_CONTEXT_LENGTH_EXCEEDED
	Overloaded            = completionv1.ErrorReason_OVERLOADED
	RateLimited           = completionv1.ErrorReason_RATE_LIMITED
	UpstreamRateLimited   = completionv1.ErrorReason_UPSTREAM_RATE_LIMITED
	UpstreamRejected      = completionv1.ErrorReason_UPSTREAM_REJECTED
	UpstreamUnavailable   = completionv1.ErrorReason_UPSTREAM_UNAVAILABLE
	UpstreamTruncated     = completionv1.ErrorReason_UPSTREAM_TRUNCATED
	Draining              = completionv1.ErrorReason_DRAINING
	OwnerLost             = completionv1.ErrorReason_OWNER_LOST
	ConnectTimeout        = completionv1.ErrorReason_CONNECT_TIMEOUT
	FirstTokenTimeout     = completionv1.ErrorReason_FIRST_TOKEN_TIMEOUT
	IdleTimeout           = completionv1.ErrorReason_IDLE_TIMEOUT
	TotalTimeout          = completionv1.ErrorReason_TOTAL_TIMEOUT
	SlowReader            = completionv1.ErrorReason_SLOW_READER
)

// Code returns the gRPC code that errors with a reason have, and Unknown for what
// is no reason.
func Code(r Reason) codes.Code {
	switch r {
	case InvalidRequest, ContextLengthExceeded:
		return codes.InvalidArgument
	case Unauthenticated:
		return codes.Unauthenticated
	case ModelNotFound, CompletionNotFound:
		return codes.NotFound
	case CursorAhead:
		return codes.Aborted
	case EventsExpired:
		return codes.OutOfRange
	case IdempotencyKeyReused:
		return codes.FailedPrecondition
	case Overloaded, RateLimited, UpstreamRateLimited, SlowReader:
		return codes.ResourceExhausted
	case UpstreamRejected:
		return codes.Internal
	case UpstreamUnavailable, UpstreamTruncated, Draining, OwnerLost:
		return codes.Unavailable
	case ConnectTimeout, FirstTokenTimeout, IdleTimeout, TotalTimeout:
		return codes.DeadlineExceeded
	}
	return codes.Unknown
}

// retryDelay is what RetryInfo says when nobody named a time, and 0 for the
// reasons for which trying again does not help.
func retryDelay(r Reason) time.Duration {
	switch Code(r) {
	case codes.ResourceExhausted, codes.Unavailable, codes.DeadlineExceeded:
		return time.Second
	}
	return 0
}

// An Error is a failure with a reason. It is immutable: the With methods return
// copies.
type Error struct {
	Reason  Reason
	Message string // for callers: safe, and says what to do where there is something

	cause      error
	limit      string // that was reached; "": it was none
	ofReader   bool   // it ends a reader's stream, and not the completion
	retryAfter time.Duration
	violations []*Violation
}

// New returns an error with a reason and a message for callers.
func New(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Message: fmt.Sprintf(format, args...), retryAfter: retryDelay(r)}
}

// A Violation says what is wrong with one field of a request.
type Violation = errdetails.BadRequest_FieldViolation

// Invalid returns an INVALID_REQUEST that names the one field that is wrong.
func Invalid(field, format string, args ...any) *Error {
	return InvalidFields(&Violation{Field: field, Description: fmt.Sprintf(format, args...)})
}

// InvalidFields returns an INVALID_REQUEST that names every field that is wrong.
func InvalidFields(violations ...*Violation) *Error {
	words := make([]string, len(violations))
	for i, v := range violations {
		words[i] = v.Field + ": " + v.Description
	}
	e := New(InvalidRequest, "%s", strings.Join(words, "; "))
	e.violations = violations
	return e
}

// WithCause returns a copy of e with what really happened, for the log.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.cause = err
	return &c
}

// WithLimit returns a copy of e that names the limit which was reached, such as
// max_running: the flag that sets it.
func (e *Error) WithLimit(name string) *Error {
	c := *e
	c.limit = name
	return &c
}

// OfReader returns a copy of e that says that it ends a reader's stream alone, and not the
// completion: whoever resumes it misses nothing.
func (e *Error) OfReader() *Error {
	c := *e
	c.ofReader = true
	return &c
}

// WithRetryAfter returns a copy of e that asks callers to wait for d before they
// try again. A d that is not positive changes nothing.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	if d > 0 {
		c.retryAfter = d
	}
	return &c
}

// Error returns the message for callers and then the cause: it is for the log.
func (e *Error) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("%s: %s", e.Reason, e.Message)
	}
	return fmt.Sprintf("%s: %s: %v", e.Reason, e.Message, e.cause)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// GRPCStatus returns the status that callers get: no word of the cause in it.
// grpc-go calls it by itself on an error that a handler returns.
func (e *Error) GRPCStatus() *status.Status {
	s := status.New(Code(e.Reason), e.Message)
	info := &errdetails.ErrorInfo{Reason: e.Reason.String(), Domain: Domain}
	switch {
	case e.limit != "":
		info.Metadata = map[string]string{"limit": e.limit}
	case e.ofReader:
		info.Metadata = map[string]string{"ends": "reader"}
	}
	details := []protoadapt.MessageV1{info}
	if e.retryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.retryAfter)})
	}
	if len(e.violations) > 0 {
		details = append(details, &errdetails.BadRequest{FieldViolations: e.violations})
	}
	// It fails only for a status that is OK, which no reason has.
	if d, err := s.WithDetails(details...); err == nil {
		return d
	}
	return s
}
