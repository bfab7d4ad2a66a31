package openai

import (
	"io"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// words is what a chunk adds to the texts of an answer.
type words struct {
	text, reasoning, refusal pieces
}

// pieces is a text in pieces, of which there is hardly ever more than one.
type pieces struct {
	first text
	all   []byte // if there are more
}

func (p *pieces) add(t text) {
	switch {
	case t == "":
	case p.first == "":
		p.first = t
	default:
		if p.all == nil {
			p.all = append(p.all, p.first...)
		}
		p.all = append(p.all, t...)
	}
}

func (p *pieces) text() text {
	if p.all != nil {
		return text(p.all)
	}
	return p.first
}

// halves are those that the texts ended with.
type halves struct {
	text, reasoning, refusal half
}

// translate returns a chunk that holds until the next call. There is one choice,
// as only one is asked for.
func (s *stream) translate(wire *wireChunk) *engine.Chunk {
	s.chunk = engine.Chunk{Model: wire.Model, Usage: wire.usage()}
	d := &s.delta
	d.ToolCalls, d.Parts, d.Logprobs, d.Extra = d.ToolCalls[:0], nil, nil, nil
	s.calls.chunk++
	var w words
	var extra members
	var reason completionv1.Finished_FinishReason
	for i := range wire.Choices {
		c := &wire.Choices[i]
		if !s.asked(c.Index, len(wire.Choices) == 1) {
			continue
		}
		s.addChoice(c, &w, &extra)
		if r := endOf(c.finishReason()).reason; r != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
			reason = r
		}
	}
	d.Text = s.halves.text.join(w.text.text())
	d.Reasoning = s.halves.reasoning.join(w.reasoning.text())
	d.Refusal = s.halves.refusal.join(w.refusal.text())
	d.Extra = extra.message()
	if goesOn(d) {
		s.reason = completionv1.Finished_FINISH_REASON_UNSPECIFIED // what had come was not the end
	}
	if reason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
		s.finish(reason)
	}
	if goesOn(d) || d.Logprobs != nil || d.Extra != nil {
		s.chunk.Delta = d
	}
	return &s.chunk
}

// asked tells whether the choice of an index is the one that was asked for, which is
// the first. A server that sends one choice in each chunk may count chunks instead
// (microsoft/foundry-local#144): it does as long as no index comes twice.
func (s *stream) asked(index lenientInt, alone bool) bool {
	switch {
	case alone && index == s.counted && index >= 0:
		s.counted++
		return true
	case index == 0:
		s.counted = -1
		return true
	}
	return false
}

// finish adds a finish reason.
func (s *stream) finish(reason completionv1.Finished_FinishReason) {
	switch {
	case reason != completionv1.Finished_STOP:
	case s.reason != completionv1.Finished_FINISH_REASON_UNSPECIFIED:
		reason = s.reason // that it has stopped is known, and why
	case len(s.calls.all) > 0:
		// OpenAI says so itself where the choice of the tool was the caller's
		// (docs: function calling, edge cases), and many others always.
		reason = completionv1.Finished_TOOL_CALLS
	}
	s.chunk.FinishReason, s.reason = reason, reason
}

// end returns the end of the stream, and before it what stands for the halves that
// wait in vain: not behind the finish reason, for some servers give one in each chunk.
func (s *stream) end() (*engine.Chunk, error) {
	d := &s.delta
	d.Text, d.Reasoning, d.Refusal = s.halves.text.end(), s.halves.reasoning.end(), s.halves.refusal.end()
	d.ToolCalls, d.Parts, d.Logprobs, d.Extra = append(d.ToolCalls[:0], s.calls.end()...), nil, nil, nil
	if s.reason == completionv1.Finished_FINISH_REASON_UNSPECIFIED || !goesOn(d) {
		return nil, io.EOF
	}
	s.failure = io.EOF
	s.chunk = engine.Chunk{Delta: d, FinishReason: s.reason}
	return &s.chunk, nil
}

// goesOn tells whether a delta has more of the answer.
func goesOn(d *completionv1.Delta) bool {
	return d.Text != "" || d.Reasoning != "" || d.Refusal != "" || len(d.ToolCalls) > 0 || len(d.Parts) > 0
}

// addChoice adds what an upstream's choice has to our delta.
func (s *stream) addChoice(c *wireChoice, w *words, extra *members) {
	from := c.Delta
	switch {
	case s.deltas: // a message is all of the answer again (abundantbeing/hermes-browser-extension#11)
	case from.says():
		s.deltas = true
	case c.Message != nil:
		from = c.Message
	}
	if from == nil || from.Content.text != c.Text.text { // Together has the same words in both (BerriAI/litellm#8675)
		w.text.add(c.Text.text)
	}
	if logprobs := c.Logprobs.message(); logprobs != nil {
		s.delta.Logprobs = logprobs
	}
	if from != nil {
		s.add(from, w, extra)
	}
}

// says tells whether there is more in a delta than a role.
func (d *wireDelta) says() bool {
	return d != nil && (d.Content.text != "" || d.ReasoningContent.text != "" || d.Reasoning.text != "" || d.Refusal.text != "" ||
		len(d.ToolCalls) > 0 || d.FunctionCall != nil || d.rest != nil)
}

// add adds what an upstream's delta has to ours.
func (s *stream) add(from *wireDelta, w *words, extra *members) {
	d := &s.delta
	w.text.add(from.Content.text)
	w.refusal.add(from.Refusal.text)
	thought := from.ReasoningContent.text
	if thought == "" { // where both are there, they are the same
		thought = from.Reasoning.text
	}
	if r := from.rest; r != nil {
		if thought == "" {
			thought = r.reasoning
		}
		w.reasoning.add(r.thinking)
		d.Parts = append(d.Parts, r.parts...)
		extra.merge(r.extra)
	}
	w.reasoning.add(thought)
	for i := range from.ToolCalls {
		s.addCall(&from.ToolCalls[i])
	}
	if from.FunctionCall != nil && len(from.ToolCalls) == 0 { // else it is one of those again
		s.addCall(&wireToolCall{Index: new(lenientInt), Function: *from.FunctionCall})
	}
}

func (s *stream) addCall(w *wireToolCall) {
	if piece := s.calls.add(w); piece != nil {
		s.delta.ToolCalls = append(s.delta.ToolCalls, piece)
	}
}

// finishReason returns the reason, however its key is written.
func (c *wireChoice) finishReason() string {
	if c.FinishReason == "" {
		return c.FinishCamel
	}
	return c.FinishReason
}
