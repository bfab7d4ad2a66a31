package openai

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// message is a turn of a conversation. Members that it does not know go upstream as they
// are: reasoning_details, audio.
type message struct {
	Role             *string        `json:"role"`
	Content          *contents      `json:"content"`
	Name             *string        `json:"name"`
	ToolCalls        []toolCall     `json:"tool_calls"`
	ToolCallID       *string        `json:"tool_call_id"`
	ReasoningContent *string        `json:"reasoning_content"`
	Reasoning        *string        `json:"reasoning"` // OpenRouter's name, and vLLM's newer one
	FunctionCall     jsontext.Value `json:"function_call"`
	Others           jsontext.Value `json:",unknown"`
}

// ofAnswers are members of an answer's message that clients send back with it, and that
// say nothing to a model: sources, and what the official clients add to it (parsed).
var ofAnswers = []string{"annotations", "parsed", "images"}

func (m *message) toMessage() (*completionv1.Message, error) {
	if len(m.FunctionCall) > 0 && m.FunctionCall.Kind() != 'n' {
		return nil, wrong("function_call", "was replaced by tool_calls: send those")
	}
	out := &completionv1.Message{Role: textOf(m.Role), Name: textOf(m.Name), ToolCallId: textOf(m.ToolCallID), Reasoning: m.ReasoningContent}
	if out.Reasoning == nil {
		out.Reasoning = m.Reasoning
	}
	if c := m.Content; c != nil {
		out.Content = c.text
		for i := range c.parts {
			p, err := c.parts[i].toMessage()
			if err != nil {
				return nil, in(fmt.Sprintf("content[%d]", i), err)
			}
			out.Parts = append(out.Parts, p)
		}
	}
	for i := range m.ToolCalls {
		call, err := m.ToolCalls[i].toMessage()
		if err != nil {
			return nil, in(fmt.Sprintf("tool_calls[%d]", i), err)
		}
		out.ToolCalls = append(out.ToolCalls, call)
	}
	var err error
	out.Extra, err = structOf(m.Others, ofAnswers...)
	return out, err
}

// contents is a text, or a list of parts.
type contents struct {
	text  *string
	parts []part
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *contents) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return decodeTextOrList(d, &c.text, &c.parts, "parts")
}

// decodeTextOrList decodes a text, or a list of what is named.
func decodeTextOrList[T any](d *jsontext.Decoder, text **string, list *[]T, what string) error {
	switch d.PeekKind() {
	case '"':
		return json.UnmarshalDecode(d, text)
	case '[':
		return json.UnmarshalDecode(d, list)
	}
	return wrong("", "must be a string or a list of %s", what)
}

// part is a piece of a message. One of a type that is not known goes upstream as it is.
type part struct {
	Type       *string        `json:"type"`
	Text       *string        `json:"text"`
	ImageURL   jsontext.Value `json:"image_url"`
	InputAudio jsontext.Value `json:"input_audio"`
	File       jsontext.Value `json:"file"`
	Others     jsontext.Value `json:",unknown"`
}

type imageURL struct {
	URL    *string        `json:"url"`
	Detail *string        `json:"detail"`
	Others jsontext.Value `json:",unknown"`
}

type inputAudio struct {
	Data   *string        `json:"data"`
	Format *string        `json:"format"`
	Others jsontext.Value `json:",unknown"`
}

type file struct {
	FileData *string        `json:"file_data"`
	FileID   *string        `json:"file_id"`
	Filename *string        `json:"filename"`
	Others   jsontext.Value `json:",unknown"`
}

func (p *part) toMessage() (*completionv1.Part, error) {
	extra, err := structOf(p.Others)
	if err != nil {
		return nil, err
	}
	out := &completionv1.Part{Extra: extra}
	switch textOf(p.Type) {
	case "text":
		if p.Text == nil {
			return nil, wrong("text", "is required")
		}
		out.Kind = &completionv1.Part_Text{Text: *p.Text}
	case "image_url":
		var v imageURL
		if err := object("image_url", p.ImageURL, &v, &v.Others); err != nil {
			return nil, err
		}
		out.Kind = &completionv1.Part_ImageUrl{ImageUrl: &completionv1.ImageURL{Url: textOf(v.URL), Detail: textOf(v.Detail)}}
	case "input_audio":
		var v inputAudio
		if err := object("input_audio", p.InputAudio, &v, &v.Others); err != nil {
			return nil, err
		}
		out.Kind = &completionv1.Part_InputAudio{InputAudio: &completionv1.InputAudio{Data: textOf(v.Data), Format: textOf(v.Format)}}
	case "file":
		var v file
		if err := object("file", p.File, &v, &v.Others); err != nil {
			return nil, err
		}
		out.Kind = &completionv1.Part_File{File: &completionv1.File{FileData: textOf(v.FileData), FileId: textOf(v.FileID), Filename: textOf(v.Filename)}}
	case "":
		return nil, wrong("type", "is required")
	default:
		return out, p.addAll(out)
	}
	return out, nil
}

