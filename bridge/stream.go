package bridge

import (
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/http1"
)

// streams answers requests with the streams of a server, whatever their face.
type streams struct {
	conn   grpc.ClientConnInterface
	conns  *http1.Conns
	mux    *runtime.ServeMux // which knows what of a request goes on to the server
	timing timing
	log    *slog.Logger
}

// streamCall is a stream to be opened on the server, and what is made of it.
type streamCall struct {
	method  string
	request proto.Message // until it is sent
	encoder Encoder
	timeout time.Duration     // of the call; 0: none
	options []grpc.CallOption // of a connection that is not in this process
	resumes bool              // the completion was there before the request
	done    func()            // called when the response has ended; nil: nothing is
}

// serve answers a request with the stream of a call. If that has nothing in it, it does so
// with the next call's, which is of the same method.
//
// It returns when the response has ended, or has got a connection and a goroutine
// of its own.
func (s *streams) serve(w http.ResponseWriter, r *http.Request, calls ...*streamCall) {
	ctx, err := runtime.AnnotateContext(r.Context(), s.mux, r, calls[0].method)
	if err != nil {
		observationOf(w).fail(err)
		calls[0].encoder.Refuse(w, err)
		calls[0].end()
		return
	}
	a := &streamAnswer{streams: s, first: calls[0], calls: calls, http2: r.ProtoMajor == 2, observation: observationOf(w)}
	s.respond(w, r, ctx, func(ctx *http1.Context, w http.ResponseWriter) (whole bool) {
		defer a.close()
		for a.begin(ctx, w) {
			rest, ended := receive(a.response, s.conn, a.call)
			if err := a.end(w, rest, ended); err != errRefused {
				return err == nil
			}
		}
		return true
	})
}

// streamAnswer is the answer to a request: the stream of one of its calls. What is not for
// as long as that lasts is in functions of its own: a stream that waits is to have little on
// its stack.
type streamAnswer struct {
	*streams
	first       *streamCall
	calls       []*streamCall // that are still to be tried
	http2       bool
	observation *observation

	// Of the call that is tried.
	response *response
	call     *streamCall
}

// begin begins the response with the stream of the next call, if there is one.
func (a *streamAnswer) begin(ctx *http1.Context, w http.ResponseWriter) bool {
	if len(a.calls) == 0 {
		return false
	}
	a.call, a.calls = a.calls[0], a.calls[1:]
	a.response = newResponse(&a.timing, ctx, w, a.http2, a.call, a.log)
	return true
}

// end ends the response. It returns errRefused if nothing is written, and the next call is
// to be tried.
func (a *streamAnswer) end(w http.ResponseWriter, rest *[]byte, ended error) error {
	a.observation.names(a.response.id)
	if a.observation.fail(nil); ended != io.EOF {
		a.observation.fail(ended)
	}
	err := a.response.end(rest, ended)
	if err == errRefused && (ended != io.EOF || len(a.calls) == 0) {
		a.call.encoder.Refuse(w, ended)
		return nil
	}
	return err
}

// close ends what is left, after a panic, too.
func (a *streamAnswer) close() {
	if a.response != nil {
		a.response.close()
	}
	a.first.end()
}

// takeRequest returns the request, which is not to be held for as long as the stream
// lasts: it may be a long conversation.
func (c *streamCall) takeRequest() proto.Message {
	request := c.request
	c.request = nil
	return request
}

func (c *streamCall) end() {
	if c.done != nil {
		c.done()
	}
}
