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
	http2, o := r.ProtoMajor == 2, observationOf(w)
	s.respond(w, r, ctx, func(ctx *http1.Context, w http.ResponseWriter) (whole bool) {
		defer calls[0].end()
		for i, c := range calls {
			response := newResponse(&s.timing, ctx, w, http2, c, s.log)
			defer response.close() // after a panic
			rest, ended := receive(response, s.conn, c)
			o.names(response.id)
			if o.fail(nil); ended != io.EOF {
				o.fail(ended)
			}
			err := response.end(rest, ended)
			if err != errRefused {
				return err == nil
			}
			if ended != io.EOF || i == len(calls)-1 {
				c.encoder.Refuse(w, ended)
				break
			}
		}
		return true
	})
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
