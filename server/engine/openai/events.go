package openai

import (
	"bytes"
	"errors"
	"io"
)

const (
	minBuffer  = 1 << 10  // the first buffer of a stream: most streams are idle most of the time
	busyBuffer = 8 << 10  // the buffer once reads fill the smaller one
	maxRead    = 32 << 10 // bytes of one read, and with it the cost of finding no line end
	maxEvent   = 8 << 20  // bytes of a line, and of the data of an event
)

// byteOrderMark may stand at the start of a stream.
const byteOrderMark = "\uFEFF"

var (
	errEventTooLong = errors.New("an event is longer than 8 MiB")
	errNotYet       = errors.New("the next event has not come yet")
)

// eventReader reads the data of the events of a stream, as WHATWG HTML section 9.2.6
// has it; other fields are ignored. It reads no further than it needs to for the next
// event. Once its buffers are large enough for the stream it does not allocate. It is
// ready to use when r is set.
//
// There are two exceptions, for upstreams that are careless about blank lines:
//
//   - The end of the stream ends a line and an event, too.
//   - Data lines that cannot belong to one JSON value are events of their own.
type eventReader struct {
	r io.Reader

	buf        []byte // buf[start:end] has been read and not used
	start, end int
	scanned    int   // there is no line end in buf[start:scanned]
	lineEnd    int   // where the current line ends
	err        error // what r ended with

	fullRead bool // the last read filled the buffer
	begun    bool // the first line has been looked at
	afterCR  bool // an LF at start belongs to the line end before it
	cut      bool // the last event was ended by the end of the stream

	// The event that is being read. Its data stands in the buffer as long as it is one
	// line, which saves copying it: a tenth of the time for a chunk.
	hasData  bool
	complete bool   // the next call begins another event
	lastByte byte   // of the data, white space aside
	dataLine span   // of buf: the data; empty: it is in data
	data     []byte // the data, if it has more than one line
}

// next returns the data of the next event, which may be empty, and is valid until the
// next call. At the end of the stream it returns io.EOF. Other errors are those of r,
// and errEventTooLong; an event that was not complete is lost then. If wait is false,
// it returns errNotYet instead of reading.
func (e *eventReader) next(wait bool) ([]byte, error) {
	if e.complete {
		e.dataLine, e.data, e.hasData, e.lastByte, e.complete = span{}, e.data[:0], false, 0, false
	}
	for {
		line, err := e.peekLine(wait)
		if err == io.EOF && e.hasData {
			e.cut, e.complete = true, true
			return e.eventData(), nil
		}
		if err != nil {
			return nil, err
		}
		value, isData := dataOf(line)
		text := bytes.TrimSpace(value)
		switch {
		case isData && startsValue(e.lastByte, text):
			e.complete = true
			return e.eventData(), nil // the line is left for the next event
		case isData:
			if len(e.eventData())+len(value) >= maxEvent {
				return nil, errEventTooLong
			}
			if e.hasData {
				e.copyDataLine()
				e.data = append(append(e.data, '\n'), value...)
			} else {
				e.dataLine, e.hasData = span{e.lineEnd - len(value), e.lineEnd}, true
			}
			if len(text) > 0 {
				e.lastByte = text[len(text)-1]
			}
		case len(line) == 0 && e.hasData:
			e.skipLine()
			e.complete = true
			return e.eventData(), nil
		}
		e.skipLine()
	}
}

// eventData returns the data of the event that is being read.
func (e *eventReader) eventData() []byte {
	if e.dataLine != (span{}) {
		return e.buf[e.dataLine.start:e.dataLine.end]
	}
	return e.data
}

// copyDataLine copies the data out of the buffer, before the buffer changes or a second
// line comes.
func (e *eventReader) copyDataLine() {
	e.data, e.dataLine = append(e.data, e.buf[e.dataLine.start:e.dataLine.end]...), span{}
}

// dataOf returns the value of a line, if its field is data.
func dataOf(line []byte) (value []byte, ok bool) {
	value, ok = bytes.CutPrefix(line, []byte("data"))
	if !ok || len(value) == 0 {
		return value, ok
	}
	if value[0] != ':' {
		return nil, false
	}
	return bytes.TrimPrefix(value[1:], []byte(" ")), true
}

// startsValue tells whether a line begins another JSON value than the lines before it,
// which ended with the byte last: within one value there is a comma between } or ] and
// { or [.
func startsValue(last byte, line []byte) bool {
	return (last == '}' || last == ']') && len(line) > 0 && (line[0] == '{' || line[0] == '[')
}

