package openai

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/bridge/wire"
)

// item is one of the things that a response consists of.
type item struct {
	id     string // of the item
	index  int    // in the response's output
	of     itemKind
	parts  []*outputPart // of a message or of reasoning; a call has one, its arguments
	done   bool          // nothing is added any more
	callID string
	name   []byte // of the function, which may come in pieces; from here on of calls alone
	number int32  // of the call, in the completion
	extra  *structpb.Struct
}

// itemKind is what an item is, and the prefix of its id.
type itemKind string

const (
	itemMessage   itemKind = "msg_"
	itemReasoning itemKind = "rs_"
	itemCall      itemKind = "fc_"
)

// outputPart is a text that grows: a part of a message, a summary, the arguments of a call.
type outputPart struct {
	kind     *partKind
	item     *item
	index    int
	text     keptText // so far, quoted for JSON, without the quotes
	logprobs keptText // so far, in JSON, without the brackets

	prefix []byte // of the event of a piece, up to the piece: with the number of the last one
	digits int    // where that number begins in it
	number int    // that number
}

// partKind is how parts of a kind are written.
type partKind struct {
	item     itemKind
	field    byte   // of a delta, by its tag on the wire
	name     string // the type of the part; "": it is not written as one
	member   string // which holds its text, in the part and in the event that it is done
	position string // the name of its index; "": it has none
	delta    string // the event of a piece
	done     string // the event when it is done
	added    string // those of the part
	closed   string
	tail     string // behind the piece
}

var (
	textPart = &partKind{item: itemMessage, field: wire.DeltaText, name: "output_text", member: "text", position: "content_index", delta: "response.output_text.delta",
		done: "response.output_text.done", added: "response.content_part.added", closed: "response.content_part.done", tail: ",\"logprobs\":[]}\n\n"}
	refusalPart = &partKind{item: itemMessage, field: wire.DeltaRefusal, name: "refusal", member: "refusal", position: "content_index", delta: "response.refusal.delta",
		done: "response.refusal.done", added: "response.content_part.added", closed: "response.content_part.done", tail: "}\n\n"}
	// Reasoning is a summary, although it is the whole of it: that is what the official
	// clients and those built on them show. None but openai-node knows reasoning_text.
	summaryPart = &partKind{item: itemReasoning, field: wire.DeltaReasoning, name: "summary_text", member: "text", position: "summary_index", delta: "response.reasoning_summary_text.delta",
		done: "response.reasoning_summary_text.done", added: "response.reasoning_summary_part.added", closed: "response.reasoning_summary_part.done", tail: "}\n\n"}
	argumentsPart = &partKind{item: itemCall, field: wire.DeltaToolCalls, member: "arguments", delta: "response.function_call_arguments.delta",
		done: "response.function_call_arguments.done", tail: "}\n\n"}
)

// newItem adds an item to the response.
func (r *response) newItem(of itemKind) *item {
	it := &item{of: of, index: len(r.items)}
	it.id = foreignID(string(of), r.id) + "_" + strconv.Itoa(it.index)
	r.items = append(r.items, it)
	r.count(sizeOfItem)
	return it
}

// What an item and a part take, beside their texts, with what the end of the response says
// of them: there may be many, each of a few letters.
const (
	sizeOfItem  = 512
	sizeOfPart  = 512
	sizeOfExtra = 8 // for each byte that it has as a message
)

// size returns the length of an item's texts, in bytes.
func (it *item) size() (n int) {
	for _, p := range it.parts {
		n += p.text.len + p.logprobs.len
	}
	return n
}

// newPart adds a part to an item.
func (r *response) newPart(it *item, kind *partKind) *outputPart {
	p := &outputPart{kind: kind, item: it, index: len(it.parts)}
	p.text, p.logprobs = keptText{reader: &r.reader, kind: said}, keptText{reader: &r.reader, kind: logprobs}
	it.parts = append(it.parts, p)
	r.count(sizeOfPart)
	return p
}

// place appends the members that say where a part is.
func (p *outputPart) place(m *members) {
	m.string("item_id", p.item.id)
	m.int("output_index", p.item.index)
	if p.kind.position != "" {
		m.int(p.kind.position, p.index)
	}
}

// quoted appends a member that is the part's text.
func (p *outputPart) quoted(m *members) {
	m.name(p.kind.member)
	m.out = append(m.out, '"')
	m.text(&p.text)
	m.out = append(m.out, '"')
}

// append appends the members of a part.
func (p *outputPart) append(m *members) {
	m.string("type", p.kind.name)
	p.quoted(m)
	if p.kind == textPart {
		m.raw("annotations", "[]")
		p.likely(m)
	}
}

func (p *outputPart) likely(m *members) {
	m.name("logprobs")
	m.out = append(m.out, '[')
	m.text(&p.logprobs)
	m.out = append(m.out, ']')
}

