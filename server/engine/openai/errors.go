package openai

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

const maxCause = 2 << 10 // bytes of an upstream's words in the log

// question is what errors say of the request; zero for the list of models.
type question struct {
	model     string
	field     string // that holds the input: messages or prompt
	extra     *structpb.Struct
	extraJSON string
}

func questionOf(req *completionv1.CompletionRequest) question {
	q := question{model: req.GetModel(), field: "messages", extra: req.GetExtra(), extraJSON: req.GetExtraJson()}
	if req.Prompt != nil {
		q.field = "prompt"
	}
	return q
}

// parameter returns what a caller calls the parameter that an upstream names by its
// path, such as messages[0].content, or "" when it is none of the caller's.
func (q question) parameter(path string) string {
	if len(path) > 200 || strings.ContainsFunc(path, func(r rune) bool { return r >= utf8.RuneSelf || !isName(byte(r)) }) {
		return ""
	}
	root, rest := path, ""
	if end := strings.IndexAny(path, ".["); end >= 0 {
		root, rest = path[:end], inBrackets(path[end:])
	}
	fields := (*completionv1.CompletionRequest)(nil).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if strings.EqualFold(root, string(f.Name())) || strings.EqualFold(root, f.JSONName()) {
			return string(f.Name()) + rest
		}
	}
	var text map[string]json.RawMessage
	_ = json.Unmarshal([]byte(q.extraJSON), &text)
	for _, name := range slices.AppendSeq(slices.Collect(maps.Keys(text)), maps.Keys(q.extra.GetFields())) {
		if strings.EqualFold(root, name) {
			return "extra." + name + rest
		}
	}
	return ""
}

// inBrackets writes the indexes in the rest of a path as protobuf's do: OpenAI has
// .[3].role, Anthropic and Groq have .3.role. What goes up as reasoning_content has
// the name of our field again.
func inBrackets(rest string) string {
	var out strings.Builder
	for step := range strings.SplitSeq(strings.ReplaceAll(rest, "[", ".["), ".") {
		switch index := strings.Trim(step, "[]"); {
		case index == "":
		case strings.Trim(index, "0123456789") == "":
			out.WriteString("[" + index + "]")
		case step == "reasoning_content":
			out.WriteString(".reasoning")
		default:
			out.WriteString("." + step)
		}
	}
	return out.String()
}

// failed says what an error means that came instead of an answer. When ctx is
// done that is the cause of ctx, and no fault of the upstream.
func (e *Engine) failed(ctx context.Context, err error, q question) error {
	var (
		known   *failure.Error
		said    *refusal
		nothing *unreachable
	)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &known):
		return known
	case errors.As(err, &said):
		said.parse()
		return e.refused(said, q)
	case errors.As(err, &nothing) && nothing.connectTimedOut():
		return failure.New(failure.ConnectTimeout, "the upstream could not be reached in time").WithCause(e.cause(err.Error()))
	case errors.As(err, &nothing):
		return failure.New(failure.UpstreamUnavailable, "the upstream did not answer").WithCause(e.cause(err.Error()))
	case q == (question{}):
		return failure.New(failure.UpstreamUnavailable, "the upstream's list of models cannot be read").WithCause(e.cause(err.Error()))
	}
	return failure.New(failure.UpstreamRejected, "the request cannot be sent upstream").WithCause(e.cause(err.Error()))
}

// refused says what an upstream's error, once parsed, means to callers.
func (e *Engine) refused(said *refusal, q question) error {
	wait := said.wait(time.Now())
	reason, field := said.reason(q)
	var f *failure.Error
	switch reason {
	case failure.ContextLengthExceeded:
		f = failure.New(reason, "the request is longer than the model's context")
	case failure.ModelNotFound:
		f = failure.New(reason, "there is no model %q", q.model)
	case failure.UpstreamRateLimited:
		f = failure.New(reason, "the upstream takes no more requests for now").WithRetryAfter(wait)
	case failure.UpstreamUnavailable:
		f = failure.New(reason, "the upstream is not available").WithRetryAfter(wait)
	case failure.InvalidRequest:
		switch field {
		case filtered:
			f = failure.Invalid(q.field, "the content filter of the upstream does not let it pass")
		case input:
			f = failure.Invalid(q.field, "the model does not take it")
		default:
			f = failure.Invalid(field, "the upstream does not accept it for this model")
		}
	default:
		f = failure.New(failure.UpstreamRejected, "the upstream does not accept the request")
	}
	return f.WithCause(e.cause(said.Error()))
}

// reason returns why an upstream refused, and for an INVALID_REQUEST the field.
func (r *refusal) reason(q question) (failure.Reason, string) {
	status := r.meaning()
	ofAnswer := q != (question{})
	switch {
	case status == http.StatusTooManyRequests:
		return failure.UpstreamRateLimited, ""
	case status == http.StatusRequestTimeout:
		return failure.UpstreamUnavailable, ""
	case status < 400, status == http.StatusUnauthorized, status == http.StatusPaymentRequired, !ofAnswer && status < 500:
		return failure.UpstreamRejected, ""
	}
	invalid := status == http.StatusBadRequest || status == http.StatusUnprocessableEntity
	// A message about what callers give names to may hold any of these words.
	if field := q.parameter(string(r.details.Param)); invalid && (strings.HasPrefix(field, "tool") || strings.HasPrefix(field, "response_format")) {
		return failure.InvalidRequest, field
	}
	words := r.words()
	for w := range wordings() {
		// A server that is down is that, whatever it says of keys and rates.
		if (r.status < 500 || failure.Code(w.reason) != failure.Code(failure.UpstreamRejected) && w.reason != failure.UpstreamRateLimited) && fits(w.words, words) && ofAnswer {
			return w.reason, w.field
		}
	}
	switch {
	case status >= 500:
		return failure.UpstreamUnavailable, ""
	case invalid:
		for _, path := range r.parameters() {
			if field := q.parameter(path); field != "" {
				return failure.InvalidRequest, field
			}
		}
	case status == http.StatusNotFound && r.object:
		return failure.ModelNotFound, ""
	}
	return failure.UpstreamRejected, ""
}

// cause returns words for the log without the key in them. They are no wrapped
// error: one could be asked for what it wraps.
func (e *Engine) cause(words string) error {
	words = e.redactor.redact(words)
	if len(words) > maxCause {
		words = words[:maxCause] + " …"
	}
	return errors.New(strings.ToValidUTF8(words, "\uFFFD"))
}
