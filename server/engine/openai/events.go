package openai

import (
	"bytes"
	"errors"
	"io"
)

const (
	// minBuffer is what a stream begins with: many are idle for most of their life.
	minBuffer = 1 << 10
	// busyBuffer is what it soon has when what comes fills it.
	busyBuffer = 8 << 10
	// maxRead bounds what is read ahead, and with it the cost of looking for a
	// line end that is not there.
	maxRead = 32 << 10
	// maxEvent bounds a line, and the data of an event.
	maxEvent = 8 << 20
)

// mark is the byte order mark that a stream may begin with.
const mark = "\uFEFF"

var (
	errEventTooLong = errors.New("an event is longer than 8 MiB")
	errNotYet       = errors.New("the next event has not come yet")
)

// events reads the data of an event stream: WHATWG HTML section 9.2.6, of which
// it leaves out everything but data. It reads no further than the event that it
// returns needs, and once its buffers have grown to what the stream has in it, it
// allocates nothing. The zero value with r set is ready to use.
//
// It bends the section for upstreams that are careless about blank lines:
//
//   - The end of the stream ends a line and an event, too.
//   - Data lines that cannot belong to one JSON value are events of their own.
type events struct {
	r io.Reader

	buf        []byte // buf[start:end] is read and not yet taken
	start, end int
	seen       int   // there is no line end in buf[start:seen]
	stop       int   // where the line that peek returned ends
	err        error // what r ended with

	filled  bool // the last read left no space
	begun   bool // the first line has been looked at
	afterCR bool // a LF at start belongs to the line end before it
	cut     bool // it was the end of the stream that ended the last event

	// Of the event that is being read.
	some     bool // it has data
	last     byte // of that, what is not white space
	returned bool // it is complete: the next one is to be begun
	line     span // of buf, which is its data, unless it is empty: then data is
	data     []byte
}

// next returns the data of the next event, which may be empty and holds until the
// next call. At the end of the stream it returns io.EOF; it may also return
// errEventTooLong, and errors of the reader, before which it drops an event that
// is not complete. If it is not to wait, it returns errNotYet where it would have
// to read.
func (e *events) next(wait bool) ([]byte, error) {
	if e.returned {
		e.line, e.data, e.some, e.last, e.returned = span{}, e.data[:0], false, 0, false
	}
	for {
		line, err := e.peek(wait)
		if err == io.EOF && e.some {
			e.cut, e.returned = true, true
			return e.event(), nil
		}
		if err != nil {
			return nil, err
		}
		value, isData := dataOf(line)
		text := bytes.TrimSpace(value)
		switch {
		case isData && apart(e.last, text):
			e.returned = true
			return e.event(), nil // and this line is the next event's
		case isData:
			if len(e.event())+len(value) >= maxEvent {
				return nil, errEventTooLong
			}
			if e.some {
				e.copyLine()
				e.data = append(append(e.data, '\n'), value...)
			} else {
				e.line, e.some = span{e.stop - len(value), e.stop}, true
			}
			if len(text) > 0 {
				e.last = text[len(text)-1]
			}
		case len(line) == 0 && e.some:
			e.take()
			e.returned = true
			return e.event(), nil
		}
		e.take()
	}
}

// event returns the data of the event that is being read.
func (e *events) event() []byte {
	if e.line != (span{}) {
		return e.buf[e.line.start:e.line.end]
	}
	return e.data
}

// copyLine copies the event's only line so far, which will no longer be all of it, or
// no longer stand in the buffer.
func (e *events) copyLine() {
	e.data, e.line = append(e.data, e.buf[e.line.start:e.line.end]...), span{}
}

// buffered tells whether something has been read that is not yet taken.
func (e *events) buffered() bool { return e.start < e.end }

// ended tells whether the reader has come to its end already.
func (e *events) ended() bool { return e.err == io.EOF }

