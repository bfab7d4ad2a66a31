package openai

import (
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge/native"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

func TestRefusal(t *testing.T) {
	for _, tt := range []struct {
		reason completionv1.ErrorReason
		code   codes.Code
		began  bool
		keyed  bool
		retry  string
	}{
		{completionv1.ErrorReason_DRAINING, codes.Unavailable, false, false, "true"},
		{completionv1.ErrorReason_DRAINING, codes.Unavailable, true, false, "false"},
		{completionv1.ErrorReason_OVERLOADED, codes.ResourceExhausted, false, true, "true"},
		{completionv1.ErrorReason_OVERLOADED, codes.ResourceExhausted, true, false, "false"},
		{completionv1.ErrorReason_UPSTREAM_RATE_LIMITED, codes.ResourceExhausted, true, false, "true"},
		{completionv1.ErrorReason_UPSTREAM_RATE_LIMITED, codes.ResourceExhausted, true, true, "false"},
		{completionv1.ErrorReason_CONNECT_TIMEOUT, codes.DeadlineExceeded, true, false, "true"},
		{completionv1.ErrorReason_UPSTREAM_UNAVAILABLE, codes.Unavailable, true, false, "false"},
		{completionv1.ErrorReason_UPSTREAM_UNAVAILABLE, codes.Unavailable, false, false, "true"},
		{completionv1.ErrorReason_UPSTREAM_REJECTED, codes.Internal, true, false, "false"},
		{completionv1.ErrorReason_FIRST_TOKEN_TIMEOUT, codes.DeadlineExceeded, true, false, "false"},
		{completionv1.ErrorReason_IDLE_TIMEOUT, codes.DeadlineExceeded, true, false, "false"},
		{completionv1.ErrorReason_OWNER_LOST, codes.Unavailable, true, false, "false"},
		{completionv1.ErrorReason_CURSOR_AHEAD, codes.Aborted, false, false, "false"},
		{completionv1.ErrorReason_ERROR_REASON_UNSPECIFIED, codes.Unavailable, false, false, "false"}, // nobody knows
	} {
		e := &Encoder{Log: discard(), Keyed: tt.keyed}
		if tt.began {
			e.Begin(native.Header(testID))
		}
		err := status.Error(tt.code, "why")
		if tt.reason != 0 {
			err = statusError(tt.code, tt.reason)
		}
		w := httptest.NewRecorder()
		e.Refuse(w, err)
		if got := w.Header().Get("X-Should-Retry"); got != tt.retry {
			t.Errorf("%v, begun %v, with a key %v: x-should-retry is %s", tt.reason, tt.began, tt.keyed, got)
		}
		if location := w.Header().Get("Location"); (location != "") != tt.began {
			t.Errorf("%v: Location is %q", tt.reason, location)
		}
	}
}
