package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

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

// mentions tells whether one of the members may be in an object: that is quickly
// seen, and hardly ever so.
func mentions(object []byte, table []member) bool {
	for i := range table {
		if bytes.Contains(object, []byte(table[i].name)) {
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
	var r rest
	if isParts(d.Content.raw) {
		r.addContent(d.Content.raw)
	}
	var all map[string]json.RawMessage
	if mentions(b, deltaMembers) {
		if err := json.Unmarshal(b, &all); err != nil {
			return err
		}
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
			var words wireThought
			_ = words.UnmarshalJSON(raw)
			r.reasoning = words.text
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
	if !isParts(raw) {
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
