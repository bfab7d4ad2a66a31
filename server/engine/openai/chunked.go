package openai

import (
	"errors"
	"io"
)

// maxFraming bounds what may stand between two pieces of data: a chunk's size
// and extensions, or the trailer.
const maxFraming = 4 << 10

var errChunked = errors.New("malformed chunked encoding")

// chunked decodes a body in chunks (RFC 9112 section 7.1) in the buffer that it is
// read into, so it has none of its own. It returns the body's end together with
// the last data, if both have come. Extensions and the trailer are dropped.
type chunked struct {
	r    io.Reader
	read []byte // of r already, and not yet decoded

	size    uint64 // of the chunk's data, what is left of it
	framing int32  // bytes since the last data
	digits  int8   // that the size had
	state   chunkState
	behind  bool // something came behind the end
}

// chunkState is what comes next.
type chunkState uint8

const (
	chunkSize  chunkState = iota
	chunkSpace            // behind the size
	chunkExtension
	chunkSizeLF
	chunkData
	chunkDataCR
	chunkDataLF
	chunkTrailer     // the start of a line of it
	chunkTrailerLine // the rest of such a line
	chunkLastLF
	chunkEnd
)

// Read implements io.Reader.
func (c *chunked) Read(p []byte) (int, error) {
	for c.state != chunkEnd && len(p) > 0 {
		var err error
		n := copy(p, c.read)
		c.read = c.read[n:]
		if n == 0 {
			n, err = c.r.Read(p)
		}
		n, malformed := c.decode(p[:n])
		switch {
		case malformed != nil:
			return n, malformed
		case c.state == chunkEnd:
			c.behind = c.behind || len(c.read) > 0
			return n, io.EOF
		case err == io.EOF:
			return n, io.ErrUnexpectedEOF
		case n > 0 || err != nil:
			return n, err
		}
	}
	if c.state == chunkEnd {
		return 0, io.EOF
	}
	return 0, nil
}

// decode moves the data in b to its front and returns how much that is.
func (c *chunked) decode(b []byte) (n int, err error) {
	for i := 0; i < len(b); {
		switch c.state {
		case chunkData:
			some := copy(b[n:], b[i:min(uint64(len(b)), uint64(i)+c.size)])
			n, i = n+some, i+some
			if c.size -= uint64(some); c.size == 0 {
				c.state = chunkDataCR
			}
			c.framing = 0
		case chunkEnd:
			c.behind = true
			return n, nil
		default:
			if c.framing++; c.framing > maxFraming || !c.frame(b[i]) {
				return n, errChunked
			}
			i++
		}
	}
	return n, nil
}

// frame takes a byte that is not data, and reports whether it may stand there.
func (c *chunked) frame(b byte) bool {
	switch c.state {
	case chunkSize:
		return c.sizeByte(b)
	case chunkSpace:
		if b == '\r' {
			c.state = chunkSizeLF
		}
		return b == '\r' || b == ' ' || b == '\t'
	case chunkExtension:
		if b == '\r' {
			c.state = chunkSizeLF
		}
		return b != '\n'
	case chunkSizeLF:
		c.state, c.digits = chunkData, 0
		if c.size == 0 {
			c.state = chunkTrailer
		}
		return b == '\n'
	case chunkDataCR:
		c.state = chunkDataLF
		return b == '\r'
	case chunkDataLF:
		c.state = chunkSize
		return b == '\n'
	case chunkTrailer:
		c.state = chunkTrailerLine
		if b == '\r' {
			c.state = chunkLastLF
		}
		return b != '\n'
	case chunkTrailerLine:
		if b == '\n' {
			c.state = chunkTrailer
		}
		return true
	case chunkLastLF:
		c.state = chunkEnd
		return b == '\n'
	}
	return false
}

// sizeByte takes a byte of the size, or the one behind it.
func (c *chunked) sizeByte(b byte) bool {
	digit := b
	switch {
	case '0' <= b && b <= '9':
		digit -= '0'
	case 'a' <= b && b <= 'f':
		digit -= 'a' - 10
	case 'A' <= b && b <= 'F':
		digit -= 'A' - 10
	case b == '\r':
		c.state = chunkSizeLF
		return c.digits > 0
	case b == ' ', b == '\t':
		c.state = chunkSpace
		return c.digits > 0
	case b == ';':
		c.state = chunkExtension
		return c.digits > 0
	default:
		return false
	}
	c.size = c.size<<4 | uint64(digit)
	c.digits++
	return c.digits <= 15 // which cannot overflow
}