// addAll puts all of a part into the extra: its type is not known here.
func (p *part) addAll(out *completionv1.Part) error {
	if out.Extra == nil {
		out.Extra = &structpb.Struct{Fields: map[string]*structpb.Value{}}
	}
	out.Extra.Fields["type"] = structpb.NewStringValue(*p.Type)
	if p.Text != nil {
		out.Extra.Fields["text"] = structpb.NewStringValue(*p.Text)
	}
	for name, raw := range map[string]jsontext.Value{"image_url": p.ImageURL, "input_audio": p.InputAudio, "file": p.File} {
		if len(raw) == 0 || raw.Kind() == 'n' {
			continue
		}
		var v anyValue
		if err := v.set(raw); err != nil {
			return in(name, err)
		}
		out.Extra.Fields[name] = v.value
	}
	return nil
}

// object decodes a member that must be an object without unknown members.
func object(name string, raw jsontext.Value, into any, others *jsontext.Value) error {
	if raw.Kind() != '{' {
		return wrong(name, "must be an object")
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return in(name, explain(err))
	}
	if err := noOthers(*others); err != nil {
		return in(name, err)
	}
	return nil
}

// toolCall is a call that an answer made, sent back.
type toolCall struct {
	ID       *string `json:"id"`
	Type     *string `json:"type"`
	Function *struct {
		Name      *string        `json:"name"`
		Arguments *string        `json:"arguments"`
		Others    jsontext.Value `json:",unknown"`
	} `json:"function"`
	Others jsontext.Value `json:",unknown"`
}

func (c *toolCall) toMessage() (*completionv1.ToolCall, error) {
	if kind := textOf(c.Type); kind != "function" && kind != "" {
		return nil, wrong("type", "must be function: calls of others cannot be had")
	}
	if c.Function == nil {
		return nil, wrong("function", "is required")
	}
	extra, err := structOf(c.Others, "index") // which pieces of a stream have
	if err != nil {
		return nil, err
	}
	// parsed_arguments is what the official clients add.
	rest, err := structOf(c.Function.Others, "parsed_arguments")
	if err != nil {
		return nil, in("function", err)
	}
	for name := range rest.GetFields() {
		return nil, in("function", wrong(name, "is not known here, and so cannot be had"))
	}
	return &completionv1.ToolCall{Id: textOf(c.ID), Name: textOf(c.Function.Name), Arguments: textOf(c.Function.Arguments), Extra: extra}, nil
}

// tool is what the model may call.
type tool struct {
	Type     *string `json:"type"`
	Function *struct {
		Name        *string        `json:"name"`
		Description *string        `json:"description"`
		Parameters  jsontext.Value `json:"parameters"`
		Strict      *bool          `json:"strict"`
		Others      jsontext.Value `json:",unknown"`
	} `json:"function"`
	Others jsontext.Value `json:",unknown"`
}

func (t *tool) toMessage() (*completionv1.Tool, error) {
	f := t.Function
	if f == nil {
		return nil, wrong("function", "is required: tools of other types cannot be had")
	}
	if err := noOthers(t.Others); err != nil {
		return nil, err
	}
	if err := noOthers(f.Others); err != nil {
		return nil, in("function", err)
	}
	parameters, err := schema(f.Parameters)
	if err != nil {
		return nil, in("function.parameters", err)
	}
	return &completionv1.Tool{Type: textOf(t.Type), Function: &completionv1.Function{
		Name: textOf(f.Name), Description: textOf(f.Description), ParametersJson: parameters, Strict: f.Strict,
	}}, nil
}

// schema returns the text of a JSON Schema, "" for none.
func schema(raw jsontext.Value) (string, error) {
	switch {
	case len(raw) == 0, raw.Kind() == 'n':
		return "", nil
	case raw.Kind() != '{':
		return "", wrong("", "must be an object")
	}
	return string(raw), nil
}

// responseFormat is the form that an answer must have.
type responseFormat struct {
	Type       *string `json:"type"`
	JSONSchema *struct {
		Name        *string        `json:"name"`
		Description *string        `json:"description"`
		Schema      jsontext.Value `json:"schema"`
		Strict      *bool          `json:"strict"`
		Others      jsontext.Value `json:",unknown"`
	} `json:"json_schema"`
	Others jsontext.Value `json:",unknown"`
}

func (f *responseFormat) toMessage() (*completionv1.ResponseFormat, error) {
	if f == nil {
		return nil, nil
	}
	if err := noOthers(f.Others); err != nil {
		return nil, err
	}
	out := &completionv1.ResponseFormat{Type: textOf(f.Type)}
	s := f.JSONSchema
	if s == nil {
		return out, nil
	}
	if err := noOthers(s.Others); err != nil {
		return nil, in("json_schema", err)
	}
	text, err := schema(s.Schema)
	if err != nil {
		return nil, in("json_schema.schema", err)
	}
	out.JsonSchema = &completionv1.JSONSchema{Name: textOf(s.Name), Description: textOf(s.Description), SchemaJson: text, Strict: s.Strict}
	return out, nil
}
