package bridge

import (
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// asGet returns a HEAD request as the GET that it stands for: net/http, which has the
// request itself, sends no body, and has the length of a short one. A stream is not
// asked for that way.
func asGet(r *http.Request) *http.Request {
	if r.Method != http.MethodHead || strings.HasSuffix(r.URL.Path, "/events") {
		return r
	}
	get := *r
	get.Method = http.MethodGet
	return &get
}

// head serves HEAD /v1/completions/{id}/events: the status and the headers of the GET,
// out of the completion's state. It does not read the events, which would wait for the
// next one, and make it a reader: when it leaves, the grace would begin anew.
func (b *Bridge) head(w http.ResponseWriter, r *http.Request, params map[string]string) {
	from, err := wantsEvents(r, params["id"])
	if err != nil {
		b.writeError(w, err)
		return
	}
	ctx, err := runtime.AnnotateContext(r.Context(), b.mux, r, completionv1.CompletionService_GetCompletion_FullMethodName)
	if err != nil {
		b.writeError(w, err)
		return
	}
	c, err := b.client.GetCompletion(ctx, &completionv1.GetCompletionRequest{Id: from.id})
	if err == nil && from.sequence > c.GetLastSequence() {
		err = withDetails(status.New(codes.Aborted, "the completion has no event with that sequence yet"),
			infoOf(completionv1.ErrorReason_CURSOR_AHEAD)).Err()
	}
	switch ended := c.GetState() != completionv1.Completion_RUNNING; {
	case err != nil:
		b.writeError(w, err)
	case ended && from.sequence == c.GetLastSequence():
		w.WriteHeader(http.StatusNoContent)
	default:
		writeStreamHeader(w, from.id)
	}
}

// wantsEvents returns where a request for the events of a completion wants to begin.
func wantsEvents(r *http.Request, id string) (cursor, error) {
	if negotiate(r.Header) != eventStream {
		return cursor{}, invalid(http.StatusNotAcceptable, codes.InvalidArgument, "Accept", "accept %s: events have no other form", eventStream)
	}
	return resumeFrom(r, id)
}

// writeStreamHeader writes the head of a response that is the events of a completion,
// whose id may not be known.
func writeStreamHeader(w http.ResponseWriter, id string) {
	h := w.Header()
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx: do not gather
	if id != "" {
		h.Set("Location", location(id))
	}
	w.WriteHeader(http.StatusOK)
}
