package openai

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// The types of a chunk's fields that are more often than not OpenAI's, and else what
// came to somebody's mind. None of them ever refuses a value, and null leaves each
// as it is.

// text is words of the model's. It may hold half a surrogate pair, or a part of a
// character, whose other half is in the text that follows: see halves.
type text string

// wireText is a text of the answer. It is a string; a number or true, as Workers AI
// writes words that look like one (cloudflare/ai#651); or a list of parts, as Mistral's
// reasoning models have it. What of parts is no text is in the rest of the delta.
type wireText struct {
	text text
	raw  json.RawMessage // what it was decoded from: a part of the chunk
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *wireText) UnmarshalJSON(b []byte) error {
	return t.decode(b, func(p *wirePart) bool { return !p.isReasoning() })
}

// wireThought is a text of the reasoning, whatever its parts are.
type wireThought wireText

// UnmarshalJSON implements json.Unmarshaler.
func (t *wireThought) UnmarshalJSON(b []byte) error {
	return (*wireText)(t).decode(b, func(*wirePart) bool { return true })
}

func (t *wireText) decode(b []byte, counts func(*wirePart) bool) error {
	switch {
	case len(b) == 0 || b[0] == 'n':
		return nil
	case b[0] == '"':
		t.text = text(unquote(b))
	case isParts(b):
		t.text = wordsOf(b, counts)
	default:
		t.text = text(b)
	}
	t.raw = b
	return nil
}

// isParts tells whether a JSON value is a list or an object.
func isParts(b []byte) bool { return len(b) > 0 && (b[0] == '[' || b[0] == '{') }

// wordsOf returns the text of those parts that count.
func wordsOf(b json.RawMessage, counts func(*wirePart) bool) text {
	var words strings.Builder
	parts := partsOf(b)
	for i := range parts {
		if counts(&parts[i]) {
			words.WriteString(string(parts[i].words()))
		}
	}
	return text(words.String())
}

// plainText is text that does not come in parts: parts within parts without end would
// be read again at each depth.
type plainText text

// UnmarshalJSON implements json.Unmarshaler.
func (t *plainText) UnmarshalJSON(b []byte) error {
	if isParts(b) {
		return nil
	}
	var w wireText
	if err := w.UnmarshalJSON(b); err == nil && w.raw != nil {
		*t = plainText(w.text)
	}
	return nil
}

// wirePart is a part of a text, in the words of those who send them: an object, or just
// a string.
type wirePart struct {
	raw json.RawMessage

	Type     string          `json:"type"`
	Text     plainText       `json:"text"`     // OpenAI, Mistral; OpenRouter's reasoning.text
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

// partsOf returns the parts that a list has, or the one that an object or string is.
func partsOf(b json.RawMessage) []wirePart {
	var list []json.RawMessage // not one that has b already: that would be decoded over
	if len(b) > 0 && b[0] == '[' {
		_ = json.Unmarshal(b, &list)
	} else {
		list = append(list, b)
	}
	parts := make([]wirePart, len(list))
	for i, raw := range list {
		parts[i].raw = raw
		if raw[0] == '"' {
			parts[i].Text = plainText(unquote(raw))
			continue
		}
		_ = leniently(raw, &parts[i])
	}
	return parts
}

// isReasoning tells whether the words of the part are not the answer's.
func (p *wirePart) isReasoning() bool {
	return p.Type == "thinking" || strings.HasPrefix(p.Type, "reasoning") || p.Type == "" && p.Text == "" && (p.Thinking != nil || p.Summary != nil)
}

// words returns the text of a part.
func (p *wirePart) words() text {
	words := text(p.Text)
	for _, nested := range []json.RawMessage{p.Thinking, p.Summary, p.Content} {
		if words != "" || len(nested) == 0 {
			continue
		}
		inner := partsOf(nested)
		var b strings.Builder
		for i := range inner {
			b.WriteString(string(inner[i].Text))
		}
		words = text(b.String())
	}
	return words
}

// arguments are those of a call: JSON in a string, or by the value itself.
type arguments string

// UnmarshalJSON implements json.Unmarshaler.
func (a *arguments) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) == 0 || b[0] == 'n':
	case b[0] == '"':
		*a = arguments(unquote(b))
	default:
		*a = arguments(b)
	}
	return nil
}

// lenientInt is a whole number, also as 7.0 or "7". Another value is 0.
type lenientInt int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *lenientInt) UnmarshalJSON(b []byte) error {
	b = bytes.Trim(b, `" `)
	if whole, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		*n = lenientInt(whole)
	} else if f, err := strconv.ParseFloat(string(b), 64); err == nil && math.Abs(f) < 1<<53 { // nor NaN
		*n = lenientInt(f)
	}
	return nil
}
