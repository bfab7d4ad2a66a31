package openai

// longTexts are the texts that are still to be put into a buffer. At its end, a response is
// told three times over: with a long text in it, the buffer of each of its readers would
// have to have room for all that at once. So long texts are left out of what is appended,
// and put in while it is written.
type longTexts []longText

type longText struct {
	at   int // where in the buffer it belongs
	text *grownText
}

// minLongText is the size, in bytes, from which on a text is left out, and largestBit that of
// what is appended at a time.
const (
	minLongText = 8 << 10
	largestBit  = 64 << 10
)

// rest is what is still to be appended: bytes, with texts that are left out of them.
type rest struct {
	bytes []byte
	texts longTexts
	next  int // byte
	had   int // of the next text
}

// take takes the bytes from the first text on out of a buffer.
func (r *rest) take(dst []byte, texts longTexts) (out []byte) {
	first := texts[0].at
	*r = rest{bytes: append(r.bytes[:0], dst[first:]...), texts: append(r.texts[:0], texts...)}
	for i := range r.texts {
		r.texts[i].at -= first
	}
	return dst[:first]
}

func (r *rest) empty() bool { return len(r.texts) == 0 && r.next == len(r.bytes) }

// append appends the next bit of it.
func (r *rest) append(dst []byte) []byte {
	end := len(dst) + largestBit
	for len(dst) < end && !r.empty() {
		if len(r.texts) > 0 && r.texts[0].at == r.next {
			before := len(dst)
			dst = r.texts[0].text.appendSome(dst, r.had, end-len(dst))
			if r.had += len(dst) - before; r.had == r.texts[0].text.len() {
				r.texts, r.had = r.texts[1:], 0
			}
			continue
		}
		to := len(r.bytes)
		if len(r.texts) > 0 {
			to = r.texts[0].at
		}
		dst = append(dst, r.bytes[r.next:to]...)
		r.next = to
	}
	return dst
}
