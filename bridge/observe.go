package bridge

import (
	"errors"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	codepb "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// Answer is what has become of a request.
type Answer struct {
	Route  string // the pattern of its path, such as /v1/completions/{id=*}; "": there is none
	Status int    // over HTTP; 0: nothing was answered
	Cut    bool   // the client has left, or the response could not go on
	Method string // that is exposed and was called, as gRPC has it; "": none was
	ID     string // of the completion that the server has named; "": none

	// Err is why the request was refused, if there is no ID. If there is one, that is
	// how the completion has ended, or only the reading of it.
	Err error
}

// Info returns what an error says for programs: the reason, "" if it has none, and the
// limit that was reached, "" if it was none. The reason of a method that is exposed is the
// name of its status: what else it says may be anything.
func (a Answer) Info() (reason, limit string) {
	err := a.Err
	var withHTTP *runtime.HTTPStatusError
	if errors.As(err, &withHTTP) {
		err = withHTTP.Err
	}
	if a.Method != "" && err != nil && failure.Reason(err) == "" {
		return codepb.Code(status.Code(err)).String(), ""
	}
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason(), info.GetMetadata()["limit"]
		}
	}
	return "", ""
}

// observation is of one request, and belongs to the goroutine that answers it. The nil
// one is that of a request which nobody observes.
type observation struct {
	answer    Answer
	done      func(Answer)
	elsewhere bool // the response goes on when the handler has returned
}

// observationOf returns the one of a request, given the http.ResponseWriter that its
// handler has got.
func observationOf(w http.ResponseWriter) *observation {
	if b, ok := w.(*boundedWriter); ok {
		return b.observation
	}
	return nil
}

// fail notes an error.
func (o *observation) fail(err error) {
	if o != nil {
		o.answer.Err = err
	}
}

// names notes which completion it is.
func (o *observation) names(id string) {
	if o != nil {
		o.answer.ID = id
	}
}

// end tells of the answer when the handler returns or panics, unless that is not the end.
func (o *observation) end() {
	if o != nil && !o.elsewhere {
		o.done(o.answer)
	}
}

// noteRoute is a middleware of the gateway's mux.
func noteRoute(next runtime.HandlerFunc) runtime.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request, params map[string]string) {
		if o := observationOf(w); o != nil {
			if pattern, ok := runtime.HTTPPattern(r.Context()); ok {
				o.answer.Route = pattern.String()
			}
		}
		next(w, r, params)
	}
}

// Follow implements http1.Follower.
func (w *boundedWriter) Follow() (ended func(status int, whole bool)) {
	o := w.observation
	if o == nil {
		return func(int, bool) {}
	}
	o.elsewhere = true
	return func(status int, whole bool) {
		o.answer.Status, o.answer.Cut = status, !whole
		o.done(o.answer)
	}
}
