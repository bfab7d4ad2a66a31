package failure

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// The table of reasons as callers rely on it: their names, and their codes.
var table = map[string]codes.Code{
	"INVALID_REQUEST":         codes.InvalidArgument,
	"UNAUTHENTICATED":         codes.Unauthenticated,
	"MODEL_NOT_FOUND":         codes.NotFound,
	"COMPLETION_NOT_FOUND":    codes.NotFound,
	"CURSOR_AHEAD":            codes.Aborted,
	"EVENTS_EXPIRED":          codes.OutOfRange,
	"IDEMPOTENCY_KEY_REUSED":  codes.FailedPrecondition,
	"CONTEXT_LENGTH_EXCEEDED": codes.InvalidArgument,
	"OVERLOADED":              codes.ResourceExhausted,
	"RATE_LIMITED":            codes.ResourceExhausted,
	"UPSTREAM_RATE_LIMITED":   codes.ResourceExhausted,
	"UPSTREAM_REJECTED":       codes.Internal,
	"UPSTREAM_UNAVAILABLE":    codes.Unavailable,
	"UPSTREAM_TRUNCATED":      codes.Unavailable,
	"DRAINING":                codes.Unavailable,
	"OWNER_LOST":              codes.Unavailable,
	"CONNECT_TIMEOUT":         codes.DeadlineExceeded,
	"FIRST_TOKEN_TIMEOUT":     codes.DeadlineExceeded,
	"IDLE_TIMEOUT":            codes.DeadlineExceeded,
	"TOTAL_TIMEOUT":           codes.DeadlineExceeded,
	"SLOW_READER":             codes.ResourceExhausted,
}

func TestStatus(t *testing.T) {
	if len(table) != len(completionv1.ErrorReason_name)-1 {
		t.Errorf("%d reasons are in the table, of %d", len(table), len(completionv1.ErrorReason_name)-1)
	}
	for name, code := range table {
		reason, ok := completionv1.ErrorReason_value[name]
		if !ok {
			t.Errorf("there is no reason %s", name)
			continue
		}
		err := New(Reason(reason), "safe").WithCause(errors.New("secret"))
		s := status.Convert(err)
		if s.Code() != code || s.Message() != "safe" {
			t.Errorf("%s: %v", name, s)
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
		if info.GetReason() != name || info.GetDomain() != "completion.v1" {
			t.Errorf("%s: %v", name, info)
		}
		helps := code == codes.ResourceExhausted || code == codes.Unavailable || code == codes.DeadlineExceeded
		if helps != (retry.GetRetryDelay().AsDuration() > 0) {
			t.Errorf("%s: %v", name, retry)
		}
		if strings.Contains(s.String(), "secret") || !strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the cause is for the log alone", name)
		}
	}
}

func TestInvalidNamesTheFields(t *testing.T) {
	s := InvalidFields(&Violation{Field: "a", Description: "is wrong"}, &Violation{Field: "b.c", Description: "is too"}).GRPCStatus()
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
