package openai

import (
	"bytes"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// Texts are what the responses that are being read have said so far. The end of a response
// repeats all of it, so whoever reads one needs its text until then. Those who read the
// same response keep its text together, once, and what all of them keep is bounded. A reader
// whose text does not fit gets an error in place of the rest, and can come back.
//
// It is for many goroutines at once. nil bounds nothing, and shares nothing.
type Texts struct {
	most int64
	held atomic.Int64 // bytes, without those that are free

	mu   sync.Mutex // guards open, and the readers of what is in it
	open map[string]*responseText
}

// NewTexts returns Texts that take at most so many bytes, beyond 64 KiB of each response and
// of each of its readers.
func NewTexts(most int64) *Texts { return &Texts{most: most, open: map[string]*responseText{}} }

// free is how many bytes of a text, and of what a reader keeps beside it, are not counted.
const free = 64 << 10

// responseText is the text of a response.
type responseText struct {
	id      string // the completion's; "": it is not shared
	readers int
	of      [kindsOfText]heldText
}

// textKind is what a text holds.
type textKind int

const (
	said        textKind = iota // the pieces of all parts, quoted for JSON, in the order in which they come
	logprobs                    // those of all parts, in JSON, likewise
	kindsOfText = 2
)

// Full returns the error for who would begin a response while there is no room for what a long
// one takes at a time, or nil.
func (t *Texts) Full() error {
	if t == nil {
		return nil
	}
	if held := t.held.Load(); held > 0 && held+largestBlock > t.most {
		return failure.Overloaded("as much of long responses is being read as may be: try again", textsLimit)
	}
	return nil
}

// textsLimit is the name of the limit, as that of the flag that sets it.
const textsLimit = "response_memory"

// hold counts bytes, unless they are too many: then it counts none, not even for a moment, in
// which others would find no room.
func (t *Texts) hold(n int64) error {
	if t == nil {
		return nil
	}
	for {
		held := t.held.Load()
		if held+n > t.most {
			return failure.Overloaded("as much of long responses is being read as may be: read this one again later", textsLimit)
		}
		if t.held.CompareAndSwap(held, held+n) {
			return nil
		}
	}
}

func (t *Texts) letGo(n int64) {
	if t != nil {
		t.held.Add(-n)
	}
}

// read returns the text of a completion's response. The caller leaves it.
func (t *Texts) read(id string) *responseText {
	if t == nil || id == "" {
		return &responseText{readers: 1}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.open[id]
	if text == nil {
		text = &responseText{id: id}
		t.open[id] = text
	}
	text.readers++
	return text
}

func (t *Texts) leave(text *responseText) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if text.readers--; text.readers > 0 {
		return
	}
	if text.id != "" {
		delete(t.open, text.id)
	}
	for i := range text.of {
		t.letGo(text.of[i].counted)
	}
}

// heldText is a text that grows, piece by piece. It grows by another block, for copying all
// of it to a larger place costs more than the rest of what an event does. Each block is
// twice as large as the one before, from the first one, which is for an answer of a line.
// The zero value is empty.
type heldText struct {
	mu      sync.Mutex // guards all below
	blocks  [][]byte   // of which the first size bytes never change: who has seen them needs no lock to read them
	size    int
	counted int64 // bytes of the blocks that are not free
}

// The sizes of blocks are powers of 2: from this one to that one.
const (
	firstBits    = 9
	largestBits  = 16
	largestBlock = 1 << largestBits
)

// placeOf returns the block that a byte of a text is in, and where in that it is.
func placeOf(at int) (block, offset int) {
	const growing = 1<<largestBits - 1<<firstBits // bytes of all blocks before the first of the largest
	if at >= growing {
		at -= growing
		return largestBits - firstBits + at>>largestBits, at & (largestBlock - 1)
	}
	block = bits.Len(uint(at>>firstBits+1)) - 1
	return block, at - (1<<block-1)<<firstBits
}

// add adds a piece behind the first so many bytes, unless it is there already. It returns
// false if another one is.
func (h *heldText) add(t *Texts, at int, piece []byte) (same bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(piece) > 0 {
		n, offset := placeOf(at)
		if n == len(h.blocks) {
			if err := h.grow(t); err != nil {
				return true, err
			}
		}
		some := h.blocks[n][offset:]
		some = some[:min(len(some), len(piece))]
		if at == h.size {
			copy(some, piece)
			h.size += len(some)
		} else {
			some = some[:min(len(some), h.size-at)]
			if !bytes.Equal(some, piece[:len(some)]) {
				return false, nil
			}
		}
		at, piece = at+len(some), piece[len(some):]
	}
	return true, nil
}

// grow adds a block. Those before the first one of the largest size are free.
func (h *heldText) grow(t *Texts) error {
	size := 1 << min(firstBits+len(h.blocks), largestBits)
	if size == largestBlock {
		if err := t.hold(largestBlock); err != nil {
			return err
		}
		h.counted += largestBlock
	}
	h.blocks = append(h.blocks, make([]byte, size))
	return nil
}

// appendSome appends bytes that the caller has seen.
func (h *heldText) appendSome(dst []byte, at span) []byte {
	h.mu.Lock()
	blocks := h.blocks
	h.mu.Unlock()
	for at.from < at.to {
		n, offset := placeOf(at.from)
		some := blocks[n][offset:]
		some = some[:min(len(some), at.to-at.from)]
		dst = append(dst, some...)
		at.from += len(some)
	}
	return dst
}

// span is where in a text something stands, in bytes.
type span struct{ from, to int }
