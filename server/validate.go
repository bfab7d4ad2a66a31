package server

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// Bounds of a request besides its size.
const (
	maxViolations = 16
	maxName       = 255 // bytes of a model, a user, an idempotency key
	maxStops      = 16
	maxDepth      = 100 // of a JSON value within a request
)

var (
	roles        = []string{"system", "developer", "user", "assistant", "tool"}
	functionName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
)

// validate says everything that is wrong with a request, or nil. What only the
// model can know, such as which efforts it has, is left to the upstream.
func validate(req *completionv1.CompletionRequest) error {
	var v violations
	v.input(req)
	v.parameters(req)
	v.tools(req)
	v.format(req.GetResponseFormat())
	v.check(len(req.GetModel()) <= maxName, "model", "must have at most %d bytes", maxName)
	v.check(len(req.GetUser()) <= maxName, "user", "must have at most %d bytes", maxName)
	v.check(len(req.GetIdempotencyKey()) <= maxName, "idempotency_key", "must have at most %d bytes", maxName)
	if grace := req.GetDisconnectGrace(); grace != nil {
		v.check(grace.IsValid() && grace.AsDuration() >= 0, "disconnect_grace", "must be a duration that is not negative")
	}
	if len(v) > 0 {
		return failure.InvalidFields(v...)
	}
	return nil
}

type violations []failure.Violation

// check notes a violation unless ok.
func (v *violations) check(ok bool, field, format string, args ...any) {
	if !ok && len(*v) < maxViolations {
		*v = append(*v, failure.Violation{Field: field, Description: fmt.Sprintf(format, args...)})
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
		v.message(fmt.Sprintf("messages[%d]", i), m)
	}
}

func (v *violations) message(field string, m *completionv1.Message) {
	role := m.GetRole()
	v.check(slices.Contains(roles, role), field+".role", "must be one of %s", strings.Join(roles, ", "))
	v.check(m.Content == nil || len(m.GetParts()) == 0, field+".parts", "set either content or parts, not both")
	v.check(m.Content != nil || len(m.GetParts()) > 0 || len(m.GetToolCalls()) > 0, field+".content", "set content or parts")
	v.check(len(m.GetToolCalls()) == 0 || role == "assistant", field+".tool_calls", "only an assistant's message has tool calls")
	v.check((m.GetToolCallId() != "") == (role == "tool"), field+".tool_call_id", "set it in a tool's message, and only there")
	for i, p := range m.GetParts() {
		part := fmt.Sprintf("%s.parts[%d]", field, i)
		switch kind := p.GetKind().(type) {
		case *completionv1.Part_Text:
		case *completionv1.Part_ImageUrl:
			url := kind.ImageUrl.GetUrl()
			v.check(strings.HasPrefix(url, "https://") || strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "data:"),
				part+".image_url.url", "must be an https: or data: URL")
			v.check(slices.Contains([]string{"", "auto", "low", "high"}, kind.ImageUrl.GetDetail()),
				part+".image_url.detail", "must be auto, low or high")
		default:
			v.check(false, part, "set text or image_url")
		}
	}
	for i, call := range m.GetToolCalls() {
		v.check(call.GetId() != "", fmt.Sprintf("%s.tool_calls[%d].id", field, i), "must not be empty")
		v.check(functionName.MatchString(call.GetName()), fmt.Sprintf("%s.tool_calls[%d].name", field, i), "must match %s", functionName)
	}
}

func (v *violations) parameters(req *completionv1.CompletionRequest) {
	v.check(req.MaxTokens == nil || req.GetMaxTokens() >= 1, "max_tokens", "must be at least 1")
	v.within("temperature", req.Temperature, 0, 2)
	v.within("top_p", req.TopP, 0, 1)
	v.within("presence_penalty", req.PresencePenalty, -2, 2)
	v.within("frequency_penalty", req.FrequencyPenalty, -2, 2)
	v.check(len(req.GetStop()) <= maxStops, "stop", "must have at most %d sequences", maxStops)
	for i, stop := range req.GetStop() {
		v.check(stop != "", fmt.Sprintf("stop[%d]", i), "must not be empty")
	}
}

// within checks a number; NaN is within nothing.
func (v *violations) within(field string, value *float64, low, high float64) {
	v.check(value == nil || *value >= low && *value <= high, field, "must be between %v and %v", low, high)
}

func (v *violations) tools(req *completionv1.CompletionRequest) {
	if req.Prompt != nil {
		v.check(len(req.GetTools()) == 0, "tools", "need messages, not a prompt")
	}
	for i, tool := range req.GetTools() {
		field := fmt.Sprintf("tools[%d]", i)
		v.check(tool.GetType() == "" || tool.GetType() == "function", field+".type", `must be "function"`)
		v.check(functionName.MatchString(tool.GetFunction().GetName()), field+".function.name", "must match %s", functionName)
		v.check(depth(structpb.NewStructValue(tool.GetFunction().GetParameters())) <= maxDepth,
			field+".function.parameters", "must be nested at most %d deep", maxDepth)
	}
	v.toolChoice(req)
}

func (v *violations) toolChoice(req *completionv1.CompletionRequest) {
	choice := req.GetToolChoice()
	if choice == nil {
		return
	}
	v.check(len(req.GetTools()) > 0, "tool_choice", "needs tools")
	switch kind := choice.GetKind().(type) {
	case *structpb.Value_StringValue:
		v.check(slices.Contains([]string{"none", "auto", "required"}, kind.StringValue), "tool_choice", "must be none, auto, required or an object")
	case *structpb.Value_StructValue:
		name := kind.StructValue.GetFields()["function"].GetStructValue().GetFields()["name"].GetStringValue()
		v.check(name != "" && depth(choice) <= 3, "tool_choice", `must be {"type":"function","function":{"name":…}}`)
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
		v.check(functionName.MatchString(schema.GetName()), "response_format.json_schema.name", "must match %s", functionName)
		v.check(depth(structpb.NewStructValue(schema.GetSchema())) <= maxDepth, "response_format.json_schema.schema", "must be nested at most %d deep", maxDepth)
	}
}

// depth is how deep a JSON value is nested, counted no further than maxDepth+1.
func depth(value *structpb.Value) int { return depthFrom(value, 0) }

func depthFrom(value *structpb.Value, above int) int {
	if above > maxDepth {
		return above
	}
	deepest := above
	for _, field := range value.GetStructValue().GetFields() {
		deepest = max(deepest, depthFrom(field, above+1))
	}
	for _, element := range value.GetListValue().GetValues() {
		deepest = max(deepest, depthFrom(element, above+1))
	}
	return deepest
}
