package openai

import (
	"bytes"
	"strings"
	"unicode/utf8"
)

// decodeFast decodes the chunks that make up nearly all of a stream: an object
// with choices of plain deltas. It reports false, having looked in vain, for all
// that is not exactly that: other types, keys twice, errors, usage, tool calls.
// What it decodes is what encoding/json would.
//
// It fills c, which it may be given again: then a chunk costs an allocation for
// its text and none besides, and a tenth of the time. TestDecodersAgree holds it, and
// decodeLike, against encoding/json.
func decodeFast(data []byte, c *wireChunk) bool {
	model := c.Model // which hardly ever changes: no need for a new string
	*c = wireChunk{Choices: c.Choices[:0], delta: c.delta, last: template{data: c.last.data}}
	if c.Choices == nil {
		c.Choices = make([]wireChoice, 0, 1) // an empty list is not nil
	}
	s := scanner{b: data}
	var seen keys
	ok := s.object(func(key []byte) bool {
		switch string(key) {
		case "model":
			var ok bool
			c.Model, ok = s.textLike(model)
			return ok && seen.first(0)
		case "choices":
			return seen.first(1) && s.array(func() bool { return s.choice(c) })
		case "usage", "error", "x_groq":
			return s.literal("null")
		case "object":
			var ok bool
			c.Object, ok = s.textLike("chat.completion.chunk")
			return ok && seen.first(2) && c.Object != "error"
		}
		start := s.i
		ok := s.skip(0)
		if seen.has(1) && data[s.i-1] == '"' {
			c.last.padding = span{start, s.i}
		}
		return ok
	})
	ok = ok && s.end() && seen.has(1)
	if ok {
		c.last.data = append(c.last.data[:0], data...)
	} else {
		c.last.field = noText
	}
	return ok
}

// template is a chunk, which the next one of its stream most often repeats but for
// its text. Where it does, all that is left to do is to compare and to take that.
//
// What is decoded is the same, since JSON is read token by token: one string in the
// place of another changes the value of that string alone.
type template struct {
	data    []byte
	field   textField // where the text went; noText: there is no template
	at      span      // of the text's token, its quotes included
	padding span      // of a string behind that which means nothing; zero: there is none
}

// textField names a text of a chunk's first choice. A pointer to the text would hold
// only until Choices grows.
type textField uint8

const (
	noText textField = iota
	inText
	inContent
	inReasoningContent
	inReasoning
	inRefusal
)

// text returns the text that a field names, of a chunk that decodeFast has decoded;
// nil for noText.
func (c *wireChunk) text(f textField) *text {
	switch f {
	case inText:
		return &c.Choices[0].Text
	case inContent:
		return &c.Choices[0].Delta.Content
	case inReasoningContent:
		return (*text)(&c.Choices[0].Delta.ReasoningContent)
	case inReasoning:
		return (*text)(&c.Choices[0].Delta.Reasoning)
	case inRefusal:
		return &c.Choices[0].Delta.Refusal
	}
	return nil
}

// span is a part of a chunk.
type span struct{ start, end int }

// decodeLike decodes a chunk that is like the last one that c was given. The text
// may be where it stands in data, and then holds as long as that does.
func (c *wireChunk) decodeLike(data []byte) bool {
	t := &c.last
	if t.field == noText || len(data) < t.at.start || string(data[:t.at.start]) != string(t.data[:t.at.start]) {
		return false
	}
	s := scanner{b: data, i: t.at.start}
	words, escaped, ok := s.fleeting()
	if !ok || escaped && !utf8.ValidString(words) { // or there is a half
		return false
	}
	rest := t.data[t.at.end:]
	if t.padding.start >= t.at.end {
		// OpenAI pads chunks, so that who sees them on the wire cannot tell words by
		// their lengths.
		between := t.data[t.at.end:t.padding.start]
		if !bytes.HasPrefix(data[s.i:], between) {
			return false
		}
		s.i += len(between)
		if _, escaped, ok := s.raw(); !ok || escaped {
			return false
		}
		rest = t.data[t.padding.end:]
	}
	if !bytes.Equal(data[s.i:], rest) {
		return false
	}
	*c.text(t.field) = text(words)
	return true
}

// choice takes the only element of choices: more were not asked for.
func (s *scanner) choice(c *wireChunk) bool {
	if len(c.Choices) > 0 {
		return false
	}
	c.Choices = append(c.Choices, wireChoice{})
	choice := &c.Choices[0]
	var seen keys
	return s.object(func(key []byte) bool {
		var ok bool
		switch string(key) {
		case "index":
			var n int32
			var small bool
			n, small, ok = s.number()
			choice.Index = lenientInt(n)
			return ok && small && seen.first(0)
		case "delta":
			if c.delta == nil {
				c.delta = new(wireDelta)
			}
			*c.delta = wireDelta{}
			choice.Delta = c.delta
			return seen.first(1) && s.delta(c)
		case "text":
			return s.templateText(c, inText) && seen.first(2)
		case "finish_reason":
			choice.FinishReason, ok = s.word()
			return ok && seen.first(3)
		case "message", "usage", "error", "logprobs", "finishreason":
			return s.literal("null")
		}
		return s.skip(0)
	})
}

// delta takes the delta of a choice.
func (s *scanner) delta(c *wireChunk) bool {
	var seen keys
	return s.object(func(key []byte) bool {
		switch string(key) {
		case "content":
			return s.templateText(c, inContent) && seen.first(0)
		case "reasoning_content":
			return s.templateText(c, inReasoningContent) && seen.first(1)
		case "reasoning":
			return s.templateText(c, inReasoning) && seen.first(2)
		case "refusal":
			return s.templateText(c, inRefusal) && seen.first(3)
		case "tool_calls", "function_call":
			return s.literal("null")
		}
		if rareInDelta(key) {
			return s.nothing()
		}
		return s.skip(0)
	})
}

// templateText takes a text and notes for the chunk's template where it stood.
func (s *scanner) templateText(c *wireChunk, field textField) bool {
	start := s.i
	words, _, ok := s.fleeting()
	*c.text(field) = text(strings.Clone(words))
	if ok && s.b[s.i-1] == '"' {
		c.last.field, c.last.at = field, span{start, s.i}
	}
	return ok
}

// keys are those that an object has had so far, a bit for each. One that comes
// twice is for encoding/json, which lets the two grow together.
type keys uint8

func (k *keys) first(bit int) bool {
	had := *k&(1<<bit) != 0
	*k |= 1 << bit
	return !had
}

func (k keys) has(bit int) bool { return k&(1<<bit) != 0 }
