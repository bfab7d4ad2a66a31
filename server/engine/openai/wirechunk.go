package openai

import "encoding/json"

// wireChunk is a chunk as upstreams send it: OpenAI's chat.completion.chunk and
// text_completion, with what other servers have added.
//
// https://platform.openai.com/docs/api-reference/chat/streaming
type wireChunk struct {
	Object  string       `json:"object"` // "error" where some servers put an error
	Model   string       `json:"model"`
	Choices []wireChoice `json:"choices"` // nil: there is no such member; an empty list is not nil
	Usage   *wireUsage   `json:"usage"`
	Error   wireError    `json:"error"`
	Groq    *wireGroq    `json:"x_groq"`

	// Padding hides the lengths of the texts from whoever sees the chunks on the wire.
	Obfuscation wirePadding `json:"obfuscation"` // OpenAI (docs: chat/create, include_obfuscation)
	P           wirePadding `json:"p"`           // Mistral (mistralai/mistral-common#131)
}

// wireGroq is in the first and the last chunk of Groq
// (groq/groq-python src/groq/types/chat/chat_completion_chunk.py, XGroq).
type wireGroq struct {
	Usage *wireUsage `json:"usage"`
	Error wireError  `json:"error"` // why the stream ends early
}

type wireChoice struct {
	Index        lenientInt    `json:"index"`
	Delta        *wireDelta    `json:"delta"`
	Message      *wireDelta    `json:"message"` // of servers that send a whole answer as a stream
	Text         wireText      `json:"text"`    // of a legacy completion
	FinishReason string        `json:"finish_reason"`
	FinishCamel  string        `json:"finishReason"` // of servers with all keys in camel case
	Usage        *wireUsage    `json:"usage"`        // Moonshot (earendil-works/pi#2017)
	Error        wireError     `json:"error"`        // OpenRouter
	Logprobs     *wireLogprobs `json:"logprobs"`
}

type wireDelta struct {
	Content          wireText       `json:"content"`
	ReasoningContent wireReasoning  `json:"reasoning_content"` // DeepSeek, llama.cpp, vLLM
	Reasoning        wireReasoning  `json:"reasoning"`         // OpenRouter, Ollama, vLLM
	Refusal          wireText       `json:"refusal"`
	ToolCalls        []wireToolCall `json:"tool_calls"`
	FunctionCall     *wireFunction  `json:"function_call"` // OpenAI, before there were tools
	rare             *rareMembers   // nil: there are none; set by decodeRare
}

type wireToolCall struct {
	Index    *lenientInt  `json:"index"`
	ID       string       `json:"id"`
	Function wireFunction `json:"function"`
	extra    extraMembers // set by decodeRare
}

type wireFunction struct {
	Name      string        `json:"name"`
	Arguments wireArguments `json:"arguments"`
}

// wireError is the JSON of a member error, which some servers have in every chunk;
// empty for null.
type wireError json.RawMessage

// UnmarshalJSON implements json.Unmarshaler.
func (w *wireError) UnmarshalJSON(b []byte) error {
	if string(b) != "null" {
		*w = append((*w)[:0], b...)
	}
	return nil
}

// asBody returns the body of a response with this error.
func (w wireError) asBody() []byte {
	return append(append([]byte(`{"error":`), w...), '}')
}

// wirePadding is the JSON of a string without meaning. It is a part of the chunk.
type wirePadding []byte

// UnmarshalJSON implements json.Unmarshaler.
func (w *wirePadding) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		*w = b
	}
	return nil
}

// padding returns the JSON of the chunk's padding, or nil.
func (c *wireChunk) padding() []byte {
	if c.Obfuscation != nil {
		return c.Obfuscation
	}
	return c.P
}