// first returns the stream's first byte that is not white space, nor a byte order
// mark, without taking it, or 0 when there is none. Empty lines before it are taken.
func (e *events) first() byte {
	at := e.start
	for {
		for at < e.end {
			c, size := e.buf[at], 1
			switch c {
			case '\n', '\r':
				e.start = at + 1
			case ' ', '\t':
			case mark[0]:
				size = len(mark)
			default:
				e.seen = e.start
				return c
			}
			if at+size > e.end {
				break
			}
			if size > 1 && string(e.buf[at:at+size]) != mark {
				e.seen = e.start
				return c
			}
			at += size
		}
		e.seen = e.start
		at -= e.start // as fill moves what is left
		if e.fill() != nil {
			return 0
		}
	}
}

// rest returns what is not yet taken, whatever it is.
func (e *events) rest() io.Reader {
	read := bytes.NewReader(e.buf[e.start:e.end])
	if e.err != nil {
		return read
	}
	return io.MultiReader(read, e.r)
}

// dataOf returns the value of a line whose field is data.
func dataOf(line []byte) ([]byte, bool) {
	value, ok := bytes.CutPrefix(line, []byte("data"))
	if !ok || len(value) == 0 {
		return value, ok
	}
	if value[0] != ':' {
		return nil, false
	}
	value = value[1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return value, true
}

// apart tells whether a line cannot go on with the JSON value before it: where a
// value has } or ] and then { or [, there is a comma between.
func apart(last byte, line []byte) bool {
	return (last == '}' || last == ']') && len(line) > 0 && (line[0] == '{' || line[0] == '[')
}

// peek returns the next line, without its end, which is LF, CRLF or CR. After a
// CR it does not wait for the LF that may follow. It returns the same line until
// take is called.
func (e *events) peek(wait bool) ([]byte, error) {
	for {
		if e.afterCR && e.start < e.end {
			e.afterCR = false
			if e.buf[e.start] == '\n' {
				e.start++
				e.seen = e.start
			}
		}
		i := lineEnd(e.buf[e.seen:e.end])
		if i >= 0 || e.err == io.EOF && e.start < e.end {
			e.stop = e.end
			if i >= 0 {
				e.stop = e.seen + i
			}
			e.seen = e.stop
			if !e.begun {
				e.begun = true
				if bytes.HasPrefix(e.buf[e.start:e.stop], []byte(mark)) {
					e.start += len(mark)
				}
			}
			return e.buf[e.start:e.stop], nil
		}
		e.seen = e.end
		if !wait && e.err == nil {
			return nil, errNotYet
		}
		if err := e.fill(); err != nil {
			return nil, err
		}
	}
}

// take takes the line that peek returned.
func (e *events) take() {
	e.start = e.stop
	if e.stop < e.end {
		e.afterCR = e.buf[e.stop] == '\r'
		e.start++
	}
	e.seen = e.start
}

// lineEnd returns where the first CR or LF is, or -1.
func lineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// fill reads once, into a buffer that it makes larger only when it is full, or
// when it is small and was filled by the last read. It returns nil when there is
// more in the buffer, or the stream has just ended with a line that has no end.
func (e *events) fill() error {
	if e.err != nil {
		return e.err
	}
	e.copyLine()
	if e.start > 0 {
		e.end = copy(e.buf, e.buf[e.start:e.end])
		e.seen -= e.start
		e.start = 0
	}
	if e.end == len(e.buf) || e.filled && len(e.buf) < busyBuffer {
		if len(e.buf) >= maxEvent {
			return errEventTooLong
		}
		e.buf = append(e.buf, make([]byte, max(minBuffer, len(e.buf)))...)
	}
	for range 100 { // as bufio has it
		var n int
		space := e.buf[e.end:min(len(e.buf), e.end+maxRead)]
		n, e.err = e.r.Read(space)
		e.end += n
		e.filled = n == len(space)
		switch {
		case n > 0, e.err == io.EOF && e.start < e.end:
			return nil
		case e.err != nil:
			return e.err
		}
	}
	return io.ErrNoProgress
}
