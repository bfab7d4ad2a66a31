package native

import (
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/sse"
)

// firstRetry is what clients wait for before they come back, and drainRetry what they
// do when all of them have to.
const firstRetry = time.Second

func drainRetry() time.Duration { return firstRetry + rand.N(2*time.Second) }

// Encoder makes one response of the events of a completion. It implements
// bridge.Encoder.
type Encoder struct {
	Draining *atomic.Bool // while set, the next event asks its client to come back a little later
	Log      *slog.Logger // for what clients are not told
	Last     int32        // the sequence of the last event that the client has
	Resumed  bool         // the client has had events: it goes on with a stream

	id      string // the completion's, once the server has named it
	begun   bool   // there was an event
	drained bool   // a drain's retry was sent
}

// SetHeader implements bridge.Encoder.
func (e *Encoder) SetHeader(h http.Header, md metadata.MD) {
	h.Set("Content-Type", sse.MediaType)
	SetLocation(h, CompletionID(md))
}

// Heartbeat implements bridge.Encoder.
func (e *Encoder) Heartbeat() string { return sse.Heartbeat }

// Begin implements bridge.Encoder.
func (e *Encoder) Begin(md metadata.MD) (id string) {
	e.id = CompletionID(md)
	return e.id
}

var errNoID = errors.New("the server did not name the completion")

// AppendMessage implements bridge.Encoder: it appends the block of an event.
func (e *Encoder) AppendMessage(dst, wire []byte) (out []byte, terminal bool, err error) {
	if e.id == "" {
		return dst, false, errNoID
	}
	out, event, err := AppendEvent(dst, e.id, wire, e.retry())
	if err != nil {
		return dst, false, err
	}
	e.begun, e.Last = true, event.Sequence
	return out, event.Terminal, nil
}

// retry is what the next block suggests; 0: nothing.
func (e *Encoder) retry() time.Duration {
	switch {
	case !e.drained && e.Draining.Load():
		e.drained = true
		return drainRetry()
	case e.begun:
		return 0
	}
	return firstRetry
}

// AppendEnd implements bridge.Encoder. The failure of a completion is its terminal event.
func (e *Encoder) AppendEnd(dst []byte, err error, _ metadata.MD, begun bool) (out []byte, ok bool) {
	if !begun && !(e.Resumed && e.id != "") { // a true status
		return dst, false
	}
	body := failure.JSON(failure.Explain(e.Log, err))
	return AppendError(dst, e.id, e.Last+1, body, e.retry()), true
}

// Refuse implements bridge.Encoder. That there are no events is no error: the client has
// them all.
func (e *Encoder) Refuse(w http.ResponseWriter, err error) {
	if err == io.EOF {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if failure.OfCompletion(err) {
		SetLocation(w.Header(), e.id) // the completion's own end can be read there
	}
	failure.Write(w, e.Log, err)
}

// Header returns the header by which the server names a completion.
func Header(id string) metadata.MD { return metadata.Pairs(completionIDKey, id) }

const completionIDKey = "completion-id"

// CompletionID returns the completion that the server's header names, or "". The id goes
// into headers and blocks as it is: not one that breaks them.
func CompletionID(md metadata.MD) string {
	v := md.Get(completionIDKey)
	if len(v) == 0 {
		return ""
	}
	if _, _, err := ParseID(FormatID(v[0], 0)); err != nil {
		return ""
	}
	return v[0]
}

// LastSequence returns how far a completion had come when the server began to read it, as
// its header says. An older server does not say it.
func LastSequence(md metadata.MD) (last int32, ok bool) {
	v := md.Get("last-sequence")
	if len(v) == 0 {
		return 0, false
	}
	n, err := strconv.ParseInt(v[0], 10, 32)
	return int32(n), err == nil
}

// Path is where completions are.
const Path = "/v1/completions"

// SetLocation sets the header that says where a completion is, if one is known: to come
// back to it, or to cancel it.
func SetLocation(h http.Header, id string) {
	if id != "" {
		h.Set("Location", Path+"/"+id)
	}
}
