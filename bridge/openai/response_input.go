package openai

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
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
	switch d.PeekKind() {
	case '"':
		return json.UnmarshalDecode(d, &i.text)
	case '[':
		return json.UnmarshalDecode(d, &i.items)
	}
	return wrong("", "must be a string or a list of items")
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

// inputContents is a text, or a list of parts.
type inputContents struct {
	text  *string
	parts []inputPart
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *inputContents) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '"':
		return json.UnmarshalDecode(d, &c.text)
	case '[':
		return json.UnmarshalDecode(d, &c.parts)
	}
	return wrong("", "must be a string or a list of parts")
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
		m.Content = proto.String(joinTexts(m.Parts, ""))
		m.Parts = nil
	}
	return nil
}

func joinTexts(parts []*completionv1.Part, between string) string {
	var texts []string
	for _, p := range parts {
		texts = append(texts, p.GetText())
	}
	return strings.Join(texts, between)
}

// conversation makes messages of items. What the model has said between two turns of others
// is one message, as far as it can be: upstreams want calls of a turn together.
type conversation struct {
	find Find
	most int // bytes of items that are looked up

	out   []*completionv1.Message
	own   *completionv1.Message // of the model, to which more may be added; nil: none
	found map[string]*WholeResponse
}

// maxFound is how many responses a request may refer to.
const maxFound = 100

func (c *conversation) messages(ctx context.Context, instructions *string, from *input) ([]*completionv1.Message, error) {
	if instructions != nil {
		c.add(&completionv1.Message{Role: "system", Content: instructions})
	}
	if from.text != nil {
		c.add(&completionv1.Message{Role: "user", Content: from.text})
	}
	for i := range from.items {
		if err := c.item(ctx, &from.items[i]); err != nil {
			return nil, in(fmt.Sprintf("input[%d]", i), err)
		}
	}
	if len(from.items) == 0 && from.text == nil {
		return nil, wrong("input", "must not be empty")
	}
	return c.out, nil
}

// add adds a message of another than the model.
func (c *conversation) add(m *completionv1.Message) {
	c.out, c.own = append(c.out, m), nil
}

// model returns the message of the model's turn.
func (c *conversation) model() *completionv1.Message {
	if c.own == nil {
		c.own = &completionv1.Message{Role: "assistant"}
		c.out = append(c.out, c.own)
	}
	return c.own
}

func (c *conversation) item(ctx context.Context, i *inputItem) error {
	kind := i.kind()
	if kind != "function_call" { // whose others are what the upstream has said beside it
		if err := noOthers(i.Others); err != nil {
			return err
		}
	}
	switch kind {
	case "message":
		return c.message(i)
	case "function_call":
		extra, err := structOf(i.Others, "parsed_arguments")
		if err != nil {
			return err
		}
		c.call(&completionv1.ToolCall{Id: textOf(i.CallID), Name: textOf(i.Name), Arguments: textOf(i.Arguments), Extra: extra})
		return nil
	case "function_call_output":
		m := &completionv1.Message{Role: "tool", ToolCallId: textOf(i.CallID)}
		if err := i.Output.setContent(m); err != nil {
			return in("output", err)
		}
		c.add(m)
		return nil
	case "reasoning":
		return c.reasoning(i)
	case "item_reference":
		return c.reference(ctx, textOf(i.ID))
	case "":
		return wrong("type", "is required")
	}
	return wrong("type", "is not known here, and so cannot be had")
}

func (c *conversation) message(i *inputItem) error {
	m := &completionv1.Message{Role: textOf(i.Role)}
	if err := i.Content.setContent(m); err != nil {
		return in("content", err)
	}
	if m.GetRole() != "assistant" {
		c.add(m)
		return nil
	}
	c.say(m)
	return nil
}

// say adds what the model has said.
func (c *conversation) say(m *completionv1.Message) {
	own := c.model()
	if own.Content != nil || own.Parts != nil || own.Extra != nil {
		c.own = nil
		own = c.model()
	}
	own.Content, own.Parts, own.Extra = m.Content, m.Parts, m.Extra
}

func (c *conversation) call(call *completionv1.ToolCall) {
	own := c.model()
	own.ToolCalls = append(own.ToolCalls, call)
}

func (c *conversation) reasoning(i *inputItem) error {
	if i.EncryptedContent != nil {
		return wrong("encrypted_content", "cannot be had: leave it out, and send the summary")
	}
	texts := i.Summary
	if i.Content != nil {
		texts = append(texts, i.Content.parts...)
	}
	var parts []*completionv1.Part
	for n := range texts {
		p, err := texts[n].toMessage()
		if err != nil {
			return in(fmt.Sprintf("summary[%d]", n), err)
		}
		parts = append(parts, p)
	}
	c.think(joinTexts(parts, "\n\n"))
	return nil
}

func (c *conversation) think(text string) {
	if text == "" {
		return
	}
	own := c.model()
	own.Reasoning = proto.String(own.GetReasoning() + text)
}

// reference adds an item of a response that there was before.
func (c *conversation) reference(ctx context.Context, id string) error {
	completion, index, ok := parseItemID(id)
	if !ok {
		return wrong("id", "is that of no item of this server's: send the item itself")
	}
	w := c.found[completion]
	if w == nil {
		if len(c.found) == maxFound {
			return wrong("id", "refers to too many responses: send the items themselves")
		}
		var err error
		if w, err = c.find(ctx, completion); err != nil {
			return err
		}
		if c.found == nil {
			c.found = map[string]*WholeResponse{}
		}
		c.found[completion] = w
	}
	if index >= len(w.r.items) || w.r.items[index].id != id {
		return wrong("id", "is that of no item of this server's: send the item itself")
	}
	it := w.r.items[index]
	for _, p := range it.parts {
		c.most -= len(p.text)
	}
	if c.most < 0 {
		return wrong("id", "refers to too much: send the items themselves")
	}
	return c.again(it)
}

// again adds an item of a response as if it had been sent.
func (c *conversation) again(it *item) error {
	var texts []string
	m := &completionv1.Message{}
	for _, p := range it.parts {
		var text string
		if err := json.Unmarshal([]byte(`"`+string(p.text)+`"`), &text); err != nil {
			return err
		}
		if p.kind == refusalPart {
			m.Extra = &structpb.Struct{Fields: map[string]*structpb.Value{"refusal": structpb.NewStringValue(text)}}
			continue
		}
		texts = append(texts, text)
	}
	all := strings.Join(texts, "")
	switch it.of {
	case itemReasoning:
		c.think(all)
	case itemCall:
		c.call(&completionv1.ToolCall{Id: it.callID, Name: it.name, Arguments: all, Extra: it.extra})
	default:
		m.Content = &all
		c.say(m)
	}
	return nil
}
