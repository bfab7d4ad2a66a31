package openai

import (
	"cmp"
	"fmt"
	"strconv"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// response makes the events of a response of those of a completion. It has to remember
// all that it has written: at the end, each part is told again as a whole, each item with
// its parts, and the response with its items.
//
// Reasoning and messages follow each other: when the one goes on, the other is done. Calls
// are done only at the end, as their pieces may alternate.
type response struct {
	from     int // the number of the first event that is written; the others only count
	sequence int // of the next event

	id         string // the completion's; "": it has not begun
	model      string
	created    int64
	status     string
	failure    *Refusal
	incomplete string // why it is
	usage      *completionv1.Usage
	items      []*item
	calls      map[int32]*item // by their numbers
	last       *item           // the call that was found last; nil: none
	open       *outputPart     // of a message or of reasoning; nil: none
	long       longTexts       // which what was appended last is without
	waiting    *item           // a call whose name may go on; it is not told of yet
	reader     reader          // of the texts
	err        error           // why there is no room for what was appended; it stays
}

// count counts bytes that are kept for the end, beside the texts.
func (r *response) count(n int) { r.note(r.reader.keep(n)) }

// note takes note of the first error.
func (r *response) note(err error) {
	if r.err == nil {
		r.err = err
	}
}

const inProgress = "in_progress"

// append appends the events of any event of a completion.
func (r *response) append(dst []byte, event *completionv1.CompletionEvent) (out []byte, terminal bool, err error) {
	if created := event.GetCreated(); created != nil {
		return r.begin(dst, created), false, nil
	}
	if r.id == "" {
		return dst, false, errNoCreated
	}
	switch event := event.GetEvent().(type) {
	case *completionv1.CompletionEvent_Delta:
		out, err = r.delta(dst, event.Delta)
	case *completionv1.CompletionEvent_Finished:
		out, terminal = r.finish(dst, event.Finished), true
	default:
		err = errNoEvent
	}
	if err = cmp.Or(err, r.err); err != nil {
		return dst, false, err
	}
	return out, terminal, nil
}

func (r *response) begin(dst []byte, c *completionv1.Created) []byte {
	r.id, r.model, r.created, r.status = c.GetId(), c.GetModel(), c.GetCreateTime().GetSeconds(), inProgress
	if r.reader.text == nil { // else it has begun twice, as no server should tell
		r.reader.open(r.id)
	}
	dst = r.whole(dst, "response.created")
	return r.whole(dst, "response.in_progress")
}

// delta appends the events of any delta.
func (r *response) delta(dst []byte, d *completionv1.Delta) ([]byte, error) {
	start := len(dst)
	if d.GetReasoning() != "" {
		dst = r.piece(dst, summaryPart, valid(d.GetReasoning()))
	}
	switch {
	case len(d.GetLogprobs().GetContent()) > 0 && r.areOfText(d):
		dst = r.likelyPiece(dst, d.GetText(), d.GetLogprobs().GetContent())
	case d.GetText() != "":
		dst = r.piece(dst, textPart, valid(d.GetText()))
	}
	if d.GetRefusal() != "" {
		dst = r.piece(dst, refusalPart, valid(d.GetRefusal()))
	}
	for _, c := range d.GetToolCalls() {
		it, out := r.call(dst, c.GetIndex(), c.GetId(), c.GetName())
		more, err := it.addExtra(c.GetExtra())
		if err != nil {
			return dst[:start], fmt.Errorf("encode what is beside a call: %w", err)
		}
		r.count(sizeOfExtra * more)
		dst = r.arguments(out, it, valid(c.GetArguments()))
	}
	return dst, nil
}

// areOfText tells whether the log probabilities of a delta are of tokens of the text, which it
// may hold none of: a token may be less than a character. A server may tell those of all
// tokens, and those of others than text have no place in a response.
func (r *response) areOfText(d *completionv1.Delta) bool {
	switch {
	case d.GetText() != "":
		return true
	case d.GetReasoning() != "" || d.GetRefusal() != "" || len(d.GetToolCalls()) > 0:
		return false
	}
	return r.open != nil && r.open.kind == textPart || len(r.items) == 0 // then it is still to come
}

// piece appends the event of a piece of reasoning or of a message. It is the hot path.
func (r *response) piece(dst []byte, kind *partKind, text []byte) []byte {
	p := r.open
	if p == nil || p.kind != kind {
		p, dst = r.openPart(dst, kind)
	}
	return r.pieceOf(dst, p, text, p.kind.tail)
}

func (r *response) pieceOf(dst []byte, p *outputPart, text []byte, tail string) []byte {
	start := len(dst)
	dst = p.appendPrefix(dst, r.sequence)
	dst, err := p.appendQuoted(dst, text)
	r.note(err)
	dst = append(dst, tail...)
	return r.number(dst, start)
}

// likelyPiece appends the event of a piece of text with the probabilities of its tokens.
func (r *response) likelyPiece(dst []byte, text string, tokens []*completionv1.TokenLogprob) []byte {
	p := r.open
	if p == nil || p.kind != textPart {
		p, dst = r.openPart(dst, textPart)
	}
	list := appendTokens(nil, tokens, true)
	tail := `,"logprobs":` + string(list) + "}\n\n"
	if list[0] = ','; p.logprobs.len == 0 {
		list = list[1:]
	}
	r.note(p.logprobs.add(list[:len(list)-1]))
	return r.pieceOf(dst, p, valid(text), tail)
}

// number counts the event that begins at start, and takes it back if it is not wanted.
func (r *response) number(dst []byte, start int) []byte {
	r.sequence++
	if r.sequence <= r.from {
		for n := len(r.long); n > 0 && r.long[n-1].at > start; n-- {
			r.long = r.long[:n-1]
		}
		return dst[:start]
	}
	return dst
}

// event appends an event whose members are what f appends.
func (r *response) event(dst []byte, name string, f func(m *members)) []byte {
	start := len(dst)
	dst = append(append(append(dst, "event: "...), name...), "\ndata: {"...)
	m := members{out: dst, long: &r.long}
	m.string("type", name)
	m.int("sequence_number", r.sequence)
	f(&m)
	return r.number(append(m.out, "}\n\n"...), start)
}

// whole appends an event that has the response.
func (r *response) whole(dst []byte, name string) []byte {
	return r.event(dst, name, func(m *members) {
		m.name("response")
		m.object(func() { r.object(m) })
	})
}

// openPart appends the events by which a part begins, and its item, if need be.
func (r *response) openPart(dst []byte, kind *partKind) (*outputPart, []byte) {
	dst = r.tell(dst)
	it := (*item)(nil)
	if r.open != nil {
		if r.open.item.of == kind.item {
			it, dst = r.open.item, r.closePart(dst, r.open)
		} else {
			dst = r.close(dst, r.open.item)
		}
	}
	if it == nil {
		it = r.newItem(kind.item)
		dst = r.itemEvent(dst, "response.output_item.added", it)
	}
	r.open = r.newPart(it, kind)
	return r.open, r.partEvent(dst, kind.added, r.open)
}

func (r *response) itemEvent(dst []byte, name string, it *item) []byte {
	return r.event(dst, name, func(m *members) {
		m.int("output_index", it.index)
		m.name("item")
		m.object(func() { it.append(m, r.statusOf(it)) })
	})
}

func (r *response) partEvent(dst []byte, name string, p *outputPart) []byte {
	return r.event(dst, name, func(m *members) {
		p.place(m)
		m.name("part")
		m.object(func() { p.append(m) })
	})
}

// closePart appends the events by which a part ends.
func (r *response) closePart(dst []byte, p *outputPart) []byte {
	dst = r.event(dst, p.kind.done, func(m *members) {
		p.place(m)
		switch p.kind {
		case argumentsPart:
			m.string("name", string(p.item.name))
		case textPart:
			p.likely(m)
		}
		p.quoted(m)
	})
	p.prefix = nil // which only pieces need
	if p.kind.name == "" {
		return dst
	}
	return r.partEvent(dst, p.kind.closed, p)
}

// close appends the events by which an item ends that is whole, or that the end of the
// response cuts.
func (r *response) close(dst []byte, it *item) []byte {
	if r.open != nil && r.open.item == it {
		r.open = nil
	}
	dst = r.closePart(dst, it.parts[len(it.parts)-1])
	it.done = r.status == inProgress || r.status == "completed"
	return r.itemEvent(dst, "response.output_item.done", it)
}

// call returns the call with a number, which may begin with this.
func (r *response) call(dst []byte, number int32, id, name string) (*item, []byte) {
	it := r.find(number)
	if it == nil {
		dst = r.tell(dst)
		if r.open != nil {
			dst = r.close(dst, r.open.item)
		}
		it = r.newCall(number)
		r.waiting = it
	}
	if it.callID == "" {
		it.callID = string(valid(id))
		r.count(len(id))
	}
	it.name = append(it.name, valid(name)...)
	r.count(len(name))
	return it, dst
}

// tell appends the event that a call has begun, if one waits for it: when all of its name
// is there. A call without an id gets one, to be answered by.
func (r *response) tell(dst []byte) []byte {
	it := r.waiting
	if it == nil {
		return dst
	}
	r.waiting = nil
	if it.callID == "" {
		it.callID = foreignID("call_", r.id) + "_" + strconv.Itoa(it.index)
	}
	return r.itemEvent(dst, "response.output_item.added", it)
}

// arguments appends the event of a piece of a call's arguments.
func (r *response) arguments(dst []byte, it *item, text []byte) []byte {
	if len(text) == 0 {
		return dst
	}
	if r.waiting == it {
		dst = r.tell(dst)
	}
	return r.pieceOf(dst, it.parts[0], text, argumentsPart.tail)
}

// finish appends the last events.
func (r *response) finish(dst []byte, f *completionv1.Finished) []byte {
	dst = r.tell(dst)
	r.usage = f.GetUsage()
	name := "response.incomplete"
	switch f.GetFinishReason() {
	case completionv1.Finished_CANCELLED:
		return r.fail(dst, cancelled())
	case completionv1.Finished_LENGTH:
		r.status, r.incomplete = "incomplete", "max_output_tokens"
	case completionv1.Finished_CONTENT_FILTER:
		r.status, r.incomplete = "incomplete", "content_filter"
	default:
		name, r.status = "response.completed", "completed"
	}
	for _, it := range r.items {
		if it.done {
			continue
		}
		// Upstreams leave the arguments of a call without any out; the official clients
		// parse them.
		if it.of == itemCall && r.status == "completed" && it.parts[0].text.len == 0 {
			dst = r.arguments(dst, it, []byte("{}"))
		}
		dst = r.close(dst, it)
	}
	return r.whole(dst, name)
}

// fail appends the last event of a response that has failed, or was cancelled: that, too,
// is no answer, and has no event of its own.
func (r *response) fail(dst []byte, why Refusal) []byte {
	dst = r.tell(dst)
	r.status, r.failure = "failed", &why
	if why.Code == cancelled().Code {
		r.status = "cancelled"
	}
	return r.whole(dst, "response.failed")
}