// append appends the members of an item.
func (it *item) append(m *members, status string) {
	m.string("id", it.id)
	content := func(name string) {
		m.name(name)
		m.list(len(it.parts), func(i int) { it.parts[i].append(m) })
	}
	switch it.of {
	case itemMessage:
		m.raw("type", `"message"`)
		m.string("status", status)
		m.raw("role", `"assistant"`)
		content("content")
	case itemReasoning:
		m.raw("type", `"reasoning"`)
		content("summary")
	case itemCall:
		m.raw("type", `"function_call"`)
		m.string("status", status)
		m.string("call_id", it.callID)
		m.string("name", string(it.name))
		it.parts[0].quoted(m)
		m.extra(it.extra, "id", "type", "status", "call_id", "name", "arguments", "index", "function")
	}
}

// addExtra puts what the upstream has said of a call to what it had said, and returns by how
// many bytes that has grown, as a message.
func (it *item) addExtra(s *structpb.Struct) (more int, err error) {
	if len(s.GetFields()) == 0 {
		return 0, nil
	}
	m := members{}
	if m.extra(s); m.err != nil {
		return 0, m.err
	}
	if it.extra == nil {
		it.extra = &structpb.Struct{Fields: map[string]*structpb.Value{}}
	}
	for name, value := range s.GetFields() {
		had, ok := it.extra.Fields[name]
		if more += proto.Size(value) - proto.Size(had); !ok {
			more += len(name)
		}
		it.extra.Fields[name] = value
	}
	return more, nil
}

// appendPrefix appends what stands before a piece in its event, which is the same for all
// pieces of a part, but for the number: that is counted up where it stands.
func (p *outputPart) appendPrefix(dst []byte, number int) []byte {
	if p.prefix == nil || p.number != number-1 || !countUp(p.prefix[p.digits:]) {
		p.setPrefix(number)
	}
	p.number = number
	return append(dst, p.prefix...)
}

func (p *outputPart) setPrefix(number int) {
	m := members{out: append(p.prefix[:0], "event: "+p.kind.delta+"\ndata: {"...)}
	m.string("type", p.kind.delta)
	m.name("sequence_number")
	p.digits = len(m.out)
	m.out = strconv.AppendInt(m.out, int64(number), 10)
	p.place(&m)
	m.name("delta")
	p.prefix = m.out
}

// countUp makes the decimal number that text begins with the next one. It returns false
// if there is no room for it, and the number is then not one any more.
func countUp(text []byte) bool {
	last := 0
	for '0' <= text[last+1] && text[last+1] <= '9' {
		last++
	}
	for ; last >= 0; last-- {
		if text[last] != '9' {
			text[last]++
			return true
		}
		text[last] = '0'
	}
	return false
}

// appendQuoted appends a piece to a part, and what it looks like to dst.
func (p *outputPart) appendQuoted(dst, text []byte) ([]byte, error) {
	start := len(dst)
	dst = sse.AppendQuoted(dst, text)
	return dst, p.text.add(dst[start+1 : len(dst)-1])
}

// find returns the call with a number in the completion, or nil. Most often it is that of
// the piece before.
func (r *response) find(number int32) *item {
	if it := r.last; it != nil && it.number == number {
		return it
	}
	it := r.calls[number]
	if it != nil {
		r.last = it
	}
	return it
}

// newCall adds a call to the response.
func (r *response) newCall(number int32) *item {
	it := r.newItem(itemCall)
	it.number = number
	r.newPart(it, argumentsPart)
	if r.calls == nil {
		r.calls = map[int32]*item{}
	}
	r.calls[number], r.last = it, it
	return it
}

// parseID returns the completion whose response has an id, or that has an item with it.
func parseID(prefix, id string) (completion string, ok bool) {
	rest, ok := strings.CutPrefix(id, prefix)
	if !ok || rest == "" || len(rest) > maxID {
		return "", false
	}
	for _, c := range []byte(rest) {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return "", false
		}
	}
	return nativePrefix + rest, true
}

// maxID bounds what is looked up, in bytes.
const maxID = 128

// ParseResponseID returns the completion whose response has an id.
func ParseResponseID(id string) (completion string, ok bool) { return parseID(responsePrefix, id) }

// parseItemID returns the completion that an item is of, and its place in the output.
func parseItemID(id string) (completion string, index int, ok bool) {
	for _, kind := range []itemKind{itemMessage, itemReasoning, itemCall} {
		completion, ok = parseID(string(kind), id)
		if !ok {
			continue
		}
		i := strings.LastIndexByte(completion, '_')
		n, err := strconv.Atoi(completion[i+1:])
		if err != nil || n < 0 || i < len(nativePrefix) {
			return "", 0, false
		}
		return completion[:i], n, true
	}
	return "", 0, false
}
