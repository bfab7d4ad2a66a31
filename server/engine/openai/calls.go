package openai

import (
	"crypto/rand"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// calls tells the tool calls of a completion apart, of which the upstream sends
// pieces. Callers get them numbered from 0 in the order in which they begin, each
// with an id of its own and its name once.
//
// A piece says by its index to which call it belongs: but there are servers that
// have none, that have 0 for every call (Gemini: NousResearch/hermes-agent#62937;
// others: mcowger/plexus#691), that have another id in every piece
// (BerriAI/litellm#28223), the same id for two calls (ggml-org/llama.cpp#27966), or none
// (vllm-project/vllm#18412, Gemini).
type calls struct {
	all    []*call
	last   *call            // that of the piece before
	bySlot map[int64]*call  // the one that began last under an index of the upstream's
	byID   map[string]*call // under an id of the upstream's
	chunk  int              // which one it is whose pieces are added
}

// call is one of them, as far as it has come.
type call struct {
	index int32
	slot  int64  // the upstream's index; -1 where it gave none
	chunk int    // in which it began
	id    string // the upstream's; "" where it gave none
	name  string
	args  shape
	half  half // of the arguments
}

// add returns a piece as callers get it, or nil if it says nothing.
func (x *calls) add(w *wireToolCall) *completionv1.ToolCall {
	c := x.find(w)
	if c == nil && x.saysNothing(w) {
		return nil
	}
	out := &completionv1.ToolCall{Extra: w.extra.message()}
	if c == nil {
		c, out.Id = x.begin(w)
	}
	x.last = c
	out.Index = proto.Int32(c.index)
	if name, repeats := strings.CutPrefix(w.Function.Name, c.name); repeats || c.args.empty {
		out.Name = name
		c.name += name
	}
	c.args.add(string(w.Function.Arguments))
	out.Arguments = c.half.join(text(w.Function.Arguments))
	if out.Id == "" && out.Name == "" && out.Arguments == "" && out.Extra == nil {
		return nil
	}
	return out
}

// saysNothing tells whether a piece begins no call: null in a list, a call that some
// server has for none, with all its fields empty, or another end of one that has ended.
func (x *calls) saysNothing(w *wireToolCall) bool {
	if strings.TrimSpace(string(w.Function.Arguments)) != "" || w.extra != nil {
		return false
	}
	known := x.byID[w.ID]
	if w.ID == "" || known == nil {
		return w.ID == "" && w.Function.Name == ""
	}
	slot, ok := w.slot()
	return w.Function.Name == "" || w.Function.Name == known.name && (!ok || slot == known.slot)
}

// begin makes the next call, and returns the id that callers know it by: the
// upstream's, if it has one that no other call has.
func (x *calls) begin(w *wireToolCall) (c *call, id string) {
	if x.byID == nil {
		x.byID, x.bySlot = map[string]*call{}, map[int64]*call{}
	}
	c = &call{index: int32(len(x.all)), slot: -1, chunk: x.chunk, id: w.ID, args: shape{empty: true}}
	x.all = append(x.all, c)
	if slot, ok := w.slot(); ok {
		x.bySlot[slot], c.slot = c, slot
	}
	id = w.ID
	if id == "" || x.byID[id] != nil {
		id = "call_" + rand.Text()
	}
	if w.ID != "" {
		x.byID[w.ID] = c
	}
	return c, id
}

// find returns the call that a piece goes on with, or nil if it begins one.
func (x *calls) find(w *wireToolCall) *call {
	c := x.last
	slot, ok := w.slot()
	if ok {
		c = x.bySlot[slot]
	}
	switch other := x.byID[w.ID]; {
	case w.ID == "" || other == nil || other == c:
	case c == nil && w.Function.Name == "": // a piece that lost its place
		return other
	case c != nil && !other.args.complete && (!ok || other.slot == slot):
		c = other // the calls of one index take turns
	}
	if c == nil || c.endedBy(w, x.chunk, ok) {
		return nil
	}
	return c
}

// endedBy tells whether a piece that would go on with the call begins another one.
func (c *call) endedBy(w *wireToolCall, chunk int, indexed bool) bool {
	name := w.Function.Name
	otherID := w.ID != "" && w.ID != c.id
	longer := c.args.empty && strings.HasPrefix(name, c.name) // it comes as far as it has been written
	otherName := name != "" && c.name != "" && name != c.name && !longer
	more := strings.TrimSpace(string(w.Function.Arguments)) != ""
	switch {
	case otherID && c.id != "" && (name != "" || !indexed):
		return true
	case otherName && (otherID || !indexed && w.ID == "" || !c.args.empty || more): // else it is the next piece of the name
		return true
	case name == "" || c.name == "":
		return false
	case c.args.complete: // and now there are more arguments, for a call with a name
		return more
	case c.chunk == chunk && w.ID == "" && c.id == "": // two in one list, which have nothing but names
		return c.args.empty
	}
	return false
}

// slot returns the upstream's index, if it has one.
func (w *wireToolCall) slot() (int64, bool) {
	if w.Index == nil || *w.Index < 0 || *w.Index >= math.MaxInt32 {
		return 0, false
	}
	return int64(*w.Index), true
}

// end returns what has to stand for the halves that nothing follows.
func (x *calls) end() (pieces []*completionv1.ToolCall) {
	for _, c := range x.all {
		if rest := c.half.end(); rest != "" {
			pieces = append(pieces, &completionv1.ToolCall{Index: proto.Int32(c.index), Arguments: rest})
		}
	}
	return pieces
}

// shape follows arguments, as far as to know when the object that they are has ended.
type shape struct {
	empty    bool // there are none so far
	complete bool // the object has ended
	quoted   bool // within a string
	escaped  bool // behind a backslash
	depth    int
}

func (s *shape) add(args string) {
	for i := range len(args) {
		c := args[i]
		switch {
		case s.escaped:
			s.escaped = false
		case s.quoted:
			s.escaped, s.quoted = c == '\\', c != '"'
		case c == '"':
			s.quoted = true
		case c == '{' || c == '[':
			s.depth++
		case c == '}' || c == ']':
			s.depth--
			s.complete = s.complete || s.depth == 0
		}
		s.empty = s.empty && (c == ' ' || c == '\t' || c == '\n' || c == '\r')
	}
}
