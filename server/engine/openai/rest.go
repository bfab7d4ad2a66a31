package openai

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// use is what becomes of a member that only some servers have.
type use uint8

const (
	passed       use = 1 << iota // it goes to callers in extra: so the upstream can have it back
	hasReasoning                 // its text is reasoning, unless that stands elsewhere, too
	hasImages                    // its images are parts of the answer
)

// member is a member that only some servers have, and what becomes of it.
type member struct {
	name   string
	use    use
	source string
}

// deltaMembers are those of a delta or message. The first that has reasoning counts:
// the others say the same.
var deltaMembers = []member{
	{"reasoning_text", hasReasoning, "GitHub Copilot (sst/opencode provider/sdk/copilot, openai-compatible chat model)"},
	{"reasoning_details", passed | hasReasoning, "OpenRouter (docs: reasoning tokens), MiniMax: wanted back"},
	{"thinking_blocks", passed | hasReasoning, "LiteLLM for Anthropic (docs: reasoning_content): wanted back"},
	{"reasoning_opaque", passed, "GitHub Copilot, with reasoning_text: wanted back"},
	{"extra_content", passed, "Gemini (ai.google.dev: thought signatures, OpenAI compatibility): wanted back"},
	{"provider_specific_fields", passed, "LiteLLM (litellm/types/utils.py, Delta): signatures, citations"},
	{"images", hasImages, "OpenRouter (docs: image generation), LiteLLM"},
	{"annotations", passed, "OpenAI (openai-python types/chat/chat_completion_message.py), OpenRouter"},
	{"audio", passed, "OpenAI (openai-python types/chat/chat_completion_audio.py)"},
	{"executed_tools", passed, "Groq (groq-python types/chat/chat_completion_chunk.py)"},
	{"context", passed, "Azure on your data: citations"},
}

// callMembers are those of a tool call.
var callMembers = []member{
	{"extra_content", passed, "Gemini (ai.google.dev: thought signatures, OpenAI compatibility): wanted back"},
	{"provider_specific_fields", passed, "LiteLLM (litellm/types/utils.py, ChatCompletionDeltaToolCall): thought_signature"},
}

// rareInDelta tells whether a member of a delta is for encoding/json.
func rareInDelta(key []byte) bool {
	for i := range deltaMembers {
		if deltaMembers[i].name == string(key) {
			return true
		}
	}
	return false
}

// rest is what a delta has beside texts and calls.
type rest struct {
	thinking  text // of the content's parts
	reasoning text // of members that have some
	parts     []*completionv1.Part
	extra     members
}

// readRest reads what only some servers have in a delta.
func (d *wireDelta) readRest(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	var r rest
	if content := all["content"]; len(content) > 0 && (content[0] == '[' || content[0] == '{') {
		r.addContent(content)
	}
	for _, m := range deltaMembers {
		raw := all[m.name]
		if len(raw) == 0 {
			continue
		}
		if m.use&passed != 0 {
			r.extra.add(m.name, raw)
		}
		if m.use&hasReasoning != 0 && r.reasoning == "" {
			var words reasoning
			_ = words.UnmarshalJSON(raw)
			r.reasoning = text(words)
		}
		if m.use&hasImages != 0 {
			r.addImages(m.name, raw)
		}
	}
	if r.thinking != "" || r.reasoning != "" || r.parts != nil || r.extra != nil {
		d.rest = &r
	}
	return nil
}

// addContent adds what of content in parts is not its text.
func (r *rest) addContent(raw json.RawMessage) {
	var thinking strings.Builder
	for _, p := range partsOf(raw) {
		words := p.words()
		switch {
		case p.isReasoning():
			thinking.WriteString(string(words))
		case p.image() != nil:
			r.parts = append(r.parts, p.image())
		case words == "" && p.Type != "text": // whatever it is, it is not kept back
			r.extra.append("content", p.raw)
		}
	}
	r.thinking = text(thinking.String())
}

func (r *rest) addImages(name string, raw json.RawMessage) {
	if raw[0] != '[' && raw[0] != '{' {
		return
	}
	for _, p := range partsOf(raw) {
		if image := p.image(); image != nil {
			r.parts = append(r.parts, image)
		} else {
			r.extra.append(name, p.raw)
		}
	}
}

