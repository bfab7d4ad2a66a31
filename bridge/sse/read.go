package sse

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// ErrTooLarge says that an event, or a line, was larger than the reader's limit.
var ErrTooLarge = errors.New("event is larger than the limit")

// A Message is an event as a browser would dispatch it.
type Message struct {
	Event string // its type, "message" where the stream names none
	Data  string
	ID    string // the last event ID of the stream at this event
}

// A Reader takes an event stream apart as WHATWG HTML section 9.2.6 says. The
// words below are that section's. A Reader is for one goroutine.
type Reader struct {
	in    *bufio.Reader
	limit int
	err   error // the first that was met; it stays

	line    []byte
	first   bool // no line has been read yet
	afterCR bool // a LF now belongs to the line end before

	eventType   string // the event type buffer
	data        []byte // the data buffer
	idBuffer    string // the last event ID buffer; outlives its event
	lastEventID string
	retry       time.Duration
	hasRetry    bool
}

// NewReader returns a reader of the stream in. The limit is in bytes, and holds
// for a line together with the data of its event so far.
func NewReader(in io.Reader, limit int) *Reader {
	return &Reader{in: bufio.NewReader(in), limit: limit, first: true}
}

// Next returns the next message, as soon as the blank line after it begins. At
// the end of the stream it returns io.EOF, whether or not there was the start of
// another event, as the section has it dropped. Other errors are ErrTooLarge and
// those of the stream. After an error there is only that error.
func (r *Reader) Next() (Message, error) {
	for {
		line, err := r.readLine()
		if err != nil {
			return Message{}, err
		}
		if len(line) > 0 {
			r.processLine(line)
		} else if m, ok := r.dispatch(); ok {
			return m, nil
		}
	}
}

// LastEventID returns what a client that reconnects now would send as
// Last-Event-ID. An event without data sets it too.
func (r *Reader) LastEventID() string { return r.lastEventID }

// Retry returns the reconnection time, if the stream has set one. It counts from
// its line on, before the event that it stands in is complete.
func (r *Reader) Retry() (d time.Duration, ok bool) { return r.retry, r.hasRetry }

// readLine returns the next line without its end, which may be LF, CR or CRLF. A
// line ends at its CR: waiting for a LF would hold an event back until the next.
func (r *Reader) readLine() ([]byte, error) {
	r.line = r.line[:0]
	for r.err == nil {
		c, err := r.in.ReadByte()
		if err != nil {
			r.err = err
			break
		}
		wasCR := r.afterCR
		r.afterCR = c == '\r'
		switch {
		case c == '\n' && wasCR:
		case c == '\n' || c == '\r':
			return r.withoutBOM(), nil
		case len(r.line)+len(r.data) >= r.limit:
			r.err = ErrTooLarge
		default:
			r.line = append(r.line, c)
		}
	}
	return nil, r.err
}

// withoutBOM returns the line, without the one byte order mark that a stream may
// begin with.
func (r *Reader) withoutBOM() []byte {
	if r.first {
		r.first = false
		return bytes.TrimPrefix(r.line, []byte("\uFEFF"))
	}
	return r.line
}

func (r *Reader) processLine(line []byte) {
	field, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "event":
		r.eventType = decodeUTF8(value)
	case "data":
		r.data = append(r.data, decodeUTF8(value)...)
		r.data = append(r.data, '\n')
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			r.idBuffer = decodeUTF8(value)
		}
	case "retry":
		r.setRetry(value)
	}
}

// setRetry takes ASCII digits only. A number of milliseconds that is too large for
// a Duration is taken for the largest.
func (r *Reader) setRetry(value []byte) {
	for _, c := range value {
		if c < '0' || c > '9' {
			return
		}
	}
	if len(value) == 0 {
		return
	}
	ms, _ := strconv.ParseUint(string(value), 10, 64) // the largest when out of range
	ms = min(ms, math.MaxInt64/uint64(time.Millisecond))
	r.retry, r.hasRetry = time.Duration(ms)*time.Millisecond, true
}

// dispatch ends an event. There is a message only if it has a data line.
func (r *Reader) dispatch() (m Message, ok bool) {
	r.lastEventID = r.idBuffer
	if len(r.data) > 0 {
		m = Message{Event: r.eventType, Data: string(r.data[:len(r.data)-1]), ID: r.lastEventID}
		if m.Event == "" {
			m.Event = "message"
		}
		ok = true
	}
	r.data, r.eventType = r.data[:0], ""
	return m, ok
}

// decodeUTF8 puts a U+FFFD in the place of what is not UTF-8, as the WHATWG
// Encoding standard's decoder does: one for each maximal part of a character
// that was broken off, and one for each other byte. (Go's own conversions put
// one for each byte, or one for each run.)
func decodeUTF8(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var out []byte
	for len(b) > 0 {
		c, n := utf8.DecodeRune(b)
		if c == utf8.RuneError && n == 1 {
			for n < len(b) && !utf8.FullRune(b[:n+1]) {
				n++
			}
		}
		out = utf8.AppendRune(out, c)
		b = b[n:]
	}
	return string(out)
}
