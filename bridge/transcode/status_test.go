package transcode

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestFaultsKeepTheirCodes checks that what grpc-go says of a connection is told by its code,
// without its words, which name addresses, and that what a server says is told as it is.
func TestFaultsKeepTheirCodes(t *testing.T) {
	for _, c := range []struct {
		code       codes.Code
		message    string
		httpStatus int
		says       string
	}{
		{codes.Unavailable, `connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:9: refused"`, http.StatusServiceUnavailable, "try again"},
		{codes.Internal, "unexpected HTTP status code received from server: 400 (Bad Request)", http.StatusInternalServerError, "as gRPC has it"},
		{codes.Unknown, `unexpected HTTP status code received from server: 415; transport: received unexpected content-type "text/html"`, http.StatusInternalServerError, "as gRPC has it"},
		// The server has noticed the deadline first.
		{codes.DeadlineExceeded, "stream terminated by RST_STREAM with error code: CANCEL", http.StatusGatewayTimeout, "deadline"},
		{codes.Internal, "no such row", http.StatusInternalServerError, "no such row"},
		{codes.NotFound, "dial tcp 10.0.0.1:9 as you like", http.StatusNotFound, "as you like"},
	} {
		httpStatus, s := explain(slog.New(slog.DiscardHandler), status.Error(c.code, c.message), nil)
		if httpStatus != c.httpStatus || s.Code() != c.code || !strings.Contains(s.Message(), c.says) {
			t.Errorf("%v, %s: %d, %v, want %d, %v, … %s", c.code, c.message, httpStatus, s, c.httpStatus, c.code, c.says)
		}
	}
}

// A header that is too large for the server, which has told grpc-go so, is the caller's.
func TestHeaderIsTooLarge(t *testing.T) {
	httpStatus, s := explain(slog.New(slog.DiscardHandler), status.Error(codes.Internal, "header list size to send violates the maximum size (8192 bytes) set by server"), nil)
	if httpStatus != http.StatusRequestHeaderFieldsTooLarge || s.Code() != codes.InvalidArgument {
		t.Errorf("%d, %v", httpStatus, s)
	}
}
