package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// memberUse is what is done with a member.
type memberUse uint8

const (
	toExtra     memberUse = 1 << iota // callers get it in extra, and can send it back to the upstream
	isReasoning                       // it holds the reasoning, which may be elsewhere, too
	isImages                          // it holds images, which are parts of the answer
)

// member is a member of an object that only some servers send.
type member struct {
	name   string
	use    memberUse
	source string
}

// deltaMembers are members of a delta or a message. If several hold the reasoning, they
// hold the same: the first one counts.
var deltaMembers = []member{
	{"reasoning_text", isReasoning, "GitHub Copilot (sst/opencode provider/sdk/copilot, openai-compatible chat model)"},
	{"reasoning_details", toExtra | isReasoning, "OpenRouter (docs: reasoning tokens), MiniMax: wanted back"},
	{"thinking_blocks", toExtra | isReasoning, "LiteLLM for Anthropic (docs: reasoning_content): wanted back"},
	{"reasoning_opaque", toExtra, "GitHub Copilot, with reasoning_text: wanted back"},
	{"extra_content", toExtra, "Gemini (ai.google.dev: thought signatures, OpenAI compatibility): wanted back"},
	{"provider_specific_fields", toExtra, "LiteLLM (litellm/types/utils.py, Delta): signatures, citations"},
	{"images", isImages, "OpenRouter (docs: image generation), LiteLLM"},
	{"annotations", toExtra, "OpenAI (openai-python types/chat/chat_completion_message.py), OpenRouter"},
	{"audio", toExtra, "OpenAI (openai-python types/chat/chat_completion_audio.py)"},
	{"executed_tools", toExtra, "Groq (groq-python types/chat/chat_completion_chunk.py)"},
	{"context", toExtra, "Azure on your data: citations"},
}

// callMembers are members of a tool call.
var callMembers = []member{
	{"extra_content", toExtra, "Gemini (ai.google.dev: thought signatures, OpenAI compatibility): wanted back"},
	{"provider_specific_fields", toExtra, "LiteLLM (litellm/types/utils.py, ChatCompletionDeltaToolCall): thought_signature"},
}

// mayHave tells whether there may be one of the members in a JSON value. Letters may be
// escaped in their names.
func mayHave(data []byte, table []member) bool {
	for i := range table {
		if bytes.Contains(data, []byte(`"`+table[i].name+`"`)) {
			return true
		}
	}
	return bytes.Contains(data, []byte(`\u00`))
}

// rareMembers is what a delta has beside its texts and tool calls.
type rareMembers struct {
	thinking  wtf8 // of the parts of the content
	reasoning wtf8 // of other members
	parts     []*completionv1.Part
	extra     extraMembers
}

// decodeRare decodes the rare members of a chunk that has been decoded from data, in a
// second pass over that, if there may be some. An UnmarshalJSON of wireDelta would need
// less code, but nests one decoder in another: their stack is so large that it grows for
// each stream, which takes 30 µs and 3 KiB.
func (c *wireChunk) decodeRare(data []byte, wrongType bool) {
	var raw struct {
		Choices []struct {
			Delta   json.RawMessage `json:"delta"`
			Message json.RawMessage `json:"message"`
		} `json:"choices"`
	}
	if wrongType || mayHave(data, deltaMembers) || mayHave(data, callMembers) {
		_, _ = unmarshalLeniently(data, &raw)
	}
	for i := range c.Choices {
		var delta, message json.RawMessage
		if i < len(raw.Choices) {
			delta, message = raw.Choices[i].Delta, raw.Choices[i].Message
		}
		c.Choices[i].Delta.decodeRare(delta)
		c.Choices[i].Message.decodeRare(message)
	}
}

// decodeRare decodes the rare members of a delta. Its JSON may be empty if there are none.
func (d *wireDelta) decodeRare(raw json.RawMessage) {
	if d == nil {
		return
	}
	if len(raw) > 0 && raw[0] == '"' { // the delta is the text itself
		_ = d.Content.UnmarshalJSON(raw)
		return
	}
	var all map[string]json.RawMessage
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, &all)
		d.decodeRareOfCalls(all["tool_calls"])
	}
	var r rareMembers
	if isParts(d.Content.json) {
		r.addContent(d.Content.json)
	}
	for _, m := range deltaMembers {
		raw := all[m.name]
		if len(raw) == 0 {
			continue
		}
		if m.use&toExtra != 0 {
			r.extra.add(m.name, raw)
		}
		if m.use&isReasoning != 0 && r.reasoning == "" {
			var reasoning wireReasoning
			_ = reasoning.UnmarshalJSON(raw)
			r.reasoning = reasoning.text
		}
		if m.use&isImages != 0 {
			r.addImages(m.name, raw)
		}
	}
	if r.thinking != "" || r.reasoning != "" || r.parts != nil || r.extra != nil {
		d.rare = &r
	}
}

// decodeRareOfCalls decodes the rare members of the tool calls.
func (d *wireDelta) decodeRareOfCalls(raw json.RawMessage) {
	var calls []json.RawMessage
	_ = json.Unmarshal(raw, &calls)
	for i := range d.ToolCalls[:min(len(d.ToolCalls), len(calls))] {
		d.ToolCalls[i].extra.decode(calls[i], callMembers)
	}
}

// addContent adds those parts of the content that are not its text.
func (r *rareMembers) addContent(raw json.RawMessage) {
	var thinking strings.Builder
	for _, p := range decodeParts(raw) {
		text := p.textOf()
		switch {
		case p.isReasoning():
			thinking.WriteString(string(text))
		case p.image() != nil:
			r.parts = append(r.parts, p.image())
		case text == "" && p.Type != "text": // of an unknown type
			r.extra.append("content", p.json)
		}
	}
	r.thinking = wtf8(thinking.String())
}

// addImages adds the images in a member, and what else is in it to extra.
func (r *rareMembers) addImages(name string, raw json.RawMessage) {
	if !isParts(raw) {
		return
	}
	for _, p := range decodeParts(raw) {
		if image := p.image(); image != nil {
			r.parts = append(r.parts, image)
		} else {
			r.extra.append(name, p.json)
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
		_, _ = unmarshalLeniently(p.ImageURL, &w)
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
