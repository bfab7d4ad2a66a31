package bridge

import (
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/http1"
)

// Encoder is a face of a stream: it makes of the server's messages what an HTTP client
// gets. An Encoder is for one response, and one goroutine at a time.
//
// What it appends is written as it is. A message may become several blocks, or none, but
// whole ones: between two calls a heartbeat may be written. Native events
// (native.Encoder) are one face; others need only be handed to streams.serve.
type Encoder interface {
	// SetHeader sets the headers of the response when it begins, Content-Type at least.
	// The server's header is nil if it has not come within the commit window. SetHeader
	// may be called while another method runs, and does not change the Encoder.
	SetHeader(h http.Header, md metadata.MD)

	// Heartbeat returns what breaks a silence. It may be called as SetHeader may.
	Heartbeat() string

	// Begin is called with the server's header, before all below, if there is one. It
	// returns the completion that the client can come back to, or "".
	Begin(md metadata.MD) (id string)

	// AppendMessage appends what a message in protobuf wire form becomes. When it tells
	// that this is the end of the stream, nothing else is written. With an error, out is
	// dst, and the stream ends as if the server had ended it with that error.
	AppendMessage(dst, wire []byte) (out []byte, terminal bool, err error)

	// AppendEnd appends the end of a stream in which no message was terminal: err is the
	// server's status, or io.EOF for OK. It is not called if that is the end of this
	// reading alone. It returns false if the end cannot be told in the stream. Then a
	// response that has begun is cut, so that the client does not take what it has for
	// all there is; if it has not begun, Refuse is called.
	AppendEnd(dst []byte, err error, trailer metadata.MD, begun bool) (out []byte, ok bool)

	// Refuse answers in place of the stream, of which nothing has been written.
	Refuse(w http.ResponseWriter, err error)
}

// Continued is an Encoder that appends a long event bit by bit, so that no buffer has to have
// room for all of it. What AppendMessage or AppendEnd has appended is then its beginning.
type Continued interface {
	Encoder

	// HasMore tells whether there is more. It is asked after AppendMessage and AppendEnd,
	// when they return no error.
	HasMore() bool

	// AppendMore appends the next bit, which follows at once.
	AppendMore(dst []byte) (out []byte)
}

// timing is what all responses have in common. All of it is above 0.
type timing struct {
	commitWindow time.Duration // how long the status line waits for the first message
	heartbeat    time.Duration // how much silence is broken
	writeTimeout time.Duration // how long a client may take nothing
	start        time.Time     // from which responses count: cheaper to tell than the time
}

func (t *timing) now() time.Duration { return time.Since(t.start) }

// response is one response that is a stream. One goroutine at a time encodes and writes
// messages; a timer breaks the silence between them.
//
// What each write needs comes first, and is one line of the processor's cache.
type response struct {
	timing *timing
	conn   *http1.Conn // is w, where that is one

	mu        sync.Mutex    // guards all up to header; held during a write
	lastWrite time.Duration // when that was, as timing counts
	deadline  time.Duration // of writes, as timing counts; 0: none
	err       error         // of a write: there are no more
	committed bool          // the status line is sent
	closed    bool          // the timer writes nothing
	timer     *time.Timer
	w         http.ResponseWriter
	header    metadata.MD // the server's, until committed

	// Of the goroutine that receives; encoder and terminal are guarded by remote.mu if
	// there is one.
	encoder  Encoder
	more     Continued // is the encoder, if it is that; else nil
	terminal bool      // the last message was the last of all
	id       string    // what the client can come back to, once the server has named it
	resumes  bool      // that was there before the request
	trailer  metadata.MD

	http2 bool
	ctx   *http1.Context
	log   *slog.Logger
}

// newResponse returns a response whose commit window begins. It is to be closed.
func newResponse(t *timing, ctx *http1.Context, w http.ResponseWriter, http2 bool, c *streamCall, log *slog.Logger) *response {
	s := &response{timing: t, ctx: ctx, w: w, http2: http2, encoder: c.encoder, resumes: c.resumes, log: log}
	s.conn, _ = w.(*http1.Conn)
	s.more, _ = c.encoder.(Continued)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(t.commitWindow, s.breakSilence)
	return s
}

// close stops the timer: from then on the response is the caller's alone. It reports
// whether the response has begun.
func (s *response) close() (committed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.timer.Stop()
	return s.committed
}

// breakSilence writes a heartbeat if it is time for one. The timer is not touched with
// each write: when it goes off, it looks how long ago the last one was.
func (s *response) breakSilence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.err != nil {
		return
	}
	if silence := s.timing.now() - s.lastWrite; s.committed && silence < s.timing.heartbeat {
		s.timer.Reset(s.timing.heartbeat - silence)
		return
	}
	buf := http1.GetBuffer()
	defer http1.PutBuffer(buf)
	*buf = append(*buf, s.encoder.Heartbeat()...)
	if s.writeLocked(*buf) != nil {
		s.ctx.Cancel()
		return
	}
	s.timer.Reset(s.timing.heartbeat)
}

