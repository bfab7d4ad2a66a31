package bridge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// writer writes one response that is a stream. It belongs to the request's
// goroutine.
type writer struct {
	bridge    *Bridge
	w         http.ResponseWriter
	r         *http.Request
	control   *http.ResponseController
	begun     bool // the client has had events before: it goes on with a stream
	committed bool // the status line is sent
}

// serve answers a request with the events of a call, which are those that follow
// a cursor. Without any, because the cursor is at the terminal event, it answers
// with those of the second call instead, or 204 if there is none.
func (b *Bridge) serve(w http.ResponseWriter, r *http.Request, from cursor, c, atEnd call) {
	ctx, cancel := context.WithCancel(r.Context())
	f := newFeed(b, from.sequence)
	received := make(chan struct{})
	defer func() {
		cancel()
		<-received
		blocks, _ := f.take()
		release(blocks)
	}()
	annotated, err := runtime.AnnotateContext(ctx, b.mux, r, c.method)
	if err != nil {
		close(received)
		b.writeError(w, r, err)
		return
	}
	go func() {
		defer close(received)
		f.receive(annotated, c)
	}()
	s := &writer{bridge: b, w: w, r: r, control: http.NewResponseController(w), begun: c.begun}
	if s.run(ctx, f) {
		return
	}
	if atEnd.open == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	from.sequence--
	b.serve(w, r, from, atEnd, call{})
}

// run writes what the feed brings until its end. It reports false, and has
// written nothing, when the stream ended without an event.
func (s *writer) run(ctx context.Context, f *feed) bool {
	timer := time.NewTimer(s.bridge.config.CommitWindow)
	defer timer.Stop()
	for {
		select {
		case <-f.news:
			blocks, state := f.take()
			if blocks != nil {
				s.write(state.id, *blocks)
				release(blocks)
			}
			if state.terminal {
				return true
			}
			if state.done {
				return s.end(ctx, state)
			}
		case <-timer.C:
			s.write(f.look().id, []byte(sse.Heartbeat))
		case <-ctx.Done():
			panic(http.ErrAbortHandler)
		}
		timer.Reset(s.bridge.config.Heartbeat)
	}
}

// end answers the end of a feed that had no terminal event. A failure of the
// completion is its terminal event; any other is one of this reading alone: then
// the stream is cut, and whoever resumes it misses nothing.
func (s *writer) end(ctx context.Context, state state) bool {
	if ctx.Err() != nil {
		panic(http.ErrAbortHandler)
	}
	if errors.Is(state.err, io.EOF) && !state.begun && !s.committed {
		return false
	}
	info := errorInfo(status.Convert(state.err))
	failed := info != nil && !ofReading(info)
	switch {
	case !s.committed && !(failed && s.begun && state.id != ""): // nothing has been said: a true status
		if failed && state.id != "" { // the completion's own end, which can be read there
			s.w.Header().Set("Location", location(state.id))
		}
		s.bridge.writeError(s.w, s.r, state.err)
	case failed || info == nil && state.id == "":
		code, st := s.bridge.explain(state.err)
		retry := firstRetry
		if state.begun {
			retry = 0
		}
		s.write(state.id, sse.AppendError(nil, state.id, state.last+1, errorBody(code, st), retry))
	default:
		s.bridge.config.Log.Warn("read a completion", "id", state.id, "cause", state.err)
		panic(http.ErrAbortHandler)
	}
	return true
}

// write writes blocks or a heartbeat in one write, after the headers if they are
// not sent yet. When the client takes nothing for the write timeout, or is gone,
// the handler ends.
func (s *writer) write(id string, p []byte) {
	if !s.committed {
		s.committed = true
		s.header(id)
	}
	s.bridge.setWriteDeadline(s.w)
	_, err := s.w.Write(p)
	if err == nil {
		err = s.control.Flush()
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if s.r.ProtoMajor == 2 {
		// There the deadline is a timer that resets the stream even when nothing
		// waits to be written.
		_ = s.control.SetWriteDeadline(time.Time{})
	}
}

func (s *writer) header(id string) {
	h := s.w.Header()
	h.Set("Content-Type", eventStream)
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx: do not gather
	if id != "" {
		h.Set("Location", location(id))
	}
	s.w.WriteHeader(http.StatusOK)
}
