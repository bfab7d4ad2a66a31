package bridge

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/http1"
	"github.com/sluice-sse/sluice/bridge/jsonbody"
	"github.com/sluice-sse/sluice/bridge/native"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// completions serves the requests for completions that the generated handlers do not
// serve well enough. Each handler answers, or else returns the error to answer with.
type completions struct {
	client   completionv1.CompletionServiceClient
	mux      *runtime.ServeMux
	streams  *streams
	decoder  jsonbody.Decoder
	draining *atomic.Bool
	closing  *atomic.Bool
	log      *slog.Logger
}

// create serves POST /v1/completions.
func (c *completions) create(w http.ResponseWriter, r *http.Request, _ map[string]string) error {
	mediaType := negotiate(r.Header)
	if mediaType == "" {
		return failure.Invalid(http.StatusNotAcceptable, codes.InvalidArgument, "Accept",
			"accept %s for the events of a completion or %s for the whole of it", eventStream, jsonType)
	}
	req, err := readCompletionRequest(w, r, c.decoder)
	if err != nil {
		return err
	}
	last := r.Header.Get(lastEventIDHeader)
	// With a key, it may be one that runs: the server knows, and begins nothing new when
	// it stops itself.
	if c.draining.Load() && (mediaType == jsonType || last == "") && req.GetIdempotencyKey() == "" {
		return failure.Draining()
	}
	if mediaType == jsonType {
		return c.whole(w, r, req, func() {}, func(ctx context.Context, w http.ResponseWriter, completion *completionv1.Completion, header metadata.MD, err error) {
			native.SetLocation(w.Header(), native.CompletionID(header))
			if err != nil {
				failure.Write(w, c.log, err)
				return
			}
			c.answer(ctx, w, r, completion)
		})
	}
	// A client that repeats its POST after a lost connection means to go on, not
	// to pay again. It may have the end already, and then gets that again, so that
	// it stops.
	if last != "" {
		from, err := readCursor(last)
		if err != nil {
			return err
		}
		c.streams.serve(w, r, c.resumption(from, from.sequence > 0), c.resumption(cursor{from.id, from.sequence - 1}, true))
		return nil
	}
	c.streams.serve(w, r, &streamCall{
		method:  completionv1.CompletionService_StreamCompletion_FullMethodName,
		request: req,
		encoder: &native.Encoder{Draining: c.closing, Log: c.log},
	})
	return nil
}

// events serves GET /v1/completions/{id}/events.
func (c *completions) events(w http.ResponseWriter, r *http.Request, params map[string]string) error {
	from, err := readEventsRequest(r, params["id"])
	if err != nil {
		return err
	}
	c.streams.serve(w, r, c.resumption(from, from.sequence > 0))
	return nil
}

// resumption is the call that goes on after a cursor. The client has had events, or has
// not.
func (c *completions) resumption(from cursor, resumed bool) *streamCall {
	return &streamCall{
		method:  completionv1.CompletionService_ResumeCompletion_FullMethodName,
		request: &completionv1.ResumeCompletionRequest{Id: from.id, AfterSequence: from.sequence},
		encoder: &native.Encoder{Draining: c.closing, Log: c.log, Last: from.sequence, Resumed: resumed},
		resumes: true,
	}
}

// eventsHead serves HEAD /v1/completions/{id}/events: the status and the headers of the
// GET, out of the completion's state. It does not read the events, which would wait for
// the next one, and make it a reader: when it leaves, the grace would begin anew.
func (c *completions) eventsHead(w http.ResponseWriter, r *http.Request, params map[string]string) error {
	from, err := readEventsRequest(r, params["id"])
	if err != nil {
		return err
	}
	ctx, err := runtime.AnnotateContext(r.Context(), c.mux, r, completionv1.CompletionService_GetCompletion_FullMethodName)
	if err != nil {
		return err
	}
	completion, err := c.client.GetCompletion(ctx, &completionv1.GetCompletionRequest{Id: from.id})
	ended := completion.GetState() != completionv1.Completion_RUNNING
	switch last := completion.GetLastSequence(); {
	case err != nil:
		return err
	case from.sequence > last:
		return failure.CursorAhead()
	case from.sequence == last && ended:
		w.WriteHeader(http.StatusNoContent)
	default:
		setStreamHeader(w.Header(), &native.Encoder{}, native.Header(from.id))
		w.WriteHeader(http.StatusOK)
	}
	return nil
}

// whole answers with the completion in one piece, or with why there is none, unless nobody
// waits for it any more. Then it calls done.
func (c *completions) whole(w http.ResponseWriter, r *http.Request, req *completionv1.CompletionRequest, done func(),
	answer func(ctx context.Context, w http.ResponseWriter, completion *completionv1.Completion, header metadata.MD, err error)) error {
	ctx, err := runtime.AnnotateContext(r.Context(), c.mux, r, completionv1.CompletionService_CreateCompletion_FullMethodName)
	if err != nil {
		done()
		return err
	}
	o := observationOf(w)
	c.streams.respond(w, r, ctx, func(ctx *http1.Context, w http.ResponseWriter) bool {
		defer done()
		var header metadata.MD
		completion, err := c.client.CreateCompletion(ctx, req, grpc.Header(&header))
		o.names(native.CompletionID(header))
		o.fail(err)
		if ctx.Err() != nil { // the client has left, or the drain is over
			return false
		}
		answer(ctx, w, completion, header, err)
		return true
	})
	return nil
}

// cancel serves POST /v1/completions:cancel. The generated handler would do, but
// that it takes any Content-Type, and what stands behind the JSON.
func (c *completions) cancel(w http.ResponseWriter, r *http.Request, _ map[string]string) error {
	req := &completionv1.CancelCompletionRequest{}
	if err := readMessage(w, r, c.decoder, req, `JSON such as {"idempotencyKey":"…"}`); err != nil {
		return err
	}
	ctx, err := runtime.AnnotateContext(r.Context(), c.mux, r, completionv1.CompletionService_CancelCompletion_FullMethodName)
	if err != nil {
		return err
	}
	completion, err := c.client.CancelCompletion(ctx, req)
	if err != nil {
		return err
	}
	c.answer(ctx, w, r, completion)
	return nil
}

// answer answers with a message, as the generated handlers do.
func (c *completions) answer(ctx context.Context, w http.ResponseWriter, r *http.Request, m proto.Message) {
	_, marshaler := runtime.MarshalerForRequest(c.mux, r)
	runtime.ForwardResponseMessage(ctx, c.mux, marshaler, w, r, m, setNoStore)
}

// setNoStore is called before each answer that is a message.
func setNoStore(_ context.Context, w http.ResponseWriter, _ proto.Message) error {
	w.Header().Set("Cache-Control", "no-store")
	return nil
}
