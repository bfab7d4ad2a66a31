package openai

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// The types of members that servers send in more than one form. Decoding them never
// fails, and null changes nothing.

// wireText is a text of the answer: a string; a number or true, which Workers AI sends
// for tokens that look like one (cloudflare/ai#651); or parts, as of Mistral's reasoning
// models. Parts that are not text are in the delta's rareMembers.
type wireText struct {
	text wtf8
	json json.RawMessage // what it was decoded from, a part of the chunk; nil: nothing
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *wireText) UnmarshalJSON(b []byte) error {
	return t.decode(b, func(p *wirePart) bool { return !p.isReasoning() })
}

// wireReasoning is a text of the reasoning, whatever the types of its parts are.
type wireReasoning wireText

// UnmarshalJSON implements json.Unmarshaler.
func (t *wireReasoning) UnmarshalJSON(b []byte) error {
	return (*wireText)(t).decode(b, func(*wirePart) bool { return true })
}

// decode decodes a text, of whose parts those belong to it for which include is true.
func (t *wireText) decode(b []byte, include func(*wirePart) bool) error {
	switch {
	case len(b) == 0 || b[0] == 'n':
		return nil
	case b[0] == '"':
		t.text = wtf8(unquote(b))
	case isParts(b):
		t.text = partsText(b, include)
	default:
		t.text = wtf8(b)
	}
	t.json = b
	return nil
}

// isParts tells whether a JSON value is a list or an object.
func isParts(b []byte) bool { return len(b) > 0 && (b[0] == '[' || b[0] == '{') }

// partsText returns the text of those parts for which include is true.
func partsText(b json.RawMessage, include func(*wirePart) bool) wtf8 {
	var text strings.Builder
	parts := decodeParts(b)
	for i := range parts {
		if include(&parts[i]) {
			text.WriteString(string(parts[i].textOf()))
		}
	}
	return wtf8(text.String())
}

// wirePart is a part of a text: an object, or a string.
type wirePart struct {
	json json.RawMessage

	Type     string          `json:"type"`
	Text     wirePartText    `json:"text"`     // OpenAI, Mistral; OpenRouter's reasoning.text
	Thinking json.RawMessage `json:"thinking"` // Mistral: parts; Anthropic: a string
	Summary  json.RawMessage `json:"summary"`  // OpenRouter's reasoning.summary: a string; OpenAI's reasoning: parts
	Content  json.RawMessage `json:"content"`  // OpenAI's reasoning

	ImageURL json.RawMessage `json:"image_url"` // {"url":…,"detail":…}, or the URL
	Source   *struct {       // Anthropic
		MediaType string `json:"media_type"`
		Data      string `json:"data"`
		URL       string `json:"url"`
	} `json:"source"`
}

// wirePartText is a text without parts of its own: reading parts within parts would
// take quadratic time.
type wirePartText wtf8

// UnmarshalJSON implements json.Unmarshaler.
func (t *wirePartText) UnmarshalJSON(b []byte) error {
	var text wireText
	if !isParts(b) && text.UnmarshalJSON(b) == nil && text.json != nil {
		*t = wirePartText(text.text)
	}
	return nil
}

// decodeParts returns the parts in a list, or the one that an object or string is.
func decodeParts(b json.RawMessage) []wirePart {
	var list []json.RawMessage
	if len(b) > 0 && b[0] == '[' {
		_ = json.Unmarshal(b, &list)
	} else {
		list = append(list, b)
	}
	parts := make([]wirePart, len(list))
	for i, raw := range list {
		parts[i].json = raw
		if raw[0] == '"' {
			parts[i].Text = wirePartText(unquote(raw))
			continue
		}
		_, _ = unmarshalLeniently(raw, &parts[i])
	}
	return parts
}

// isReasoning tells whether the text of the part is reasoning.
func (p *wirePart) isReasoning() bool {
	return p.Type == "thinking" || strings.HasPrefix(p.Type, "reasoning") || p.Type == "" && p.Text == "" && (p.Thinking != nil || p.Summary != nil)
}

// textOf returns the text of a part, wherever it stands.
func (p *wirePart) textOf() wtf8 {
	text := wtf8(p.Text)
	for _, nested := range []json.RawMessage{p.Thinking, p.Summary, p.Content} {
		if text != "" || len(nested) == 0 {
			continue
		}
		inner := decodeParts(nested)
		var b strings.Builder
		for i := range inner {
			b.WriteString(string(inner[i].Text))
		}
		text = wtf8(b.String())
	}
	return text
}

// wireArguments are the arguments of a tool call: JSON in a string, or the value itself.
type wireArguments wtf8

// UnmarshalJSON implements json.Unmarshaler.
func (a *wireArguments) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) == 0 || b[0] == 'n':
	case b[0] == '"':
		*a = wireArguments(unquote(b))
	default:
		*a = wireArguments(b)
	}
	return nil
}

// lenientInt is an integer, also as 7.0 or "7". Any other value is 0.
type lenientInt int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *lenientInt) UnmarshalJSON(b []byte) error {
	b = bytes.Trim(b, `" `)
	if i, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		*n = lenientInt(i)
	} else if f, err := strconv.ParseFloat(string(b), 64); err == nil && math.Abs(f) < 1<<53 { // not NaN
		*n = lenientInt(f)
	}
	return nil
}
