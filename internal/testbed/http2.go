package testbed

import (
	"bytes"
	"io"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// HTTP2 is a client that speaks HTTP/2 frame by frame, as no library would. One goroutine
// writes.
type HTTP2 struct {
	net.Conn
	*http2.Framer
	Ended chan struct{} // closed when nothing more can be read

	next    uint32 // the stream
	encoder *hpack.Encoder
	block   bytes.Buffer

	mu     sync.Mutex // guards all below
	resets map[uint32]http2.ErrCode
}

// NewHTTP2 begins HTTP/2 on a connection, and reads what comes.
func NewHTTP2(c net.Conn) (*HTTP2, error) {
	h := &HTTP2{Conn: c, Framer: http2.NewFramer(c, c), Ended: make(chan struct{}), next: 1, resets: map[uint32]http2.ErrCode{}}
	h.encoder = hpack.NewEncoder(&h.block)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := h.WriteSettings(); err != nil {
		return nil, err
	}
	if err := h.WriteSettingsAck(); err != nil { // of those that come
		return nil, err
	}
	go h.read()
	return h, nil
}

func (h *HTTP2) read() {
	defer close(h.Ended)
	for {
		f, err := h.ReadFrame()
		if err != nil {
			return
		}
		if r, ok := f.(*http2.RSTStreamFrame); ok {
			h.mu.Lock()
			h.resets[r.StreamID] = r.ErrCode
			h.mu.Unlock()
		}
	}
}

// Reset returns why the server has reset a stream, if it has.
func (h *HTTP2) Reset(stream uint32) (why http2.ErrCode, reset bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	why, reset = h.resets[stream]
	return why, reset
}

// Request sends the header of a request, which is whole or has a body to come: fields are
// names and values in turn.
func (h *HTTP2) Request(whole bool, fields ...string) (stream uint32, err error) {
	h.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = h.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	stream, h.next = h.next, h.next+2
	return stream, h.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: h.block.Bytes(), EndHeaders: true, EndStream: whole})
}
