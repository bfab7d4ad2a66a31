package bridge

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// readTimeout bounds how long a body may take to arrive.
const readTimeout = 30 * time.Second

// maxLeft is how much of a body that was refused unread is read, so that the
// connection can be used again: what net/http reads.
const maxLeft = 256 << 10

// boundedBody is a request's body, bounded in size and in time.
//
// The deadline is lifted only when the body has been read to its end. Before the
// answer to a request that was refused unread, net/http reads what is left of its
// body, so that the connection can be used again; without a deadline it would do so
// for ever.
type boundedBody struct {
	io.ReadCloser
	control *http.ResponseController
	memory  *bodyMemory
	refused error // nil: it may be read
	begun   bool  // to be read
	atEOF   bool
}

// boundBody bounds a request's body. It returns what is to be called before the
// answer goes out: that reports whether it has read what was left of the body, which
// can take as long as the deadline.
func boundBody(w http.ResponseWriter, r *http.Request, most int64, memory *bodyMemory) (finish func() bool) {
	if r.Body == nil || r.Body == http.NoBody {
		return func() bool { return false }
	}
	body := &boundedBody{ReadCloser: http.MaxBytesReader(w, r.Body, most), memory: memory, control: http.NewResponseController(w)}
	// Not every ResponseWriter of a test can; a connection's can.
	_ = body.control.SetReadDeadline(time.Now().Add(readTimeout))
	if r.ContentLength > most && r.Header.Get("Expect") != "" { // do not ask for what is refused
		body.refused = &http.MaxBytesError{Limit: most}
	}
	unbounded := r.Body
	r.Body = body
	return func() bool {
		if body.atEOF || r.ProtoMajor > 1 { // over HTTP/2, an unread body holds up nothing
			return false
		}
		if !body.begun && r.Header.Get("Expect") != "" { // it is sent only when it is asked for
			r.Body = unbounded // by which net/http sees that it must not read, but close
			return false
		}
		// Here, not in net/http, which would count it as time for the writing.
		_, _ = io.CopyN(io.Discard, body, maxLeft)
		return true
	}
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.refused != nil {
		return 0, b.refused
	}
	b.begun = true
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && !b.atEOF {
		b.atEOF = true
		// From here on it would be taken for the client's departure.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// readBody reads a body to its end. Not only for its sake: net/http notices that a
// client has left only then (golang/go#23262). The caller calls release when it no longer
// needs the body.
func readBody(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	body, release, err = readWhole(w, r)
	if err != nil {
		return nil, nil, err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		release()
		return nil, nil, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "body", "the body is empty: send a completion request in JSON")
	}
	return body, release, nil
}

// readWhole is readBody for a body that may be empty.
func readWhole(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	memory := &bodyMemory{} // for one that has no bytes
	if bounded, ok := r.Body.(*boundedBody); ok {
		memory = bounded.memory
	}
	body, release, err = memory.readAll(r)
	if err != nil {
		return nil, nil, unread(w, r, err)
	}
	return body, release, nil
}

// discardBody reads a body that means nothing to its end.
func discardBody(w http.ResponseWriter, r *http.Request) error {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return unread(w, r, err)
	}
	return nil
}

// unread says why a body cannot be read.
func unread(w http.ResponseWriter, r *http.Request, err error) error {
	var tooLarge *http.MaxBytesError
	switch {
	case failure.Reason(err) != "":
		return err
	case errors.As(err, &tooLarge):
		return failure.Invalid(http.StatusRequestEntityTooLarge, codes.InvalidArgument, "body", "the body must have at most %d bytes", tooLarge.Limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		if r.ProtoMajor == 1 { // over HTTP/2, only the request's stream ends
			w.Header().Set("Connection", "close")
		}
		return failure.Invalid(http.StatusRequestTimeout, codes.InvalidArgument, "body", "the body did not arrive within %v", readTimeout)
	}
	return failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "body", "the body did not arrive whole")
}
