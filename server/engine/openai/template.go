package openai

import (
	"bytes"
	"slices"
	"unicode/utf8"
	"unsafe"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// A template is the last chunk of a stream, which the next one most often repeats but
// for its text, and for padding. Where it does, comparing the two is all that is left
// to do: the stream's chunk is the last one with another text.
//
// What is decoded is the same, since JSON is read token by token: one string in the
// place of another changes the value of that string alone. TestDecodersAgree and
// TestStreamsAgree hold it against the way through decode.
type template struct {
	data  []byte
	field *string // of the stream's delta, where the text goes; nil: there is no template
	text  span    // of data: the text's token, its quotes included
	other span    // of another string behind it that may change; empty: there is none
	same  bool    // the other one has to be the same as the text
}

// span is a part of a byte slice.
type span struct{ start, end int }

// match tells whether a chunk repeats the template, and returns its text, which may
// be part of data, and changes when that does.
func (t *template) match(data []byte) (text string, ok bool) {
	if t.field == nil || len(data) < t.text.start || string(data[:t.text.start]) != string(t.data[:t.text.start]) {
		return "", false
	}
	data = data[t.text.start:]
	token, escaped, ok := scanString(data)
	if !ok {
		return "", false
	}
	data, rest := data[len(token):], t.data[t.text.end:]
	if t.other != (span{}) {
		between := t.data[t.text.end:t.other.start]
		if !bytes.HasPrefix(data, between) {
			return "", false
		}
		data, rest = data[len(between):], t.data[t.other.end:]
		other, escaped, ok := scanString(data)
		if !ok || escaped && !t.same || t.same && string(other) != string(token) {
			return "", false
		}
		data = data[len(other):]
	}
	if !bytes.Equal(data, rest) {
		return "", false
	}
	inner := token[1 : len(token)-1]
	if !escaped {
		return unsafe.String(unsafe.SliceData(inner), len(inner)), len(inner) > 0
	}
	text, ok = unescape(inner)
	return text, ok && utf8.ValidString(text) // half of a surrogate pair waits for the other
}

// remember makes a chunk the template, if there is nothing in it but one text. It has
// just been translated from wire, which was decoded from data.
func (s *stream) remember(wire *wireChunk, data []byte) {
	t := &s.template
	t.field = nil
	if len(wire.Choices) != 1 || wire.Choices[0].Index != 0 || s.chunk.Usage != nil {
		return
	}
	field, tokens := onlyText(&s.delta), wire.Choices[0].tokens()
	if field == nil || len(tokens) == 0 || tokens[0][0] != '"' || *field != unquote(tokens[0]) {
		return // or there is more in it than came with the chunk, or less
	}
	other := wire.padding()
	if t.same = len(tokens) > 1; t.same {
		other = tokens[1]
	}
	if len(tokens) > 2 || t.same && !bytes.Equal(tokens[0], other) {
		return
	}
	var ok bool
	if t.text, ok = position(tokens[0], data); !ok {
		return
	}
	switch t.other, ok = position(other, data); {
	case t.same && !ok:
		return
	case t.other.start < t.text.start: // it is a part of what has to be the same
		t.other = span{}
	}
	t.data, t.field = append(t.data[:0], data...), field
}

// onlyText returns the text of a delta, or nil if that is not all that there is.
func onlyText(d *completionv1.Delta) (only *string) {
	if d.Parts != nil || d.Logprobs != nil || d.Extra != nil {
		return nil
	}
	for _, field := range []*string{&d.Text, &d.Reasoning, &d.Refusal} {
		switch {
		case *field == "":
		case only != nil:
			return nil
		default:
			only = field
		}
	}
	return only
}

// tokens returns the JSON of a choice's texts, in its order, or nil if there is more
// in it: the pieces of calls mean something else each time they come.
func (c *wireChoice) tokens() (tokens [][]byte) {
	d := c.Delta
	if d == nil {
		d = new(wireDelta)
	}
	if c.Message != nil || d.rest != nil || d.ToolCalls != nil || d.FunctionCall != nil {
		return nil
	}
	for _, t := range []*wireText{&c.Text, &d.Content, (*wireText)(&d.ReasoningContent), (*wireText)(&d.Reasoning), &d.Refusal} {
		if t.text != "" {
			tokens = append(tokens, t.raw)
		}
	}
	slices.SortFunc(tokens, func(a, b []byte) int { return cap(b) - cap(a) }) // parts of one slice
	return tokens
}

// position returns where in data a part of it stands. It is a part still, where
// encoding/json has given it to an UnmarshalJSON; were that to copy, nothing would be
// found, and there would be no templates.
func position(part, data []byte) (span, bool) {
	start := cap(data) - cap(part)
	if len(part) == 0 || start < 0 || start+len(part) > len(data) || &data[start] != &part[0] {
		return span{}, false
	}
	return span{start, start + len(part)}, true
}
