package openai

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// input is a text, or a list of items.
type input struct {
	text  *string
	items []inputItem
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (i *input) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return decodeTextOrList(d, &i.text, &i.items, "items")
}

// inputItem is an item of any type.
type inputItem struct {
	Type             *string        `json:"type"`
	ID               *string        `json:"id"`
	Status           *string        `json:"status"`
	Role             *string        `json:"role"`
	Content          *inputContents `json:"content"`
	CallID           *string        `json:"call_id"`
	Name             *string        `json:"name"`
	Arguments        *string        `json:"arguments"`
	Output           *inputContents `json:"output"`
	Summary          []inputPart    `json:"summary"`
	EncryptedContent *string        `json:"encrypted_content"`
	Others           jsontext.Value `json:",unknown"`
}

// kind returns the type, which may be left out where it is clear.
func (i *inputItem) kind() string {
	switch {
	case i.Type != nil:
		return *i.Type
	case i.Role != nil:
		return "message"
	case i.ID != nil:
		return "item_reference"
	}
	return ""
}

// misplaced refuses what holds something that is said, and that items of other types have:
// it would be lost.
func (i *inputItem) misplaced(kind string) error {
	isMessage, isCall, isReasoning := kind == "message", kind == "function_call", kind == "reasoning"
	for _, m := range []struct {
		name     string
		set, has bool
	}{
		{"content", i.Content != nil, isMessage || isReasoning},
		{"name", i.Name != nil, !isMessage},
		{"arguments", i.Arguments != nil, isCall},
		{"output", i.Output != nil, kind == "function_call_output"},
		{"summary", len(i.Summary) > 0, isReasoning},
	} {
		if m.set && !m.has {
			return wrong(m.name, "is not of an item of this type, and so cannot be had")
		}
	}
	return nil
}

// inputContents is a text, or a list of parts.
type inputContents struct {
	text  *string
	parts []inputPart
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *inputContents) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return decodeTextOrList(d, &c.text, &c.parts, "parts")
}

// inputPart is a piece of an item. annotations and the like are those of an answer that is
// sent back.
type inputPart struct {
	Type        *string        `json:"type"`
	Text        *string        `json:"text"`
	Refusal     *string        `json:"refusal"`
	ImageURL    *string        `json:"image_url"`
	Detail      *string        `json:"detail"`
	FileID      *string        `json:"file_id"`
	FileData    *string        `json:"file_data"`
	FileURL     *string        `json:"file_url"`
	Filename    *string        `json:"filename"`
	InputAudio  jsontext.Value `json:"input_audio"`
	Annotations jsontext.Value `json:"annotations"`
	Logprobs    jsontext.Value `json:"logprobs"`
	Parsed      jsontext.Value `json:"parsed"`
	Others      jsontext.Value `json:",unknown"`
}

func (p *inputPart) toMessage() (*completionv1.Part, error) {
	extra, err := structOf(p.Others)
	if err != nil {
		return nil, err
	}
	out := &completionv1.Part{Extra: extra}
	switch textOf(p.Type) {
	case "input_text", "output_text", "text", "summary_text", "reasoning_text":
		if p.Text == nil {
			return nil, wrong("text", "is required")
		}
		out.Kind = &completionv1.Part_Text{Text: *p.Text}
	case "input_image":
		if p.ImageURL == nil {
			return nil, wrong("image_url", "is required: files cannot be had by their ids")
		}
		out.Kind = &completionv1.Part_ImageUrl{ImageUrl: &completionv1.ImageURL{Url: *p.ImageURL, Detail: textOf(p.Detail)}}
	case "input_file":
		if p.FileURL != nil {
			return nil, wrong("file_url", "cannot be had: send the file in file_data")
		}
		out.Kind = &completionv1.Part_File{File: &completionv1.File{FileData: textOf(p.FileData), FileId: textOf(p.FileID), Filename: textOf(p.Filename)}}
	case "input_audio":
		var v inputAudio
		if err := object("input_audio", p.InputAudio, &v, &v.Others); err != nil {
			return nil, err
		}
		out.Kind = &completionv1.Part_InputAudio{InputAudio: &completionv1.InputAudio{Data: textOf(v.Data), Format: textOf(v.Format)}}
	case "":
		return nil, wrong("type", "is required")
	default:
		return nil, wrong("type", "is not known here, and so cannot be had")
	}
	return out, nil
}

// setContent makes the content of a message of that of an item. Texts alone are one text,
// which all models take.
func (c *inputContents) setContent(m *completionv1.Message) error {
	if c == nil {
		return wrong("", "is required")
	}
	if c.text != nil {
		m.Content = c.text
		return nil
	}
	joined := m.GetRole() == "assistant" || len(c.parts) == 1
	for i := range c.parts {
		p := &c.parts[i]
		if m.GetRole() == "assistant" && textOf(p.Type) == "refusal" {
			m.Extra = &structpb.Struct{Fields: map[string]*structpb.Value{"refusal": structpb.NewStringValue(textOf(p.Refusal))}}
			continue
		}
		out, err := p.toMessage()
		if err != nil {
			return in(fmt.Sprintf("[%d]", i), err)
		}
		_, isText := out.GetKind().(*completionv1.Part_Text)
		joined = joined && isText && out.GetExtra() == nil
		m.Parts = append(m.Parts, out)
	}
	if joined || len(m.Parts) == 0 {
		m.Content = proto.String(joinTexts(m.Parts))
		m.Parts = nil
	}
	return nil
}

func joinTexts(parts []*completionv1.Part) string {
	var texts strings.Builder
	for _, p := range parts {
		texts.WriteString(p.GetText())
	}
	return texts.String()
}
