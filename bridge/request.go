package bridge

import (
	"cmp"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/jsonbody"
	"github.com/sluice-sse/sluice/bridge/native"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// The headers of requests that mean something here.
const (
	requestIDHeader      = "X-Request-Id"
	idempotencyKeyHeader = "Idempotency-Key"
	lastEventIDHeader    = "Last-Event-ID"
)

// readCompletionRequest reads a request for a completion: its body, and its
// Idempotency-Key.
func readCompletionRequest(w http.ResponseWriter, r *http.Request, d jsonbody.Decoder) (*completionv1.CompletionRequest, error) {
	req := &completionv1.CompletionRequest{}
	if err := readMessage(w, r, d, req, "the JSON of a completion request"); err != nil {
		return nil, err
	}
	key, err := readIdempotencyKey(r)
	if err != nil {
		return nil, err
	}
	if had := req.GetIdempotencyKey(); had != "" && key != "" && had != key {
		return nil, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, idempotencyKeyHeader,
			"the Idempotency-Key header and the body's idempotency_key differ: send one")
	}
	req.IdempotencyKey = cmp.Or(key, req.GetIdempotencyKey())
	return req, nil
}

// readIdempotencyKey reads the header of that name.
func readIdempotencyKey(r *http.Request) (string, error) {
	key := r.Header.Get(idempotencyKeyHeader)
	if !utf8.ValidString(key) { // which no message can hold
		return "", failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, idempotencyKeyHeader, "the Idempotency-Key header is not UTF-8")
	}
	return key, nil
}

// readMessage makes a message of a request's body, which it reads to its end, strictly.
// what says what the body is to be.
func readMessage(w http.ResponseWriter, r *http.Request, d jsonbody.Decoder, m proto.Message, what string) error {
	body, release, err := readJSON(w, r)
	if err != nil {
		return err
	}
	defer release()
	return d.Decode(r.Context(), body, m, what)
}

// readJSON reads a request's body, which says that it is JSON, to its end. See readBody.
func readJSON(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	if err := checkContentType(r.Header); err != nil {
		return nil, nil, err
	}
	return readBody(w, r)
}

// checkContentType takes JSON, and what clients send that mean it: nothing, or
// text/event-stream, which a well-known post on POST and server-sent events sends.
func checkContentType(h http.Header) error {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return failure.Invalid(http.StatusUnsupportedMediaType, codes.InvalidArgument, "Content-Encoding", "send the body as it is, not as %q", failure.Clip(encoding))
	}
	contentType := h.Get("Content-Type")
	if contentType == "" {
		return nil
	}
	if t, _, err := mime.ParseMediaType(contentType); err == nil && (t == jsonType || t == eventStream) {
		return nil
	}
	return failure.Invalid(http.StatusUnsupportedMediaType, codes.InvalidArgument, "Content-Type",
		"send JSON with the header Content-Type: application/json, not %q", failure.Clip(contentType))
}

// cursor is a place in a completion: an event's id.
type cursor struct {
	id       string
	sequence int32
}

// readCursor returns the cursor that a request resumes from, if it has one.
func readCursor(value string) (cursor, error) {
	id, sequence, err := native.ParseID(value)
	if err != nil {
		return cursor{}, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, lastEventIDHeader, "%q is not the id of an event: %v", failure.Clip(value), err)
	}
	return cursor{id, sequence}, nil
}

// resumeFrom returns where in a completion a GET resumes: after the Last-Event-ID
// of a client that comes back, or after what the query says, or at the start.
func resumeFrom(r *http.Request, id string) (cursor, error) {
	query := r.URL.Query()
	if last := cmp.Or(r.Header.Get(lastEventIDHeader), query.Get("last_event_id")); last != "" {
		from, err := readCursor(last)
		if err == nil && from.id != id {
			err = failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, lastEventIDHeader, "the last event id is not of the completion %s", failure.Clip(id))
		}
		return from, err
	}
	// The request's own field, as google.api.http has it in the query.
	sequence := cmp.Or(query.Get("after_sequence"), query.Get("afterSequence"), "0")
	n, err := strconv.ParseInt(sequence, 10, 32)
	if err != nil || n < 0 {
		return cursor{}, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "after_sequence", "%q is not a sequence", failure.Clip(sequence))
	}
	return cursor{id, int32(n)}, nil
}

// readEventsRequest returns where in a completion a request for its events begins.
func readEventsRequest(r *http.Request, id string) (cursor, error) {
	if negotiate(r.Header) != eventStream {
		return cursor{}, failure.Invalid(http.StatusNotAcceptable, codes.InvalidArgument, "Accept", "accept %s: events have no other form", eventStream)
	}
	return resumeFrom(r, id)
}