// image returns the image that a part is, or nil.
func (p *wirePart) image() *completionv1.Part {
	var image completionv1.ImageURL
	switch {
	case len(p.ImageURL) > 0 && p.ImageURL[0] == '"':
		_ = json.Unmarshal(p.ImageURL, &image.Url)
	case len(p.ImageURL) > 0:
		var w struct {
			URL    string `json:"url"`
			Detail string `json:"detail"`
		}
		_ = leniently(p.ImageURL, &w)
		image.Url, image.Detail = w.URL, w.Detail
	case p.Source != nil && p.Source.Data != "":
		image.Url = fmt.Sprintf("data:%s;base64,%s", p.Source.MediaType, p.Source.Data)
	case p.Source != nil && p.Type == "image":
		image.Url = p.Source.URL
	}
	if image.Url == "" {
		return nil
	}
	return &completionv1.Part{Kind: &completionv1.Part_ImageUrl{ImageUrl: &image}}
}

// members are members of an extra; nil has none.
type members map[string]*structpb.Value

// read adds those that a table passes on.
func (m *members) read(b []byte, table []member) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for _, row := range table {
		if raw := all[row.name]; len(raw) > 0 && row.use&passed != 0 {
			m.add(row.name, raw)
		}
	}
	return nil
}

// add adds a value, unless there is nothing in it.
func (m *members) add(name string, raw json.RawMessage) {
	value := valueOf(raw)
	switch kind := value.GetKind().(type) {
	case nil, *structpb.Value_NullValue:
		return
	case *structpb.Value_StringValue:
		if kind.StringValue == "" {
			return
		}
	case *structpb.Value_ListValue:
		if len(kind.ListValue.Values) == 0 {
			return
		}
	case *structpb.Value_StructValue:
		if len(kind.StructValue.Fields) == 0 {
			return
		}
	}
	if *m == nil {
		*m = members{}
	}
	(*m)[name] = value
}

// append adds an element to a list.
func (m *members) append(name string, raw json.RawMessage) {
	list := (*m)[name].GetListValue()
	if list == nil {
		list = &structpb.ListValue{}
	}
	before := len(list.Values)
	var one members
	one.add(name, raw)
	for _, value := range one {
		list.Values = append(list.Values, value)
	}
	if len(list.Values) == before {
		return
	}
	if *m == nil {
		*m = members{}
	}
	(*m)[name] = structpb.NewListValue(list)
}

// merge adds those of others; lists become one.
func (m *members) merge(others members) {
	for name, value := range others {
		if *m == nil {
			*m = members{}
		}
		if list := (*m)[name].GetListValue(); list != nil && value.GetListValue() != nil {
			list.Values = append(list.Values, value.GetListValue().Values...)
			continue
		}
		(*m)[name] = value
	}
}

// message returns them as callers get them, or nil.
func (m members) message() *structpb.Struct {
	if m == nil {
		return nil
	}
	return &structpb.Struct{Fields: m}
}

// maxDepth bounds how deep an extra is: each level of JSON is three of protobuf's,
// and its decoders stop at 100 in most languages. What is deeper is given as the text
// that it is in JSON.
const maxDepth = 24

// valueOf returns a JSON value as a message.
func valueOf(raw json.RawMessage) *structpb.Value {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return nil
	}
	return shallow(v, 0)
}

func shallow(v any, depth int) *structpb.Value {
	switch v := v.(type) {
	case nil:
		return structpb.NewNullValue()
	case bool:
		return structpb.NewBoolValue(v)
	case float64:
		return structpb.NewNumberValue(v)
	case string:
		return structpb.NewStringValue(v)
	}
	if depth == maxDepth {
		b, _ := json.Marshal(v)
		return structpb.NewStringValue(string(b))
	}
	if list, ok := v.([]any); ok {
		values := make([]*structpb.Value, len(list))
		for i := range list {
			values[i] = shallow(list[i], depth+1)
		}
		return structpb.NewListValue(&structpb.ListValue{Values: values})
	}
	object, _ := v.(map[string]any)
	fields := make(map[string]*structpb.Value, len(object))
	for name, value := range object {
		fields[name] = shallow(value, depth+1)
	}
	return structpb.NewStructValue(&structpb.Struct{Fields: fields})
}
