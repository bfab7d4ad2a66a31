package server

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// Bounds of a request besides its size.
const (
	maxViolations = 16
	maxName       = 255 // bytes of a model, a user, an idempotency key, or another short text
	maxStops      = 16
	maxDepth      = 100 // of a JSON value within a request
	maxExtra      = 128 // members of an extra
	maxBias       = 1024
	maxMetadata   = 64
	maxValue      = 4 << 10 // bytes of one value of the metadata
)

// validate says everything that is wrong with a request, or nil. What only the
// model can know, such as which efforts it has and which names its tools may have,
// is left to the upstream.
func validate(req *completionv1.CompletionRequest, l *Limits) error {
	var v violations
	exceeded := v.within(l, req)
	v.input(req)
	v.parameters(req)
	v.tools(req)
	v.format(req.GetResponseFormat())
	v.requestExtra(req, l)
	v.short("model", req.GetModel())
	v.short("user", req.GetUser())
	v.short("idempotency_key", req.GetIdempotencyKey())
	if grace := req.GetDisconnectGrace(); grace != nil {
		v.check(grace.IsValid() && grace.AsDuration() >= 0, "disconnect_grace", "must be a duration that is not negative")
	}
	if len(v) > 0 {
		return failure.InvalidFields(v...).WithLimit(exceeded)
	}
	return nil
}

type violations []*failure.Violation

// check notes a violation unless ok. It is called for each part of a request, of which
// there may be many: a path to the field is made only when something is wrong (element).
func (v *violations) check(ok bool, field, format string, args ...any) {
	if !ok && len(*v) < maxViolations {
		*v = append(*v, &failure.Violation{Field: field, Description: fmt.Sprintf(format, args...)})
	}
}

// element has check look at an element of a list, and says of each field that is wrong
// there, "" being the element itself, where it is.
func (v *violations) element(list string, i int, check func()) {
	before := len(*v)
	check()
	for n := range (*v)[before:] {
		field, path := &(*v)[before+n].Field, fmt.Sprintf("%s[%d]", list, i)
		if *field != "" {
			path += "." + *field
		}
		*field = path
	}
}

func (v *violations) input(req *completionv1.CompletionRequest) {
	switch {
	case req.Prompt != nil && len(req.GetMessages()) > 0:
		v.check(false, "prompt", "set either prompt or messages, not both")
	case req.Prompt == nil && len(req.GetMessages()) == 0:
		v.check(false, "messages", "set messages (a conversation) or prompt (a text to continue)")
	}
	for i, m := range req.GetMessages() {
		v.element("messages", i, func() { v.message(m) })
	}
}

func (v *violations) message(m *completionv1.Message) {
	role := m.GetRole()
	v.check(slices.Contains(roles, role), "role", "must be one of system, developer, user, assistant, tool")
	v.check(m.Content == nil || len(m.GetParts()) == 0, "parts", "set either content or parts, not both")
	v.check(m.Content != nil || len(m.GetParts()) > 0 || role == "assistant", "content", "set content or parts")
	v.check(len(m.GetToolCalls()) == 0 || role == "assistant", "tool_calls", "only an assistant's message has tool calls")
	v.check(m.Reasoning == nil || role == "assistant", "reasoning", "only an assistant's message has reasoning")
	v.check((m.GetToolCallId() != "") == (role == "tool"), "tool_call_id", "set it in a tool's message, and only there")
	v.short("name", m.GetName())
	for i, p := range m.GetParts() {
		v.element("parts", i, func() { v.part(p) })
	}
	for i, call := range m.GetToolCalls() {
		v.element("tool_calls", i, func() {
			v.check(call.GetId() != "", "id", "must not be empty")
			v.extra(call, call.GetExtra(), "type", "function")
		})
	}
	v.extra(m, m.GetExtra(), "reasoning_content")
}

var roles = []string{"system", "developer", "user", "assistant", "tool"}

func (v *violations) part(p *completionv1.Part) {
	switch kind := p.GetKind().(type) {
	case *completionv1.Part_Text:
	case *completionv1.Part_ImageUrl:
		url := kind.ImageUrl.GetUrl()
		v.check(strings.HasPrefix(url, "https://") || strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "data:"),
			"image_url.url", "must be an https: or data: URL")
		v.short("image_url.detail", kind.ImageUrl.GetDetail())
	case *completionv1.Part_InputAudio:
		v.check(kind.InputAudio.GetData() != "", "input_audio.data", "must not be empty")
		v.short("input_audio.format", kind.InputAudio.GetFormat())
	case *completionv1.Part_File:
		v.check(kind.File.GetFileData() != "" || kind.File.GetFileId() != "", "file", "set file_data or file_id")
	default: // a kind that has no field here: its type is in the extra (video_url)
		v.check(p.GetExtra().GetFields()["type"].GetStringValue() != "", "", "set text, image_url, input_audio or file")
		v.extra(p, p.GetExtra())
		return
	}
	v.extra(p, p.GetExtra(), "type")
}