// hasUnused tells whether something has been read and not used.
func (e *eventReader) hasUnused() bool { return e.start < e.end }

// atEOF tells whether r has come to its end.
func (e *eventReader) atEOF() bool { return e.err == io.EOF }

// peekByte returns the first byte of the stream that is neither white space nor of a
// byte order mark, or 0 if there is none. It skips empty lines, and leaves the rest.
func (e *eventReader) peekByte() byte {
	at := e.start
	for {
		for at < e.end {
			c, size := e.buf[at], 1
			switch c {
			case '\n', '\r':
				e.start = at + 1
			case ' ', '\t':
			case byteOrderMark[0]:
				size = len(byteOrderMark)
			default:
				e.scanned = e.start
				return c
			}
			if at+size > e.end {
				break
			}
			if size > 1 && string(e.buf[at:at+size]) != byteOrderMark {
				e.scanned = e.start
				return c
			}
			at += size
		}
		e.scanned = e.start
		at -= e.start // fill moves what is left to the front
		if e.fill() != nil {
			return 0
		}
	}
}

// unused returns a reader of all that has not been used.
func (e *eventReader) unused() io.Reader {
	buffered := bytes.NewReader(e.buf[e.start:e.end])
	if e.err != nil {
		return buffered
	}
	return io.MultiReader(buffered, e.r)
}

// decompress has the reader begin again with what gzip makes of all that has not been used.
func (e *eventReader) decompress() { *e = eventReader{r: &gzipReader{r: e.unused()}} }

// peekLine returns the current line without its end, which is LF, CRLF or CR. After a
// CR it does not wait to see whether an LF follows. It returns the same line until
// skipLine is called.
func (e *eventReader) peekLine(wait bool) ([]byte, error) {
	for {
		if e.afterCR && e.start < e.end {
			e.afterCR = false
			if e.buf[e.start] == '\n' {
				e.start++
				e.scanned = e.start
			}
		}
		i := indexLineEnd(e.buf[e.scanned:e.end])
		if i >= 0 || e.err == io.EOF && e.start < e.end {
			e.lineEnd = e.end
			if i >= 0 {
				e.lineEnd = e.scanned + i
			}
			e.scanned = e.lineEnd
			if !e.begun {
				e.begun = true
				if bytes.HasPrefix(e.buf[e.start:e.lineEnd], []byte(byteOrderMark)) {
					e.start += len(byteOrderMark)
				}
			}
			return e.buf[e.start:e.lineEnd], nil
		}
		e.scanned = e.end
		if !wait && e.err == nil {
			return nil, errNotYet
		}
		if err := e.fill(); err != nil {
			return nil, err
		}
	}
}

// skipLine makes the next line the current one.
func (e *eventReader) skipLine() {
	e.start = e.lineEnd
	if e.lineEnd < e.end {
		e.afterCR = e.buf[e.lineEnd] == '\r'
		e.start++
	}
	e.scanned = e.start
}

// indexLineEnd returns the index of the first CR or LF, or -1.
func indexLineEnd(b []byte) int {
	lf := bytes.IndexByte(b, '\n')
	if lf >= 0 {
		b = b[:lf]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr
	}
	return lf
}

// fill reads once. The buffer grows if it is full, or if it is small and the last read
// filled it. fill returns nil if there is more in the buffer, or if the stream has just
// ended with a line that has no end.
func (e *eventReader) fill() error {
	if e.err != nil {
		return e.err
	}
	e.copyDataLine()
	if e.start > 0 {
		e.end = copy(e.buf, e.buf[e.start:e.end])
		e.scanned -= e.start
		e.start = 0
	}
	if e.end == len(e.buf) || e.fullRead && len(e.buf) < busyBuffer {
		if len(e.buf) >= maxEvent {
			return errEventTooLong
		}
		e.buf = append(e.buf, make([]byte, max(minBuffer, len(e.buf)))...)
	}
	for range 100 { // as many as bufio tries
		var n int
		space := e.buf[e.end:min(len(e.buf), e.end+maxRead)]
		n, e.err = e.r.Read(space)
		e.end += n
		e.fullRead = n == len(space)
		switch {
		case n > 0, e.err == io.EOF && e.start < e.end:
			return nil
		case e.err != nil:
			return e.err
		}
	}
	return io.ErrNoProgress
}
