package openai

// longTexts are the texts that are still to be put into a buffer. At its end, a response is
// told three times over: with a long text in it, the buffer of each of its readers would
// have to have room for all that at once. So long texts are left out of what is appended,
// and put in while it is written.
type longTexts []longText

type longText struct {
	at   int // where in the buffer it belongs
	text *keptText
}

// A text is left out from this size on, in bytes, or from the shorter one on if what is
// appended already is long; largestBit is the size of what is appended at a time.
const (
	minLongText = 8 << 10
	minText     = 128
	largestBit  = 64 << 10
)

// text appends a text, or notes where it is left out.
func (m *members) text(t *keptText) {
	if m.long != nil && (t.len >= minLongText || t.len >= minText && len(m.out) >= largestBit) {
		*m.long = append(*m.long, longText{len(m.out), t})
		return
	}
	m.out = t.appendTo(m.out)
}

// rest is what is still to be appended: bytes, with texts that are left out of them.
type rest struct {
	bytes []byte
	texts longTexts
	next  int // byte
	span  int // of the next text
	had   int // of that span
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

// len returns how many bytes are still to be appended, before any are.
func (r *rest) len() int {
	n := len(r.bytes)
	for _, t := range r.texts {
		n += t.text.len
	}
	return n
}

// append appends the next bit of it.
func (r *rest) append(dst []byte) []byte {
	for end := len(dst) + largestBit; len(dst) < end && !r.empty(); {
		if len(r.texts) > 0 && r.texts[0].at == r.next {
			dst = r.appendText(dst, end-len(dst))
			continue
		}
		to := len(r.bytes)
		if len(r.texts) > 0 {
			to = r.texts[0].at
		}
		to = min(to, r.next+end-len(dst))
		dst = append(dst, r.bytes[r.next:to]...)
		r.next = to
	}
	return dst
}

// appendText appends at most so many bytes of the next text.
func (r *rest) appendText(dst []byte, most int) []byte {
	t := r.texts[0].text
	if r.span == len(t.spans) {
		r.texts, r.span = r.texts[1:], 0
		return dst
	}
	at := t.spans[r.span]
	from := at.from + r.had
	to := min(at.to, from+most)
	if r.had += to - from; to == at.to {
		r.span, r.had = r.span+1, 0
	}
	return t.reader.text.of[t.kind].appendSome(dst, span{from, to})
}
