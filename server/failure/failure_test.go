package failure

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The table of reasons as callers rely on it.
var table = map[Reason]codes.Code{
	InvalidRequest:        codes.InvalidArgument,
	Unauthenticated:       codes.Unauthenticated,
	ModelNotFound:         codes.NotFound,
	CompletionNotFound:    codes.NotFound,
	CursorAhead:           codes.Aborted,
	EventsExpired:         codes.OutOfRange,
	IdempotencyKeyReused:  codes.FailedPrecondition,
	ContextLengthExceeded: codes.InvalidArgument,
	Overloaded:            codes.ResourceExhausted,
	RateLimited:           codes.ResourceExhausted,
	UpstreamRateLimited:   codes.ResourceExhausted,
	UpstreamRejected:      codes.Internal,
	UpstreamUnavailable:   codes.Unavailable,
	UpstreamTruncated:     codes.Unavailable,
	Draining:              codes.Unavailable,
	OwnerLost:             codes.Unavailable,
	ConnectTimeout:        codes.DeadlineExceeded,
	FirstTokenTimeout:     codes.DeadlineExceeded,
	IdleTimeout:           codes.DeadlineExceeded,
	TotalTimeout:          codes.DeadlineExceeded,
	SlowReader:            codes.ResourceExhausted,
}

func TestStatus(t *testing.T) {
	for reason, code := range table {
		err := New(reason, "safe").WithCause(errors.New("secret"))
		s := status.Convert(err)
		if s.Code() != code || s.Message() != "safe" {
			t.Errorf("%s: %v", reason, s)
		}
		var info *errdetails.ErrorInfo
		var retry *errdetails.RetryInfo
		for _, d := range s.Details() {
			switch d := d.(type) {
			case *errdetails.ErrorInfo:
				info = d
			case *errdetails.RetryInfo:
				retry = d
			}
		}
		if info.GetReason() != string(reason) || info.GetDomain() != "completion.v1" {
			t.Errorf("%s: %v", reason, info)
		}
		helps := code == codes.ResourceExhausted || code == codes.Unavailable || code == codes.DeadlineExceeded
		if helps != (retry.GetRetryDelay().AsDuration() > 0) {
			t.Errorf("%s: %v", reason, retry)
		}
		if strings.Contains(s.String(), "secret") || !strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the cause is for the log alone", reason)
		}
	}
}

func TestInvalidNamesTheFields(t *testing.T) {
	s := InvalidFields(Violation{"a", "is wrong"}, Violation{"b.c", "is too"}).GRPCStatus()
	for _, d := range s.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			v := bad.GetFieldViolations()
			if len(v) != 2 || v[0].GetField() != "a" || v[1].GetField() != "b.c" || s.Message() != "a: is wrong; b.c: is too" {
				t.Errorf("got %v", s.Proto())
			}
			return
		}
	}
	t.Errorf("no BadRequest in %v", s.Proto())
}

func TestRetryAfter(t *testing.T) {
	err := New(Overloaded, "x")
	if err.WithRetryAfter(time.Minute).retryAfter != time.Minute || err.WithRetryAfter(0).retryAfter != time.Second || err.retryAfter != time.Second {
		t.Error("WithRetryAfter changes what it must not, or not what it must")
	}
}
