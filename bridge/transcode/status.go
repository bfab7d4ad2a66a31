package transcode

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/wirejson"
)

// Unreachable is what callers are told when the server cannot be reached.
func Unreachable() error {
	return status.Error(codes.Unavailable, "the server cannot be reached: try again")
}

var errUnreadable = status.Error(codes.Internal, "the server has sent a message that cannot be read")

// explain turns an error into the HTTP status, by the gateway's table, and the status that
// callers get: the server's own, with its message and details. A fault of the connection to
// it keeps the code that gRPC has for it, such as INTERNAL for an answer of 400, and is told
// in our own words, for grpc-go's name addresses; these go to the log.
//
// The trailer is that of the call. What comes with one is the server's, whatever it says; an
// error before the first message has always one, for grpc-go counts its content-type.
func explain(log *slog.Logger, err error, trailer metadata.MD) (int, *status.Status) {
	var withHTTP *runtime.HTTPStatusError
	if errors.As(err, &withHTTP) {
		return withHTTP.HTTPStatus, status.Convert(withHTTP.Err)
	}
	s := status.Convert(err)
	if strings.HasPrefix(s.Message(), "header list size to send") && s.Code() == codes.Internal { // by grpc-go, as the server has said how much it takes
		return explain(log, failure.Invalid(http.StatusRequestHeaderFieldsTooLarge, codes.InvalidArgument, "headers", "the headers that go to the server are larger than it takes"), nil)
	}
	if len(trailer) == 0 && ofConnection(s) {
		log.Warn("call the server", "cause", err)
		s = faulty(s.Code())
	}
	return runtime.HTTPStatusFromCode(s.Code()), s
}

// faulty is the status of a fault of the connection.
func faulty(code codes.Code) *status.Status {
	switch code {
	case codes.Unavailable:
		return status.Convert(Unreachable())
	case codes.DeadlineExceeded:
		return status.New(code, "the deadline has passed")
	default:
		return status.New(code, "the server has not answered as gRPC has it")
	}
}

// ofConnection tells grpc-go's own words for a lost or a missing connection from what a
// server has said without a trailer. Only grpc-go's stats would tell for sure, which cost
// something for each message. The words stand in clientconn.go, picker_wrapper.go,
// pickfirst.go and internal/transport/http2_client.go.
func ofConnection(s *status.Status) bool {
	switch s.Code() {
	case codes.Unavailable, codes.Unknown, codes.DeadlineExceeded, codes.Internal:
	default:
		return false
	}
	if len(s.Proto().GetDetails()) > 0 {
		return false
	}
	for _, words := range []string{
		"connection error: ", "error reading from server: ", "error reading server preface: ", "transport: ", "closing transport due to",
		"keepalive ping failed", "latest balancer error: ", "last connection error: ", "last resolver error: ", "name resolver error: ",
		"no children to pick from", "produced zero addresses", "the connection is draining", "the connection is closing", "write tcp ", "read tcp ",
		"the client connection is closing", "server closed the stream without sending trailers", "stream terminated by RST_STREAM",
		"unexpected HTTP status code received from server", "credentials require transport level security", "dial tcp ",
	} {
		if strings.Contains(s.Message(), words) {
			return true
		}
	}
	return false
}

// errorJSON returns the JSON of an error, with details of the server's own types.
func errorJSON(types *wirejson.Types, httpStatus int, s *status.Status) []byte {
	w := types.Writer((*anypb.Any)(nil).ProtoReflect().Descriptor())
	return failure.JSONWith(httpStatus, s, func(detail *anypb.Any) ([]byte, error) {
		return w.AppendAny(nil, detail)
	})
}

// WriteError answers a request with an error that is no method's.
func WriteError(w http.ResponseWriter, log *slog.Logger, err error) {
	code, s := explain(log, err, nil)
	failure.WriteBody(w, code, s, failure.JSON(code, s))
}

// WriteError answers a request with an error of a method's, and its trailer.
func (m *Method) WriteError(w http.ResponseWriter, log *slog.Logger, err error, trailer metadata.MD) {
	code, s := explain(log, err, trailer)
	failure.WriteBody(w, code, s, errorJSON(m.table.types, code, s))
}
