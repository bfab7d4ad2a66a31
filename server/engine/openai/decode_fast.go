package openai

// decodeFast decodes the chunks that make up nearly all of a stream: an object
// with choices of plain deltas. It reports false, having looked in vain, for all
// that is not exactly that: other types, keys twice, errors, usage, tool calls.
// What it decodes is what encoding/json would.
//
// It fills c, which it may be given again: then a chunk costs an allocation for
// its text and none besides.
func decodeFast(data []byte, c *wireChunk) bool {
	model := c.Model // which hardly ever changes: no need for a new string
	*c = wireChunk{Choices: c.Choices[:0], delta: c.delta}
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
		case "usage", "error":
			return s.literal("null")
		case "object":
			var ok bool
			c.Object, ok = s.textLike("chat.completion.chunk")
			return ok && seen.first(2) && c.Object != "error"
		}
		return s.skip(0)
	})
	return ok && s.end() && seen.has(1)
}

// choice takes an element of choices.
func (s *scanner) choice(c *wireChunk) bool {
	c.Choices = append(c.Choices, wireChoice{})
	choice := &c.Choices[len(c.Choices)-1]
	var seen keys
	return s.object(func(key []byte) bool {
		var ok bool
		switch string(key) {
		case "index":
			var n int32
			var small bool
			n, small, ok = s.number()
			choice.Index = int(n)
			return ok && small && seen.first(0)
		case "delta":
			if len(c.Choices) > 1 { // which was not asked for
				return false
			}
			if c.delta == nil {
				c.delta = new(wireDelta)
			}
			*c.delta = wireDelta{}
			choice.Delta = c.delta
			return seen.first(1) && s.delta(c.delta)
		case "text":
			choice.Text, ok = s.text()
			return ok && seen.first(2)
		case "finish_reason":
			choice.FinishReason, ok = s.text()
			return ok && seen.first(3)
		case "message":
			return false
		}
		return s.skip(0)
	})
}

// delta takes the delta of a choice.
func (s *scanner) delta(d *wireDelta) bool {
	var seen keys
	return s.object(func(key []byte) (ok bool) {
		switch string(key) {
		case "content":
			d.Content, ok = s.text()
			return ok && seen.first(0)
		case "reasoning_content":
			d.ReasoningContent, ok = s.text()
			return ok && seen.first(1)
		case "reasoning":
			d.Reasoning, ok = s.text()
			return ok && seen.first(2)
		case "refusal":
			d.Refusal, ok = s.text()
			return ok && seen.first(3)
		case "tool_calls", "function_call":
			return s.literal("null")
		}
		return s.skip(0)
	})
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
