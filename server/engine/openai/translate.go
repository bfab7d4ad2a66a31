package openai

import (
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// partials are the parts of characters that the texts of an answer have ended with.
type partials struct {
	text, reasoning, refusal partialChar
}

// texts are the texts of one chunk, of which each may come in several places.
type texts struct {
	text, reasoning, refusal []byte
}

// translate returns the chunk that an upstream's chunk stands for.
func (s *stream) translate(wire *wireChunk) *engine.Chunk {
	s.chunk = engine.Chunk{Model: wire.Model, Usage: wire.usage()}
	d := &s.delta
	d.ToolCalls, d.Parts, d.Logprobs, d.Extra = d.ToolCalls[:0], nil, nil, nil
	s.calls.chunk++
	var t texts
	var extra extraMembers
	var reason completionv1.Finished_FinishReason
	for i := range wire.Choices {
		c := &wire.Choices[i]
		if !s.isOurs(c.Index, len(wire.Choices) == 1) {
			continue
		}
		s.addChoice(c, &t, &extra)
		if r := parseFinish(c.finishReason()).reason; r != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
			reason = r
		}
	}
	d.Text = s.partials.text.join(wtf8(t.text))
	d.Reasoning = s.partials.reasoning.join(wtf8(t.reasoning))
	d.Refusal = s.partials.refusal.join(wtf8(t.refusal))
	d.Extra = extra.toStruct()
	if hasContent(d) {
		s.reason = completionv1.Finished_FINISH_REASON_UNSPECIFIED // the reason before was not the end
	}
	if reason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
		s.addFinish(reason)
	}
	if hasContent(d) || d.Logprobs != nil || d.Extra != nil {
		s.chunk.Delta = d
	}
	return &s.chunk
}

// isOurs tells whether a choice is the first one: we ask for only one. A server that
// sends one choice in each chunk may count the chunks in its index
// (microsoft/foundry-local#144): it does as long as no index comes twice.
func (s *stream) isOurs(index lenientInt, only bool) bool {
	switch {
	case only && index == s.nextIndex && index >= 0:
		s.nextIndex++
		return true
	case index == 0:
		s.nextIndex = -1
		return true
	}
	return false
}

// addFinish adds a finish reason to the chunk.
func (s *stream) addFinish(reason completionv1.Finished_FinishReason) {
	switch {
	case reason != completionv1.Finished_STOP:
	case s.reason != completionv1.Finished_FINISH_REASON_UNSPECIFIED:
		reason = s.reason // which says more than stop
	case len(s.calls.all) > 0:
		// OpenAI sends stop if the caller had chosen the tool (docs: function calling,
		// edge cases), and many other servers always do.
		reason = completionv1.Finished_TOOL_CALLS
	}
	s.chunk.FinishReason, s.reason = reason, reason
}

// hasContent tells whether a delta has more of the answer.
func hasContent(d *completionv1.Delta) bool {
	return d.Text != "" || d.Reasoning != "" || d.Refusal != "" || len(d.ToolCalls) > 0 || len(d.Parts) > 0
}

// addChoice adds a choice to the delta.
func (s *stream) addChoice(c *wireChoice, t *texts, extra *extraMembers) {
	from := c.Delta
	switch {
	case s.hasDeltas: // a message repeats the whole answer (abundantbeing/hermes-browser-extension#11)
	case from.hasContent():
		s.hasDeltas = true
	case c.Message != nil:
		from = c.Message
	}
	if from == nil || from.Content.text != c.Text.text { // Together has the same text in both (BerriAI/litellm#8675)
		t.text = append(t.text, c.Text.text...)
	}
	if logprobs := c.Logprobs.toMessage(); logprobs != nil {
		s.delta.Logprobs = logprobs
	}
	if from != nil {
		s.addDelta(from, t, extra)
	}
}

// hasContent tells whether there is more in a delta than a role.
func (d *wireDelta) hasContent() bool {
	return d != nil && (d.Content.text != "" || d.ReasoningContent.text != "" || d.Reasoning.text != "" || d.Refusal.text != "" ||
		len(d.ToolCalls) > 0 || d.FunctionCall != nil || d.rare != nil)
}

// addDelta adds an upstream's delta to ours.
func (s *stream) addDelta(from *wireDelta, t *texts, extra *extraMembers) {
	d := &s.delta
	t.text = append(t.text, from.Content.text...)
	t.refusal = append(t.refusal, from.Refusal.text...)
	reasoning := from.ReasoningContent.text
	if reasoning == "" { // if both are there, they are the same
		reasoning = from.Reasoning.text
	}
	if r := from.rare; r != nil {
		if reasoning == "" {
			reasoning = r.reasoning
		}
		t.reasoning = append(t.reasoning, r.thinking...)
		d.Parts = append(d.Parts, r.parts...)
		extra.merge(r.extra)
	}
	t.reasoning = append(t.reasoning, reasoning...)
	for i := range from.ToolCalls {
		s.addCall(&from.ToolCalls[i])
	}
	if from.FunctionCall != nil && len(from.ToolCalls) == 0 { // if both are there, they are the same
		s.addCall(&wireToolCall{Index: new(lenientInt), Function: *from.FunctionCall})
	}
}

func (s *stream) addCall(w *wireToolCall) {
	if piece := s.calls.add(w); piece != nil {
		s.delta.ToolCalls = append(s.delta.ToolCalls, piece)
	}
}

// finishReason returns the reason under either of its names.
func (c *wireChoice) finishReason() string {
	if c.FinishReason == "" {
		return c.FinishCamel
	}
	return c.FinishReason
}
