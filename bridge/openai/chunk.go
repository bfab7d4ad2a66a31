package openai

import (
	"strconv"
	"strings"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// This file has the chunks that are rare: the first, the last ones, and those of deltas
// with something that few have.

// appendEvent appends the chunks of any event.
func (e *Encoder) appendEvent(dst []byte, m *completionv1.CompletionEvent) (out []byte, terminal bool, err error) {
	if created := m.GetCreated(); created != nil {
		return e.begin(dst, created), false, nil
	}
	if e.form.choices == nil {
		return dst, false, errNoCreated
	}
	switch event := m.GetEvent().(type) {
	case *completionv1.CompletionEvent_Delta:
		out, err = e.appendDelta(dst, event.Delta)
		return out, false, err
	case *completionv1.CompletionEvent_Finished:
		return e.finish(dst, event.Finished), true, nil
	}
	return dst, false, errNoEvent
}

// begin takes what all chunks have in common from the first event, and appends the chunk
// that has the role.
func (e *Encoder) begin(dst []byte, c *completionv1.Created) []byte {
	prefix, object := chatPrefix, "chat.completion.chunk"
	if e.Legacy {
		prefix, object = textPrefix, "text_completion"
	}
	head := append([]byte("data: "), appendHead(nil, prefix, object, c.GetId(), c.GetModel(), c.GetCreateTime().GetSeconds())...)
	e.form.head = head
	if e.form.end = "]}\n\n"; e.IncludeUsage {
		e.form.end = "],\"usage\":null}\n\n"
	}
	if e.Legacy {
		e.form.choices = append(head[:len(head):len(head)], `{"index":0,"text":`...)
		e.form.tail = `,"logprobs":null,"finish_reason":null}` + e.form.end
		return dst
	}
	e.form.choices = append(head[:len(head):len(head)], `{"index":0,"delta":{`...)
	e.form.tail = `},"finish_reason":null}` + e.form.end
	dst = append(dst, e.form.choices...)
	dst = append(dst, `"role":"assistant","content":""`...)
	return append(dst, e.form.tail...)
}

// appendHead appends the beginning of an object, up to its choices.
func appendHead(dst []byte, prefix, object, id, model string, created int64) []byte {
	dst = append(dst, `{"id":`...)
	dst = appendString(dst, foreignID(prefix, id))
	dst = append(dst, `,"object":"`...)
	dst = append(dst, object...)
	dst = append(dst, `","created":`...)
	dst = strconv.AppendInt(dst, created, 10)
	dst = append(dst, `,"model":`...)
	dst = appendString(dst, model)
	return append(dst, `,"choices":[`...)
}

func appendString(dst []byte, s string) []byte {
	return sse.AppendQuoted(dst, []byte(strings.ToValidUTF8(s, "\uFFFD")))
}

// appendDelta appends the chunk of any delta.
func (e *Encoder) appendDelta(dst []byte, d *completionv1.Delta) (out []byte, err error) {
	out = append(dst, e.form.choices...)
	if e.Legacy {
		out = appendString(out, d.GetText())
		if d.GetReasoning() != "" {
			out = append(out, `,"reasoning_content":`...)
			out = appendString(out, d.GetReasoning())
		}
		out = append(out, `,"logprobs":`...)
		out = appendLegacyLogprobs(out, d.GetLogprobs(), e.chars)
		e.chars += len([]rune(d.GetText()))
		out = append(out, `,"finish_reason":null}`...)
		return append(out, e.form.end...), nil
	}
	o := members{out: out}
	o.message(&content{text: d.GetText(), reasoning: d.GetReasoning(), refusal: d.GetRefusal(), calls: d.GetToolCalls(), parts: d.GetParts(), extra: d.GetExtra()}, true)
	if o.err != nil {
		return dst, o.err
	}
	out = append(o.out, '}')
	if d.GetLogprobs() != nil {
		out = append(out, `,"logprobs":`...)
		out = appendLogprobs(out, d.GetLogprobs())
	}
	out = append(out, `,"finish_reason":null}`...)
	return append(out, e.form.end...), nil
}

// finish appends the last chunks, and the end of the stream. A completion that was
// cancelled ends as one that has failed does: nothing here says that an answer is not
// whole without being its caller's doing.
func (e *Encoder) finish(dst []byte, f *completionv1.Finished) []byte {
	if f.GetFinishReason() == completionv1.Finished_CANCELLED {
		return appendErrorBlock(dst, cancelled())
	}
	dst = append(dst, e.form.choices...)
	if e.Legacy {
		dst = append(dst, `"","logprobs":null`...)
	} else {
		dst = append(dst, '}')
	}
	dst = append(dst, `,"finish_reason":"`...)
	dst = append(dst, finishReason(f.GetFinishReason())...)
	dst = append(dst, `"}`...)
	dst = append(dst, e.form.end...)
	if e.IncludeUsage && f.GetUsage() != nil {
		dst = append(dst, e.form.head...)
		dst = append(dst, `],"usage":`...)
		dst = appendUsage(dst, f.GetUsage())
		dst = append(dst, "}\n\n"...)
	}
	return append(dst, Done...)
}

// finishReason returns a reason in OpenAI's words. OTHER is one that has no name there
// either.
func finishReason(r completionv1.Finished_FinishReason) string {
	switch r {
	case completionv1.Finished_LENGTH, completionv1.Finished_TOOL_CALLS, completionv1.Finished_CONTENT_FILTER, completionv1.Finished_OTHER:
		return strings.ToLower(r.String())
	}
	return "stop"
}

// appendUsage appends the usage. The details are there if the upstream has them.
func appendUsage(dst []byte, u *completionv1.Usage) []byte {
	member := func(name string, n int32) {
		dst = append(dst, name...)
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	member(`{"prompt_tokens":`, u.GetPromptTokens())
	member(`,"completion_tokens":`, u.GetCompletionTokens())
	member(`,"total_tokens":`, u.GetTotalTokens())
	if u.GetCachedTokens() > 0 {
		member(`,"prompt_tokens_details":{"cached_tokens":`, u.GetCachedTokens())
		dst = append(dst, '}')
	}
	if u.GetReasoningTokens() > 0 {
		member(`,"completion_tokens_details":{"reasoning_tokens":`, u.GetReasoningTokens())
		dst = append(dst, '}')
	}
	return append(dst, '}')
}