// Header takes the server's header.
func (s *response) Header(md metadata.MD) {
	s.id = s.encoder.Begin(md)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.committed {
		s.header = md
	}
}

// Receive writes messages that are there at once.
func (s *response) Receive(messages [][]byte) (err error) {
	buf := http1.GetBuffer()
	defer http1.PutBuffer(buf)
	for _, wire := range messages {
		if err = s.encode(buf, wire); err != nil {
			break // what came before is still good
		}
		if len(*buf) >= maxBuffered || s.hasMore() {
			if err := s.flush(buf); err != nil {
				return err
			}
		}
	}
	if err := s.write(*buf); err != nil {
		return err
	}
	if s.terminal {
		s.close()
	}
	return err
}

// maxBuffered is how many bytes may be encoded before they have to be written.
const maxBuffered = 64 << 10

var errAfterEnd = errors.New("the server sent a message after the last")

// encode appends what a message becomes to a buffer.
func (s *response) encode(buf *[]byte, wire []byte) (err error) {
	if s.terminal {
		return errAfterEnd
	}
	*buf, s.terminal, err = s.encoder.AppendMessage(*buf, wire)
	return err
}

// write writes what is in a buffer, in one write, after the headers if they are not sent
// yet. It fails when the client takes nothing for the write timeout, or is gone.
func (s *response) write(buf []byte) error {
	if len(buf) <= http1.ChunkHeadroom {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(buf)
}

// hasMore tells whether the encoder has more of a message than is in a buffer.
func (s *response) hasMore() bool { return s.more != nil && s.more.HasMore() }

// flush writes what is in a buffer, and all that the encoder has more, with no heartbeat in
// between, and empties the buffer. It is for whom the encoder belongs to.
func (s *response) flush(buf *[]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(*buf) > http1.ChunkHeadroom {
		if err := s.writeLocked(*buf); err != nil {
			return err
		}
		if *buf = (*buf)[:http1.ChunkHeadroom]; s.hasMore() {
			*buf = s.more.AppendMore(*buf)
		}
	}
	return nil
}

func (s *response) writeLocked(buf []byte) error {
	if s.err != nil {
		return s.err
	}
	if !s.committed {
		s.commit()
	}
	s.lastWrite = s.timing.now()
	s.extendDeadline()
	control := http.NewResponseController(s.w)
	if s.conn != nil {
		s.err = s.conn.WriteChunk(buf)
	} else if _, s.err = s.w.Write(buf[http1.ChunkHeadroom:]); s.err == nil {
		s.err = control.Flush()
	}
	if s.http2 {
		// There the deadline is a timer that resets the stream even when nothing
		// waits to be written.
		_ = control.SetWriteDeadline(time.Time{})
		s.deadline = 0
	}
	return s.err
}

// commit begins the response: nobody can be told anything else any more.
func (s *response) commit() {
	s.committed = true
	s.ctx.ForgetValues() // which only calls need
	setStreamHeader(s.w.Header(), s.encoder, s.header)
	s.header = nil
	s.w.WriteHeader(http.StatusOK)
}

// setStreamHeader sets the headers of a stream.
func setStreamHeader(h http.Header, e Encoder, md metadata.MD) {
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx: pass it on at once
	e.SetHeader(h, md)
}

// extendDeadline sees that a write has at least the write timeout, and at most a quarter
// more. It sets the deadline only when it must, which costs as much as to encode an event.
func (s *response) extendDeadline() {
	timeout := s.timing.writeTimeout
	if s.deadline-s.lastWrite < timeout {
		s.deadline = s.lastWrite + timeout + timeout/4
		_ = http.NewResponseController(s.w).SetWriteDeadline(s.timing.start.Add(s.deadline))
	}
}

// Why a response is not a whole stream.
var (
	errRefused = errors.New("nothing is written: answer in place of the stream")
	errCut     = errors.New("the response cannot go on: cut the connection")
)

// end writes the end of a stream: the terminal message, if it is in a buffer, or what the
// encoder makes of a stream that ended without one. It returns errRefused, errCut, or nil.
//
// The failure of a completion is its end. Any other is one of this reading alone, and so
// is what refuses to read a completion that was there before: if the client can come back,
// the stream is cut, and whoever resumes it misses nothing.
func (s *response) end(rest *[]byte, err error) error {
	if rest == nil {
		rest = http1.GetBuffer()
	}
	defer http1.PutBuffer(rest)
	committed := s.close()
	if s.ctx.Err() != nil || s.err != nil { // the client has left, or the drain is over
		return errCut
	}
	if !s.terminal {
		told := !s.resumes
		if s.id != "" {
			told = failure.OfCompletion(err)
		}
		if told {
			*rest, told = s.encoder.AppendEnd(*rest, err, s.trailer, committed)
		}
		switch {
		case !told && committed:
			s.log.Warn("read a completion", "id", s.id, "cause", err)
			return errCut
		case !told:
			return errRefused
		}
	}
	if s.flush(rest) != nil {
		return errCut
	}
	if !s.committed { // a stream of nothing
		s.commit()
	}
	return nil
}
