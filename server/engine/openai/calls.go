package openai

import (
	"crypto/rand"
	"math"
	"strings"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// callTracker tells to which tool call of a completion each piece belongs that the
// upstream sends. Callers get the calls numbered from 0 in the order in which they
// begin, each with an id of its own, and with its name once.
//
// The index of a piece says to which call it belongs. But some servers send none, some
// send 0 for every call (Gemini: NousResearch/hermes-agent#62937; others:
// mcowger/plexus#691). Some send another id in every piece (BerriAI/litellm#28223), the
// same id for two calls (ggml-org/llama.cpp#27966), or none (vllm-project/vllm#18412,
// Gemini).
type callTracker struct {
	all     []*toolCall
	last    *toolCall           // of the last piece
	byIndex map[int64]*toolCall // by the upstream's index: the one that began last
	byID    map[string]*toolCall
	chunk   int // the number of the current chunk
}

// toolCall is a tool call, as far as it has come.
type toolCall struct {
	number        int32  // that callers know it by
	chunk         int    // in which it began
	upstreamIndex int64  // -1: it has none
	upstreamID    string // "": it has none
	name          string
	arguments     argumentScanner
	partial       partialChar // of the arguments
}

// add returns a piece as callers get it, or nil if there is nothing in it.
func (t *callTracker) add(w *wireToolCall) *completionv1.ToolCall {
	c := t.find(w)
	if c == nil && t.isVoid(w) {
		return nil
	}
	out := &completionv1.ToolCall{Extra: w.extra.toStruct()}
	if c == nil {
		c, out.Id = t.begin(w)
	}
	t.last = c
	out.Index = proto.Int32(c.number)
	if name, repeated := strings.CutPrefix(w.Function.Name, c.name); repeated || c.arguments.empty {
		out.Name = name
		c.name += name
	}
	c.arguments.scan(string(w.Function.Arguments))
	out.Arguments = c.partial.join(wtf8(w.Function.Arguments))
	if out.Id == "" && out.Name == "" && out.Arguments == "" && out.Extra == nil {
		return nil
	}
	return out
}

// isVoid tells whether a piece that continues no call does not begin one either: null
// in a list, a call with all fields empty, or one more end of a call that has ended.
func (t *callTracker) isVoid(w *wireToolCall) bool {
	if strings.TrimSpace(string(w.Function.Arguments)) != "" || w.extra != nil {
		return false
	}
	known := t.byID[w.ID]
	if w.ID == "" || known == nil {
		return w.ID == "" && w.Function.Name == ""
	}
	index, ok := w.index()
	return w.Function.Name == "" || w.Function.Name == known.name && (!ok || index == known.upstreamIndex)
}

// begin adds a call, and returns the id for callers: the upstream's, if no other call
// has it.
func (t *callTracker) begin(w *wireToolCall) (c *toolCall, id string) {
	if t.byID == nil {
		t.byID, t.byIndex = map[string]*toolCall{}, map[int64]*toolCall{}
	}
	c = &toolCall{number: int32(len(t.all)), upstreamIndex: -1, chunk: t.chunk, upstreamID: w.ID, arguments: argumentScanner{empty: true}}
	t.all = append(t.all, c)
	if index, ok := w.index(); ok {
		t.byIndex[index], c.upstreamIndex = c, index
	}
	id = w.ID
	if id == "" || t.byID[id] != nil {
		id = "call_" + rand.Text()
	}
	if w.ID != "" {
		t.byID[w.ID] = c
	}
	return c, id
}

// find returns the call that a piece continues, or nil if there is none.
func (t *callTracker) find(w *wireToolCall) *toolCall {
	c := t.last
	index, indexed := w.index()
	if indexed {
		c = t.byIndex[index]
	}
	switch byID := t.byID[w.ID]; {
	case w.ID == "" || byID == nil || byID == c:
	case c == nil && w.Function.Name == "": // with an index that no call has
		return byID
	case c != nil && !byID.arguments.complete && (!indexed || byID.upstreamIndex == index):
		c = byID // several calls of one index at the same time
	}
	if c == nil || c.endsBefore(w, t.chunk, indexed) {
		return nil
	}
	return c
}

// endsBefore tells whether a piece that seems to continue the call begins another one.
func (c *toolCall) endsBefore(w *wireToolCall, chunk int, indexed bool) bool {
	name := w.Function.Name
	otherID := w.ID != "" && w.ID != c.upstreamID
	longerName := c.arguments.empty && strings.HasPrefix(name, c.name) // the name so far, in each piece
	otherName := name != "" && c.name != "" && name != c.name && !longerName
	hasArguments := strings.TrimSpace(string(w.Function.Arguments)) != ""
	switch {
	case otherID && c.upstreamID != "" && (name != "" || !indexed):
		return true
	case otherName && (otherID || !indexed && w.ID == "" || !c.arguments.empty || hasArguments): // else it is the next piece of the name
		return true
	case name == "" || c.name == "":
		return false
	case c.arguments.complete: // with a name, more arguments are another call's
		return hasArguments
	case c.chunk == chunk && w.ID == "" && c.upstreamID == "": // two in one list, that have only names
		return c.arguments.empty
	}
	return false
}

// index returns the upstream's index, if there is a valid one.
func (w *wireToolCall) index() (int64, bool) {
	if w.Index == nil || *w.Index < 0 || *w.Index >= math.MaxInt32 {
		return 0, false
	}
	return int64(*w.Index), true
}

// flush returns replacements for the partial characters that nothing follows.
func (t *callTracker) flush() (pieces []*completionv1.ToolCall) {
	for _, c := range t.all {
		if rest := c.partial.flush(); rest != "" {
			pieces = append(pieces, &completionv1.ToolCall{Index: proto.Int32(c.number), Arguments: rest})
		}
	}
	return pieces
}

// argumentScanner follows the JSON object that arguments are, to find its end.
type argumentScanner struct {
	empty    bool // nothing but white space so far
	complete bool // the object has ended
	inString bool
	escaped  bool // behind a backslash
	depth    int
}

func (s *argumentScanner) scan(arguments string) {
	for i := range len(arguments) {
		c := arguments[i]
		switch {
		case s.escaped:
			s.escaped = false
		case s.inString:
			s.escaped, s.inString = c == '\\', c != '"'
		case c == '"':
			s.inString = true
		case c == '{' || c == '[':
			s.depth++
		case c == '}' || c == ']':
			s.depth--
			s.complete = s.complete || s.depth == 0
		}
		s.empty = s.empty && (c == ' ' || c == '\t' || c == '\n' || c == '\r')
	}
}
