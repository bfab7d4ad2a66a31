package openai

import (
	"log/slog"
	"net/http"

	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge/native"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Answer is how a request is answered that does not ask for a stream: with the whole
// completion, or with a refusal.
type Answer struct {
	Legacy  bool          // it is to POST /completions
	Keyed   bool          // the request has an idempotency key
	Log     *slog.Logger  // for what clients are not told
	Refused func(Refusal) // is told what the refusal was; nil: nobody is
}

// Write answers with what came of a call of CreateCompletion.
func (a *Answer) Write(w http.ResponseWriter, c *completionv1.Completion, md metadata.MD, err error) {
	id := native.CompletionID(md)
	native.SetLocation(w.Header(), id)
	var body []byte
	if err == nil {
		body, err = a.appendCompletion(nil, c)
	}
	var r Refusal
	switch {
	case err != nil:
		r = newRefusal(a.Log, err, id != "", a.Keyed)
	case c.GetState() == completionv1.Completion_CANCELLED:
		r = cancelled()
	default:
		writeJSON(w, http.StatusOK, body)
		return
	}
	if a.Refused != nil {
		a.Refused(r)
	}
	r.Write(w)
}

// appendCompletion appends a completion that has ended.
func (a *Answer) appendCompletion(dst []byte, c *completionv1.Completion) ([]byte, error) {
	created := c.GetCreateTime().GetSeconds()
	if a.Legacy {
		dst = appendHead(dst, textPrefix, "text_completion", c.GetId(), c.GetModel(), created)
		dst = append(dst, `{"index":0,"text":`...)
		dst = appendString(dst, c.GetText())
		if c.GetReasoning() != "" {
			dst = append(dst, `,"reasoning_content":`...)
			dst = appendString(dst, c.GetReasoning())
		}
		dst = append(dst, `,"logprobs":`...)
		dst = appendLegacyLogprobs(dst, c.GetLogprobs(), 0)
	} else {
		m := members{out: append(appendHead(dst, chatPrefix, "chat.completion", c.GetId(), c.GetModel(), created), `{"index":0,"message":{`...)}
		m.answer(c)
		if m.err != nil {
			return dst, m.err
		}
		dst = append(m.out, `},"logprobs":`...)
		dst = appendLogprobs(dst, c.GetLogprobs())
	}
	dst = append(dst, `,"finish_reason":"`...)
	dst = append(dst, finishReason(c.GetFinishReason())...)
	dst = append(dst, `"}]`...)
	if c.GetUsage() != nil {
		dst = append(dst, `,"usage":`...)
		dst = appendUsage(dst, c.GetUsage())
	}
	return append(dst, '}'), nil
}

// answer appends the message of a chat completion. Its content is null if there is
// none but something in its place, as an answer that is only a call.
func (m *members) answer(c *completionv1.Completion) {
	m.raw("role", `"assistant"`)
	if c.GetText() == "" && (len(c.GetToolCalls()) > 0 || c.GetRefusal() != "") {
		m.raw("content", "null")
	} else {
		m.string("content", c.GetText())
	}
	if c.GetRefusal() == "" {
		m.raw("refusal", "null")
	} else {
		m.string("refusal", c.GetRefusal())
	}
	m.message(&content{reasoning: c.GetReasoning(), calls: c.GetToolCalls(), parts: c.GetParts(), extra: c.GetExtra()}, false)
}
