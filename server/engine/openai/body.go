package openai

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
)

const (
	maxHead        = 1 << 20  // bytes of a response's head, interim responses included
	maxInlineWrite = 16 << 10 // bytes of a request that are written before reading begins
)

// responseBody is the body of a response of plainTransport. It holds the connection
// until it is closed.
type responseBody struct {
	chunked chunkedReader // the body, if it is chunked
	ended   bool          // Read has returned io.EOF
	closed  bool
	reuse   bool          // the upstream keeps the connection open
	other   io.Reader     // the body, if it is not chunked
	head    *bufio.Reader // what other reads

	transport *plainTransport
	conn      *connection
	stop      func() bool     // ends the watching of the request's context
	written   <-chan struct{} // closed when the request has been written; nil: it has been
}

// Read implements io.Reader.
func (b *responseBody) Read(p []byte) (n int, err error) {
	if b.other == nil {
		n, err = b.chunked.Read(p)
	} else {
		n, err = b.other.Read(p)
	}
	b.ended = err == io.EOF
	return n, err
}

// Close implements io.Closer. The connection is reused if nothing more will come on it.
func (b *responseBody) Close() error {
	if b.closed {
		return nil
	}
	b.closed = true
	if b.stop() && b.ended && b.reuse && b.isWritten() && !b.hasExcess() {
		b.transport.putIdle(b.conn)
		return nil
	}
	return b.conn.Close()
}

func (b *responseBody) isWritten() bool {
	select {
	case <-b.written:
		return true
	default:
		return b.written == nil
	}
}

// hasExcess tells whether something came behind the end of the body.
func (b *responseBody) hasExcess() bool {
	if b.other == nil {
		return b.chunked.excess
	}
	return b.head.Buffered() > 0
}

// What is only needed until the body begins.
var (
	requestBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	headReaders    = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
)

// roundTrip writes a request, and returns the response, whose body is b.
func (b *responseBody) roundTrip(req *http.Request) (*http.Response, error) {
	if err := b.write(req); err != nil {
		return nil, err
	}
	head := headReaders.Get().(*bufio.Reader)
	limited := &io.LimitedReader{R: b.conn, N: maxHead}
	head.Reset(limited)
	for {
		res, err := http.ReadResponse(head, req)
		switch {
		case err != nil:
			return nil, err
		case res.StatusCode < 200:
			continue
		}
		b.reuse = !res.Close
		if slices.Equal(res.TransferEncoding, []string{"chunked"}) {
			buffered, _ := head.Peek(head.Buffered())
			b.chunked = chunkedReader{r: b.conn.Conn, buffered: bytes.Clone(buffered)}
			head.Reset(nil)
			headReaders.Put(head)
		} else {
			limited.N = math.MaxInt64
			b.other, b.head = res.Body, head
		}
		res.Body = b
		return res, nil
	}
}

// write writes a request. A large one is written by a goroutine, which ends with the
// connection at the latest: the upstream may respond before it has read all of it.
func (b *responseBody) write(req *http.Request) error {
	buf := requestBuffers.Get().(*bytes.Buffer)
	buf.Reset()
	if err := req.Write(buf); err != nil {
		return err
	}
	if buf.Len() <= maxInlineWrite {
		_, err := b.conn.Write(buf.Bytes())
		requestBuffers.Put(buf)
		return err
	}
	written := make(chan struct{})
	b.written = written
	go func() {
		if _, err := b.conn.Write(buf.Bytes()); err == nil {
			close(written)
		}
	}()
	return nil
}
