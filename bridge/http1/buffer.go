package http1

import "sync"

// ChunkHeadroom is left in front of data for the size of its chunk, so that WriteChunk
// writes it from where it stands: at most eight digits and a line end.
const ChunkHeadroom = 10

// maxKept is how large a buffer may be to be used again, in bytes.
const maxKept = 128 << 10

// buffers has what data is put together in, so that a response that waits holds nothing.
var buffers = sync.Pool{New: func() any { return new(make([]byte, ChunkHeadroom, 4<<10)) }}

// GetBuffer returns a buffer that holds ChunkHeadroom bytes, behind which data goes.
func GetBuffer() *[]byte { return buffers.Get().(*[]byte) }

// PutBuffer gives a buffer back.
func PutBuffer(b *[]byte) {
	if cap(*b) <= maxKept {
		*b = (*b)[:ChunkHeadroom]
		buffers.Put(b)
	}
}
