package openai

// grownText is a text that grows, piece by piece, and is read when it is whole. It grows by
// another block, for copying all of it to a larger place costs more than the rest of what an
// event does. The zero value is empty.
type grownText struct {
	full [][]byte // blocks
	last []byte   // the block that is being filled
}

// The sizes of blocks, in bytes. The first one is for an answer of a line, and each is twice
// as large as the one before, to the largest.
const (
	firstBlock   = 512
	largestBlock = 64 << 10
)

func (t *grownText) add(piece []byte) {
	if len(piece) > cap(t.last)-len(t.last) {
		t.grow(len(piece))
	}
	t.last = append(t.last, piece...)
}

// grow begins a block with room for n bytes.
func (t *grownText) grow(n int) {
	size := max(n, firstBlock, min(2*cap(t.last), largestBlock))
	if len(t.last) > 0 {
		t.full = append(t.full, t.last)
	}
	t.last = make([]byte, 0, size)
}

// fit gives back what the first block is too large, if there is no other.
func (t *grownText) fit() {
	if len(t.full) == 0 && len(t.last) <= cap(t.last)/2 {
		t.last = append(make([]byte, 0, len(t.last)), t.last...)
	}
}

func (t *grownText) appendTo(dst []byte) []byte {
	for _, block := range t.full {
		dst = append(dst, block...)
	}
	return append(dst, t.last...)
}

// appendSome appends at most so many bytes, from an offset on.
func (t *grownText) appendSome(dst []byte, from, most int) []byte {
	for i := 0; i <= len(t.full) && most > 0; i++ {
		block := t.last
		if i < len(t.full) {
			block = t.full[i]
		}
		if from >= len(block) {
			from -= len(block)
			continue
		}
		some := block[from:min(from+most, len(block))]
		dst, from, most = append(dst, some...), 0, most-len(some)
	}
	return dst
}

func (t *grownText) len() int {
	n := len(t.last)
	for _, block := range t.full {
		n += len(block)
	}
	return n
}
