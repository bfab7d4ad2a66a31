package bridge

import (
	"net/http"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestNegotiate(t *testing.T) {
	tests := []struct{ accept, want string }{
		{"", eventStream},
		{" ", eventStream},
		{"*/*", eventStream},
		{"text/event-stream", eventStream},
		{"text/*", eventStream},
		{"TEXT/Event-Stream; charset=utf-8", eventStream},
		{"application/json, text/event-stream", eventStream}, // MCP's, and openai-python's
		{"application/json;q=1, text/event-stream;q=0.1", eventStream},
		{"text/event-stream, */*", eventStream}, // what the gateway takes for JSON
		{"application/json, text/event-stream;q=0", jsonType},
		{"*/*, text/event-stream;q=0", jsonType},
		{"application/json", jsonType},
		{"application/*", jsonType},
		{"application/json;q=0.5", jsonType},
		{"application/json, */*", jsonType},
		{"application/json, text/plain, */*", jsonType}, // axios's
		{"application/json;q=0.5, */*", eventStream},
		{"application/json;q=0, */*", eventStream},
		{"text/html, application/xhtml+xml, */*;q=0.8", eventStream},
		{"image/png", ""},
		{"text/plain", ""},
		{"text/event-stream;q=0", ""},
		{"*/*;q=0", ""},
		{"text/event-stream;q=x", ""},
		{";;", ""},
	}
	for _, tt := range tests {
		if got := negotiate(http.Header{"Accept": {tt.accept}}); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.accept, got, tt.want)
		}
	}
	if got := negotiate(http.Header{"Accept": {"image/png", "application/json"}}); got != jsonType {
		t.Errorf("two headers: %q", got)
	}
}

func TestHTTPStatus(t *testing.T) {
	want := map[codes.Code]int{
		codes.OK: 200, codes.Canceled: 499, codes.Unknown: 500, codes.InvalidArgument: 400, codes.DeadlineExceeded: 504,
		codes.NotFound: 404, codes.AlreadyExists: 409, codes.PermissionDenied: 403, codes.ResourceExhausted: 429,
		codes.FailedPrecondition: 422, codes.Aborted: 409, codes.OutOfRange: 410, codes.Unimplemented: 501,
		codes.Internal: 500, codes.Unavailable: 503, codes.DataLoss: 500, codes.Unauthenticated: 401,
	}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if got := httpStatus(code); got != want[code] {
			t.Errorf("%v: %d, want %d", code, got, want[code])
		}
	}
}
