package openai

// reader is who reads a response, and what it keeps of it. One goroutine at a time uses it.
type reader struct {
	texts   *Texts
	text    *responseText    // of the response; nil: none is begun
	at      [kindsOfText]int // how far the reader has come in it, in bytes
	own     int64            // bytes that the reader keeps beside it, as far as that can be told
	counted int64            // of these
	err     error            // why a piece could not be added; it stays, for what follows has another place
}

// open begins to read the response of a completion.
func (r *reader) open(id string) {
	r.close()
	r.text = r.texts.read(id)
}

// close gives back what the reader keeps, whose texts are then gone.
func (r *reader) close() {
	if r.text != nil {
		r.texts.leave(r.text)
		r.texts.letGo(r.counted)
	}
	*r = reader{texts: r.texts}
}

// keep counts bytes that the reader keeps beside the text of the response.
func (r *reader) keep(n int) error {
	r.own += int64(n)
	if r.own-free <= r.counted {
		return nil
	}
	more := max(r.own-free-r.counted, free/4) // all readers count at one place: not each few bytes
	if err := r.texts.hold(more); err != nil {
		return err
	}
	r.counted += more
	return nil
}

// add adds a piece behind what the reader has read.
func (r *reader) add(kind textKind, piece []byte) (at span, err error) {
	if r.err != nil {
		return span{}, r.err
	}
	from := r.at[kind]
	same, err := r.text.of[kind].add(r.texts, from, piece)
	if !same {
		if err = r.part(); err == nil {
			_, err = r.text.of[kind].add(r.texts, from, piece)
		}
	}
	if r.err = err; err != nil {
		return span{}, err
	}
	r.at[kind] += len(piece)
	return span{from, r.at[kind]}, nil
}

// part gives the reader a text of its own: another has read something else under the same
// id, which no server should tell.
func (r *reader) part() error {
	own := &responseText{readers: 1}
	var bit []byte
	for kind, end := range r.at {
		for at := 0; at < end; at += len(bit) {
			bit = r.text.of[kind].appendSome(bit[:0], span{at, min(at+largestBit, end)})
			if _, err := own.of[kind].add(r.texts, at, bit); err != nil {
				r.texts.leave(own)
				return err
			}
		}
	}
	r.texts.leave(r.text)
	r.text = own
	return nil
}

// keptText is one of the texts of which a response consists, as its reader keeps it: where
// it stands in the text of the response. Most stand there in one piece.
type keptText struct {
	reader *reader
	kind   textKind
	spans  []span
	len    int // bytes
}

// sizeOfSpan is what one takes, with the room that a list of them has.
const sizeOfSpan = 24

func (t *keptText) add(piece []byte) error {
	at, err := t.reader.add(t.kind, piece)
	if err != nil {
		return err
	}
	t.len += len(piece)
	if last := len(t.spans) - 1; last >= 0 && t.spans[last].to == at.from {
		t.spans[last].to = at.to
		return nil
	}
	t.spans = append(t.spans, at)
	return t.reader.keep(sizeOfSpan)
}

func (t *keptText) appendTo(dst []byte) []byte {
	for _, s := range t.spans {
		dst = t.reader.text.of[t.kind].appendSome(dst, s)
	}
	return dst
}
