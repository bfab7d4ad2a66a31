package bridge

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/http1"
	"github.com/sluice-sse/sluice/bridge/sse"
)

// call is a stream to be opened on the server.
type call struct {
	method  string
	request proto.Message // until it is taken
	begun   bool          // the client has had events of it: it goes on with a stream
}

// take returns the request, which is not to be held for as long as the stream lasts:
// it may be a long conversation.
func (c *call) take() proto.Message {
	request := c.request
	c.request = nil
	return request
}

// Why a response is not the events of a call.
var (
	errNone = errors.New("there are no events, and nothing is written")
	errCut  = errors.New("the response cannot go on: cut the connection")
)

// unarmed is when the write deadline was set last, if it is not set.
const unarmed time.Duration = -1

// response is one response that is a stream. One goroutine writes the events; a
// timer breaks the silence between them.
//
// What each write needs comes first, and is one line of the processor's cache.
type response struct {
	bridge *Bridge
	own    *http1.Conn // is w, where that is one

	mu        sync.Mutex    // guards all up to id; held during a write
	written   time.Duration // when the last write was, since the bridge's start: cheaper to tell than the time
	armed     time.Duration // when the write deadline was set last; or unarmed
	failed    error         // of a write; then there are no more
	committed bool          // the status line is sent
	closed    bool
	timer     *time.Timer
	w         http.ResponseWriter
	id        string // the completion's, once known

	// Of the goroutine that receives, or guarded by feed.mu.
	blocks  *[]byte // that gather, from the pool; nil: there are none
	encoder encoder

	http2   bool
	control *http.ResponseController
	ctx     *http1.Context
}

// serve answers a request with the events of a call, which are those that follow
// a cursor. Without any, because the cursor is at the terminal event, it answers
// with those of the second call instead, or 204 if there is none.
//
// It returns when the response has ended, or has got a connection and a goroutine
// of its own.
func (b *Bridge) serve(w http.ResponseWriter, r *http.Request, from cursor, c *call, atEnd *call) {
	ctx, err := runtime.AnnotateContext(r.Context(), b.mux, r, c.method)
	if err != nil {
		b.writeError(w, err)
		return
	}
	http2 := r.ProtoMajor == 2
	answer := func(ctx *http1.Context, w http.ResponseWriter) bool {
		defer ctx.Cancel()
		err := b.stream(ctx, w, http2, from, c)
		if err == errNone && atEnd != nil {
			from.sequence--
			err = b.stream(ctx, w, http2, from, atEnd)
		}
		if err == errNone {
			w.WriteHeader(http.StatusNoContent)
		}
		return err != errCut
	}
	b.conns.Respond(w, r, ctx, answer)
}

// stream writes the events of a call until their end. It returns errNone, errCut,
// or nil. It cancels ctx when nobody takes any more.
func (b *Bridge) stream(ctx *http1.Context, w http.ResponseWriter, http2 bool, from cursor, c *call) error {
	own, _ := w.(*http1.Conn)
	s := &response{bridge: b, http2: http2, own: own, w: w, control: http.NewResponseController(w), ctx: ctx, armed: unarmed}
	s.wait()
	defer s.close()
	s.encoder = encoder{bridge: b, last: from.sequence}
	var err error
	if direct, ok := b.conn.(directConn); ok {
		err = s.push(ctx, direct, c)
	} else {
		err = s.gather(ctx, b.conn, c)
	}
	defer func() {
		if s.blocks != nil {
			http1.PutBuffer(s.blocks)
		}
	}()
	if ctx.Err() != nil || s.lost() { // the client has left, or the drain is over
		return errCut
	}
	return s.end(c, err)
}

