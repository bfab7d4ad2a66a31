package openai

import (
	"log/slog"
	"math"
	"net/http"
	"strconv"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// WholeResponse is a response as the events of a completion are put together, for who wants
// the whole of it. It is to be closed.
type WholeResponse struct {
	r       response
	ended   bool
	scratch []byte // for the events, which nobody reads
}

// NewWholeResponse returns a response of which nothing is known yet.
func NewWholeResponse(texts *Texts) *WholeResponse {
	w := &WholeResponse{}
	w.r.from, w.r.reader.texts = math.MaxInt, texts
	return w
}

// Close gives back what Texts keep of it. Nothing else may be called any more.
func (w *WholeResponse) Close() { w.r.reader.close() }

// Add applies the next event.
func (w *WholeResponse) Add(event *completionv1.CompletionEvent) (err error) {
	w.scratch, w.ended, err = w.r.append(w.scratch[:0], event)
	return err
}

// Begin applies what is known of a completion that has no event.
func (w *WholeResponse) Begin(c *completionv1.Completion) error {
	created := &completionv1.Created{Id: c.GetId(), Model: c.GetModel(), CreateTime: c.GetCreateTime()}
	return w.Add(&completionv1.CompletionEvent{Event: &completionv1.CompletionEvent_Created{Created: created}})
}

// Begun tells whether there was an event.
func (w *WholeResponse) Begun() bool { return w.r.id != "" }

// Full returns why there was no room for all that it says, or nil.
func (w *WholeResponse) Full() error { return w.r.err }

// Ended tells whether an event was its end.
func (w *WholeResponse) Ended() bool { return w.ended }

// Fail ends the response with what has become of its completion.
func (w *WholeResponse) Fail(r Refusal) { w.r.fail(w.scratch[:0], r) }

// WriteResponse answers with a response, bit by bit: a long one has no other copy.
func WriteResponse(w http.ResponseWriter, whole *WholeResponse) {
	all := whole.json()
	setJSONHeader(w.Header(), all.len())
	w.WriteHeader(http.StatusOK)
	for bit := []byte(nil); !all.empty(); {
		bit = all.append(bit[:0])
		if _, err := w.Write(bit); err != nil {
			return
		}
	}
}

// ResponseRefusal returns what a client is told of the error in which the completion of a
// response has ended, or to which a request for one came.
func ResponseRefusal(log *slog.Logger, err error, began, keyed bool) Refusal {
	return inWordsOfResponses(newRefusal(log, err, began, keyed))
}

// json returns the response, on one line.
func (w *WholeResponse) json() *rest {
	var all rest
	m := members{out: []byte{'{'}, long: &all.texts}
	w.r.object(&m)
	all.bytes = append(m.out, "}\n"...)
	return &all
}

// object appends the members of the response. What was asked for is not among the events
// of a completion, so that it cannot be said again: these members are what OpenAI has where
// nothing is asked for.
func (r *response) object(m *members) {
	m.string("id", foreignID(responsePrefix, r.id))
	m.raw("object", `"response"`)
	m.raw("created_at", strconv.FormatInt(r.created, 10))
	m.string("status", r.status)
	m.raw("completed_at", "null")
	m.name("error")
	if r.failure == nil {
		m.out = append(m.out, "null"...)
	} else {
		m.object(func() {
			m.string("code", r.failure.Code)
			m.string("message", r.failure.Message)
		})
	}
	m.name("incomplete_details")
	if r.incomplete == "" {
		m.out = append(m.out, "null"...)
	} else {
		m.object(func() { m.string("reason", r.incomplete) })
	}
	m.string("model", r.model)
	m.name("output")
	m.list(len(r.items), func(i int) { r.items[i].append(m, r.statusOf(r.items[i])) })
	m.name("usage")
	if r.usage == nil {
		m.out = append(m.out, "null"...)
	} else {
		m.object(func() { m.usage(r.usage) })
	}
	m.out = append(m.out, `,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,"metadata":{},"parallel_tool_calls":true,"previous_response_id":null,`+
		`"prompt_cache_key":null,"reasoning":{"effort":null,"summary":null},"safety_identifier":null,"service_tier":"default","store":true,"background":false,`+
		`"temperature":1,"top_p":1,"presence_penalty":0,"frequency_penalty":0,"top_logprobs":0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],`+
		`"truncation":"disabled","user":null`...)
}

// statusOf returns the status of an item: that of an item that the end of the response has
// cut is incomplete.
func (r *response) statusOf(it *item) string {
	switch {
	case it.done:
		return "completed"
	case r.status == inProgress:
		return inProgress
	}
	return "incomplete"
}

// object appends an object, whose members are what f appends.
func (m *members) object(f func()) {
	m.out = append(m.out, '{')
	m.some = false
	f()
	m.out = append(m.out, '}')
	m.some = true
}

func (m *members) int(name string, n int) {
	m.name(name)
	m.out = strconv.AppendInt(m.out, int64(n), 10)
}

// usage appends what was used, in the words of responses.
func (m *members) usage(u *completionv1.Usage) {
	m.int("input_tokens", int(u.GetPromptTokens()))
	m.name("input_tokens_details")
	m.object(func() { m.int("cached_tokens", int(u.GetCachedTokens())) })
	m.int("output_tokens", int(u.GetCompletionTokens()))
	m.name("output_tokens_details")
	m.object(func() { m.int("reasoning_tokens", int(u.GetReasoningTokens())) })
	m.int("total_tokens", int(u.GetTotalTokens()))
}
