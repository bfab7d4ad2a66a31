package bridge

import (
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge/http1"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

const (
	completionsPath   = "/v1/completions"
	lastEventIDHeader = "Last-Event-ID"
)

// complete serves POST /v1/completions.
func (b *Bridge) complete(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	form := negotiate(r.Header)
	if form == "" {
		b.writeError(w, invalid(http.StatusNotAcceptable, codes.InvalidArgument, "Accept",
			"accept %s for the events of a completion or %s for the whole of it", eventStream, jsonType))
		return
	}
	req, err := b.readRequest(w, r)
	if err != nil {
		b.writeError(w, err)
		return
	}
	last := r.Header.Get(lastEventIDHeader)
	// With a key, it may be one that runs: the server knows, and begins nothing new when
	// it stops itself.
	if b.draining.Load() && (form == jsonType || last == "") && req.GetIdempotencyKey() == "" {
		b.writeError(w, draining().Err())
		return
	}
	if form == jsonType {
		b.whole(w, r, req)
		return
	}
	// A client that repeats its POST after a lost connection means to go on, not
	// to pay again. It may have the end already, and then gets that again, so that
	// it stops.
	if last != "" {
		from, err := readCursor(last)
		if err != nil {
			b.writeError(w, err)
			return
		}
		again := b.resumed(cursor{from.id, from.sequence - 1})
		again.begun = true
		b.serve(w, r, from, b.resumed(from), again)
		return
	}
	b.serve(w, r, cursor{}, &call{method: completionv1.CompletionService_StreamCompletion_FullMethodName, request: req}, nil)
}

// resume serves GET /v1/completions/{id}/events.
func (b *Bridge) resume(w http.ResponseWriter, r *http.Request, params map[string]string) {
	from, err := wantsEvents(r, params["id"])
	if err != nil {
		b.writeError(w, err)
		return
	}
	b.serve(w, r, from, b.resumed(from), nil)
}

// resumed is the call that goes on after a cursor.
func (b *Bridge) resumed(from cursor) *call {
	return &call{
		method:  completionv1.CompletionService_ResumeCompletion_FullMethodName,
		request: &completionv1.ResumeCompletionRequest{Id: from.id, AfterSequence: from.sequence},
		begun:   from.sequence > 0,
	}
}

// whole answers with the completion in one piece.
func (b *Bridge) whole(w http.ResponseWriter, r *http.Request, req *completionv1.CompletionRequest) {
	ctx, err := runtime.AnnotateContext(r.Context(), b.mux, r, completionv1.CompletionService_CreateCompletion_FullMethodName)
	if err != nil {
		b.writeError(w, err)
		return
	}
	b.conns.Respond(w, r, ctx, func(ctx *http1.Context, w http.ResponseWriter) bool {
		defer ctx.Cancel()
		var header metadata.MD
		c, err := b.client.CreateCompletion(ctx, req, grpc.Header(&header))
		if ctx.Err() != nil { // the client has left, or the drain is over
			return false
		}
		if id := completionID(header); id != "" {
			w.Header().Set("Location", location(id))
		}
		if err != nil {
			b.writeError(w, err)
			return true
		}
		_, marshaler := runtime.MarshalerForRequest(b.mux, r)
		runtime.ForwardResponseMessage(ctx, b.mux, marshaler, w, r, c, b.beforeResponse)
		return true
	})
}

func location(id string) string { return completionsPath + "/" + id }