// end writes the end of a stream: what has gathered last, and, if that is not the
// terminal event, the failure of the completion, which then is. Any other failure
// is one of this reading alone: then the stream is cut, and whoever resumes it
// misses nothing.
func (s *response) end(c *call, err error) error {
	e := &s.encoder
	if s.blocks == nil {
		s.blocks = http1.GetBuffer()
	}
	blocks := s.blocks
	info := errorInfo(status.Convert(err))
	failed := info != nil && !ofReading(info)
	said := s.said() || len(*blocks) > http1.ChunkHeadroom
	switch {
	case e.terminal:
	case !said && errors.Is(err, io.EOF):
		return errNone
	case !said && !(failed && c.begun && e.id != ""): // nothing has been said: a true status
		if failed && e.id != "" { // the completion's own end, which can be read there
			s.w.Header().Set("Location", location(e.id))
		}
		s.bridge.writeError(s.w, err)
		return nil
	case failed, info == nil && e.id == "":
		code, st := s.bridge.explain(err)
		*blocks = e.appendError(*blocks, errorBody(code, st))
	default:
		_ = s.write(*blocks)
		s.bridge.config.Log.Warn("read a completion", "id", e.id, "cause", err)
		return errCut
	}
	if s.write(*blocks) != nil {
		return errCut
	}
	return nil
}

// wait starts the timer, at first with the commit window.
func (s *response) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.bridge.config.CommitWindow, s.beat)
}

// close stops the timer: from then on the response is the caller's again.
func (s *response) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.timer.Stop()
}

// beat breaks the silence, if there is one. The timer is not touched with each
// write: when it goes off, it looks how long ago the last one was.
func (s *response) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.failed != nil {
		return
	}
	heartbeat := s.bridge.config.Heartbeat
	if silence := time.Since(s.bridge.start) - s.written; s.committed && silence < heartbeat {
		s.timer.Reset(heartbeat - silence)
		return
	}
	blocks := http1.GetBuffer()
	defer http1.PutBuffer(blocks)
	*blocks = append(*blocks, sse.Heartbeat...)
	if s.writeLocked(*blocks) != nil {
		s.ctx.Cancel()
		return
	}
	s.timer.Reset(heartbeat)
}

// name takes the completion's name from the server's header.
func (s *response) name(md metadata.MD) {
	s.encoder.header(md)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = s.encoder.id
}

// lost tells whether a write has failed: nobody takes any more.
func (s *response) lost() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed != nil
}

// said tells whether the status line is sent; if not, the timer no longer sends it.
func (s *response) said() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.committed {
		s.closed = true
	}
	return s.committed
}

// write writes blocks, which have room in front, in one write, after the headers if
// they are not sent yet. It fails when the client takes nothing for the write timeout,
// or is gone.
func (s *response) write(blocks []byte) error {
	if len(blocks) <= http1.ChunkHeadroom {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(blocks)
}

func (s *response) writeLocked(blocks []byte) error {
	if s.failed != nil {
		return s.failed
	}
	if !s.committed {
		s.committed = true
		s.ctx.ForgetValues() // there is no second call any more
		writeStreamHeader(s.w, s.id)
	}
	s.written = time.Since(s.bridge.start)
	s.arm()
	if s.own != nil {
		s.failed = s.own.WriteChunk(blocks)
	} else if _, s.failed = s.w.Write(blocks[http1.ChunkHeadroom:]); s.failed == nil {
		s.failed = s.control.Flush()
	}
	if s.http2 {
		// There the deadline is a timer that resets the stream even when nothing
		// waits to be written.
		_ = s.control.SetWriteDeadline(time.Time{})
		s.armed = unarmed
	}
	return s.failed
}

// arm sets the write deadline, if the last one is not good enough: that costs as
// much as all the encoding. So a write has at least the write timeout, and at most
// a quarter more.
func (s *response) arm() {
	timeout := s.bridge.config.WriteTimeout
	if s.armed == unarmed || s.written-s.armed > timeout/4 {
		s.armed = s.written
		_ = s.control.SetWriteDeadline(time.Now().Add(timeout + timeout/4))
	}
}
