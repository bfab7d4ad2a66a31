package openai

import (
	"bytes"
	"encoding/json"
	"errors"
)

// wireChunk is a chunk as upstreams send it: OpenAI's chat.completion.chunk and
// text_completion, and what other servers have added.
//
// https://platform.openai.com/docs/api-reference/chat/streaming
type wireChunk struct {
	Object  string       `json:"object"` // "error" where some servers put an error
	Model   string       `json:"model"`
	Choices []wireChoice `json:"choices"` // nil: there were none; an empty list is not nil
	Usage   *wireUsage   `json:"usage"`
	Error   wireError    `json:"error"`
	Groq    *wireGroq    `json:"x_groq"`

	// Padding, so that who sees chunks on the wire cannot tell words by their lengths.
	Obfuscation wirePadding `json:"obfuscation"` // OpenAI (docs: chat/create, include_obfuscation)
	P           wirePadding `json:"p"`           // Mistral (mistralai/mistral-common#131)
}

// wirePadding is the JSON of a string that means nothing, a part of the chunk.
type wirePadding []byte

// UnmarshalJSON implements json.Unmarshaler.
func (w *wirePadding) UnmarshalJSON(b []byte) error {
	*w = b
	return nil
}

func (c *wireChunk) padding() []byte {
	if len(c.Obfuscation) > 0 {
		return c.Obfuscation
	}
	return c.P
}

// wireGroq is what Groq says beside the rest, at the first and at the last chunk
// (groq/groq-python src/groq/types/chat/chat_completion_chunk.py, XGroq).
type wireGroq struct {
	Usage *wireUsage `json:"usage"`
	Error wireError  `json:"error"` // why the stream ends early
}

type wireChoice struct {
	Index        lenientInt    `json:"index"`
	Delta        *wireDelta    `json:"delta"`
	Message      *wireDelta    `json:"message"` // of servers that make a stream of a whole answer
	Text         wireText      `json:"text"`    // of a legacy completion
	FinishReason string        `json:"finish_reason"`
	FinishCamel  string        `json:"finishReason"` // of servers that write all their keys so
	Usage        *wireUsage    `json:"usage"`        // Moonshot (earendil-works/pi#2017)
	Error        wireError     `json:"error"`        // OpenRouter
	Logprobs     *wireLogprobs `json:"logprobs"`
}

type wireDelta struct {
	Content          wireText       `json:"content"`
	ReasoningContent wireThought    `json:"reasoning_content"` // DeepSeek, llama.cpp, vLLM
	Reasoning        wireThought    `json:"reasoning"`         // OpenRouter, Ollama, vLLM
	Refusal          wireText       `json:"refusal"`
	ToolCalls        []wireToolCall `json:"tool_calls"`
	FunctionCall     *wireFunction  `json:"function_call"` // before there were tools
	rest             *rest          // nil: there is nothing more
}

type wireToolCall struct {
	Index    *lenientInt  `json:"index"`
	ID       string       `json:"id"`
	Function wireFunction `json:"function"`
	extra    members
}

type wireFunction struct {
	Name      string    `json:"name"`
	Arguments arguments `json:"arguments"`
}

// wireError is the value of a key error, which many write in every chunk; null is
// left out.
type wireError json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (w *wireError) UnmarshalJSON(b []byte) error {
	if string(b) != "null" {
		*w = append((*w)[:0], b...)
	}
	return nil
}

// enclosed returns an error as it would stand in a body of its own.
func (w wireError) enclosed() []byte {
	return append(append([]byte(`{"error":`), w...), '}')
}

var errNotObject = errors.New("not a JSON object")

// decode decodes a chunk, with no white space around it, into c, which is zero. A field
// that has a type of its own is left out, for encoding/json decodes the rest all the
// same; of those that carry text it knows the other types, too.
func decode(data []byte, c *wireChunk) error {
	if !bytes.HasPrefix(data, []byte("{")) {
		return errNotObject
	}
	err := leniently(data, c)
	if malformed := (*json.SyntaxError)(nil); errors.As(err, &malformed) {
		if mended := withoutNaN(data); mended != nil {
			*c = wireChunk{}
			err = leniently(mended, c)
		}
	}
	return err
}

// leniently is json.Unmarshal without its complaints about types: it has left out
// what does not fit, and has decoded all the rest.
func leniently(data []byte, v any) error {
	err := json.Unmarshal(data, v)
	if odd := (*json.UnmarshalTypeError)(nil); errors.As(err, &odd) {
		err = nil
	}
	return err
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *wireDelta) UnmarshalJSON(b []byte) error {
	switch {
	case len(b) > 0 && b[0] == '"': // the text, and not an object that has it
		return d.Content.UnmarshalJSON(b)
	case len(b) == 0 || b[0] != '{':
		return nil
	}
	type plain wireDelta
	if err := leniently(b, (*plain)(d)); err != nil {
		return err
	}
	return d.readRest(b)
}

// UnmarshalJSON implements json.Unmarshaler.
func (w *wireToolCall) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '{' {
		return nil
	}
	type plain wireToolCall
	if err := leniently(b, (*plain)(w)); err != nil {
		return err
	}
	return w.extra.read(b, callMembers)
}

// withoutNaN returns data with null for each bare NaN and Infinity, which Python's
// json module writes and reads and which are no JSON, or nil when there is none.
// The string of a key or a text is left alone.
func withoutNaN(data []byte) []byte {
	var mended []byte
	done, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case quoted || c != 'N' && c != 'I' && c != '-':
		default:
			for _, word := range []string{"NaN", "Infinity", "-Infinity", "-NaN"} {
				if bytes.HasPrefix(data[i:], []byte(word)) {
					mended = append(append(mended, data[done:i]...), "null"...)
					i += len(word) - 1
					done = i + 1
					break
				}
			}
		}
	}
	if mended == nil {
		return nil
	}
	return append(mended, data[done:]...)
}
