package openai

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// conversation makes messages of items. What the model has said between two turns of others
// is one message, as far as it can be: upstreams want calls of a turn together.
type conversation struct {
	find Find
	most int // bytes of items that are referred to
	room int // bytes of the responses that they are of, which are read whole

	out   []*completionv1.Message
	own   *completionv1.Message // of the model, to which more may be added; nil: none
	found map[string]*WholeResponse
}

// maxFound is how many responses a request may refer to, and roomOverMost how much longer they
// may be than the items: all of them are held at once.
const (
	maxFound     = 100
	roomOverMost = 4
)

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
	if len(from.items) == 0 && from.text == nil || len(c.out) == 0 { // of reasoning without a word, too
		return nil, wrong("input", "must not be empty")
	}
	return c.out, nil
}

// close closes the responses that were looked up.
func (c *conversation) close() {
	for _, w := range c.found {
		w.Close()
	}
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
	if err := i.misplaced(kind); err != nil {
		return err
	}
	switch kind {
	case "message":
		return c.message(i)
	case "function_call":
		switch {
		case textOf(i.CallID) == "":
			return wrong("call_id", "is required")
		case textOf(i.Name) == "":
			return wrong("name", "is required")
		}
		extra, err := structOf(i.Others, "parsed_arguments")
		if err != nil {
			return err
		}
		c.call(&completionv1.ToolCall{Id: textOf(i.CallID), Name: textOf(i.Name), Arguments: textOf(i.Arguments), Extra: extra})
		return nil
	case "function_call_output":
		if textOf(i.CallID) == "" {
			return wrong("call_id", "is required")
		}
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
	switch m.GetRole() {
	case "user", "assistant", "system", "developer":
	default:
		return wrong("role", "must be user, assistant, system or developer")
	}
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
	if textOf(i.EncryptedContent) != "" {
		return wrong("encrypted_content", "cannot be had: leave it out, and send the summary")
	}
	parts, err := thoughts("summary", nil, i.Summary)
	if err == nil && i.Content != nil {
		if i.Content.text != nil {
			parts = append(parts, *i.Content.text)
		}
		parts, err = thoughts("content", parts, i.Content.parts)
	}
	c.think(strings.Join(parts, "\n\n"))
	return err
}

// thoughts appends the texts of parts, which are all that reasoning can have.
func thoughts(member string, texts []string, parts []inputPart) ([]string, error) {
	for n := range parts {
		p, err := parts[n].toMessage()
		if err == nil {
			if _, ok := p.GetKind().(*completionv1.Part_Text); !ok {
				err = wrong("type", "must be that of a text")
			}
		}
		if err != nil {
			return nil, in(fmt.Sprintf("%s[%d]", member, n), err)
		}
		texts = append(texts, p.GetText())
	}
	return texts, nil
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
		for _, it := range w.r.items {
			c.room -= it.size()
		}
	}
	if c.room < 0 {
		return wrong("id", "refers to responses that are too long: send the items themselves")
	}
	if index >= len(w.r.items) || w.r.items[index].id != id {
		return wrong("id", "is that of no item of this server's: send the item itself")
	}
	it := w.r.items[index]
	if w.r.statusOf(it) == inProgress {
		return wrong("id", "is that of an item that is not complete yet: read it first")
	}
	if c.most -= it.size(); c.most < 0 {
		return wrong("id", "refers to too much: send the items themselves")
	}
	return c.again(it)
}

// again adds an item of a response as if it had been sent.
func (c *conversation) again(it *item) error {
	var texts, refusals []string
	for _, p := range it.parts {
		var text string
		if err := json.Unmarshal(append(p.text.appendTo([]byte{'"'}), '"'), &text); err != nil {
			return err
		}
		if p.kind == refusalPart {
			refusals = append(refusals, text)
			continue
		}
		texts = append(texts, text)
	}
	all := strings.Join(texts, "")
	switch it.of {
	case itemReasoning:
		c.think(all)
	case itemCall:
		c.call(&completionv1.ToolCall{Id: it.callID, Name: string(it.name), Arguments: all, Extra: it.extra})
	default:
		m := &completionv1.Message{Content: &all}
		if refusals != nil {
			refusal := structpb.NewStringValue(strings.Join(refusals, ""))
			m.Extra = &structpb.Struct{Fields: map[string]*structpb.Value{"refusal": refusal}}
		}
		c.say(m)
	}
	return nil
}