func (v *violations) parameters(req *completionv1.CompletionRequest) {
	v.check(req.MaxTokens == nil || req.GetMaxTokens() >= 1, "max_tokens", "must be at least 1")
	v.maxCompletionTokens(req)
	v.inRange("temperature", req.Temperature, 0, 2)
	v.inRange("top_p", req.TopP, 0, 1)
	v.inRange("presence_penalty", req.PresencePenalty, -2, 2)
	v.inRange("frequency_penalty", req.FrequencyPenalty, -2, 2)
	v.check(len(req.GetStop()) <= maxStops, "stop", "must have at most %d sequences", maxStops)
	for i, stop := range req.GetStop() {
		v.element("stop", i, func() { v.check(stop != "", "", "must not be empty") })
	}
	v.check(req.TopLogprobs == nil || req.GetLogprobs(), "top_logprobs", "needs logprobs")
	v.check(req.GetTopLogprobs() >= 0 && req.GetTopLogprobs() <= 20, "top_logprobs", "must be between 0 and 20")
	v.check(len(req.GetLogitBias()) <= maxBias, "logit_bias", "must have at most %d tokens", maxBias)
	v.check(len(req.GetLogitBias()) <= maxBias && all(req.GetLogitBias(), func(token string, bias float64) bool {
		_, err := strconv.ParseUint(token, 10, 64)
		return err == nil && bias >= -100 && bias <= 100
	}), "logit_bias", "must be at most %d numbers between -100 and 100, by the ids of tokens", maxBias)
	v.check(len(req.GetMetadata()) <= maxMetadata && all(req.GetMetadata(), func(name, value string) bool {
		return name != "" && len(name) <= maxName && len(value) <= maxValue
	}), "metadata", "must be at most %d texts of at most %d bytes, by names of 1 to %d", maxMetadata, maxValue, maxName)
	v.short("service_tier", req.GetServiceTier())
	v.short("verbosity", req.GetVerbosity())
	v.short("reasoning_effort", req.GetReasoningEffort())
}

func all[V any](m map[string]V, ok func(string, V) bool) bool {
	for key, value := range m {
		if !ok(key, value) {
			return false
		}
	}
	return true
}

func (v *violations) maxCompletionTokens(req *completionv1.CompletionRequest) {
	const field = "max_completion_tokens"
	if req.MaxCompletionTokens == nil {
		return
	}
	v.check(req.GetMaxCompletionTokens() >= 1, field, "must be at least 1")
	v.check(req.MaxTokens == nil, field, "set either max_tokens or max_completion_tokens, not both")
	// Legacy completions never had it: a server that ignores it sets no limit.
	v.check(req.Prompt == nil, field, "with a prompt, set max_tokens")
}

// short checks a short text that the upstream knows what to do with.
func (v *violations) short(field, s string) {
	v.check(len(s) <= maxName, field, "must have at most %d bytes", maxName)
}

// inRange checks a number; NaN is in no range.
func (v *violations) inRange(field string, value *float64, low, high float64) {
	v.check(value == nil || *value >= low && *value <= high, field, "must be between %v and %v", low, high)
}

func (v *violations) tools(req *completionv1.CompletionRequest) {
	if req.Prompt != nil {
		v.check(len(req.GetTools()) == 0, "tools", "need messages, not a prompt")
	}
	for i, tool := range req.GetTools() {
		v.element("tools", i, func() {
			f := tool.GetFunction()
			v.short("type", tool.GetType())
			v.name("function.name", f.GetName())
			v.object("function.parameters", f.GetParameters(), f.GetParametersJson())
		})
	}
	v.toolChoice(req)
}

// name checks the name of a function or a schema.
func (v *violations) name(field, name string) {
	v.check(name != "" && len(name) <= maxName, field, "must have 1 to %d bytes", maxName)
}

func (v *violations) toolChoice(req *completionv1.CompletionRequest) {
	choice := req.GetToolChoice()
	if choice == nil {
		return
	}
	v.check(len(req.GetTools()) > 0, "tool_choice", "needs tools")
	switch kind := choice.GetKind().(type) {
	case *structpb.Value_StringValue: // Mistral has "any", too
		v.check(kind.StringValue != "" && len(kind.StringValue) <= maxName, "tool_choice", "must be none, auto, required or an object")
	case *structpb.Value_StructValue: // OpenAI has {"type":"allowed_tools",…}, too
		v.check(len(kind.StructValue.GetFields()) > 0, "tool_choice", `must be {"type":"function","function":{"name":…}}`)
		v.object("tool_choice", kind.StructValue, "")
	default:
		v.check(false, "tool_choice", "must be a string or an object")
	}
}

func (v *violations) format(f *completionv1.ResponseFormat) {
	if f == nil {
		return
	}
	v.check(slices.Contains([]string{"text", "json_object", "json_schema"}, f.GetType()), "response_format.type", "must be text, json_object or json_schema")
	v.check((f.GetType() == "json_schema") == (f.GetJsonSchema() != nil), "response_format.json_schema", "set it with type json_schema, and only then")
	if schema := f.GetJsonSchema(); schema != nil {
		v.name("response_format.json_schema.name", schema.GetName())
		v.object("response_format.json_schema.schema", schema.GetSchema(), schema.GetSchemaJson())
	}
}
