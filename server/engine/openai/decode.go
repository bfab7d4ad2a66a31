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
	last  template
	delta *wireDelta // decodeFast's, of the first choice, used again

	Object  string          `json:"object"` // "error" where some servers put an error
	Model   string          `json:"model"`
	Choices []wireChoice    `json:"choices"` // nil: there were none; an empty list is not nil
	Usage   *wireUsage      `json:"usage"`
	Error   json.RawMessage `json:"error"`
}

type wireChoice struct {
	Index        int        `json:"index"`
	Delta        *wireDelta `json:"delta"`
	Message      *wireDelta `json:"message"` // of servers that make a stream of a whole answer
	Text         string     `json:"text"`    // of a legacy completion
	FinishReason string     `json:"finish_reason"`
}

type wireDelta struct {
	Content          string         `json:"content"`
	ReasoningContent string         `json:"reasoning_content"` // DeepSeek, llama.cpp, vLLM
	Reasoning        string         `json:"reasoning"`         // OpenRouter, Ollama, vLLM
	Refusal          string         `json:"refusal"`
	ToolCalls        []wireToolCall `json:"tool_calls"`
	FunctionCall     *wireFunction  `json:"function_call"` // before there were tools
}

type wireToolCall struct {
	Index    *int32       `json:"index"`
	ID       string       `json:"id"`
	Function wireFunction `json:"function"`
}

type wireFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

type wireUsage struct {
	PromptTokens            int64 `json:"prompt_tokens"`
	CompletionTokens        int64 `json:"completion_tokens"`
	TotalTokens             int64 `json:"total_tokens"`
	CompletionTokensDetails struct {
		ReasoningTokens int64 `json:"reasoning_tokens"`
	} `json:"completion_tokens_details"`
	PromptTokensDetails struct {
		CachedTokens int64 `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

var errNotObject = errors.New("not a JSON object")

// decode reads a chunk, with no white space around it, into c, which it may be
// given again. A field that has a type of its own is left out, for encoding/json
// decodes the rest all the same; of those that carry text it knows the other
// types, too. It says whether the chunk is like the last one that c was given.
func decode(data []byte, c *wireChunk) (like bool, err error) {
	if c.decodeLike(data) {
		return true, nil
	}
	if decodeFast(data, c) {
		return false, nil
	}
	*c = wireChunk{}
	return false, decodeSlowly(data, c)
}

func decodeSlowly(data []byte, c *wireChunk) error {
	if !bytes.HasPrefix(data, []byte("{")) {
		return errNotObject
	}
	err := json.Unmarshal(data, c)
	if odd := (*json.UnmarshalTypeError)(nil); errors.As(err, &odd) {
		c.addOdd(data)
		err = nil
	}
	return err
}

// addOdd adds what decode left out: content in parts, as Mistral's reasoning
// models stream it, and arguments that are an object and not its text.
func (c *wireChunk) addOdd(data []byte) {
	type textPart struct {
		Text     string `json:"text"`
		Thinking []struct {
			Text string `json:"text"`
		} `json:"thinking"`
	}
	var odd struct {
		Choices []struct {
			Delta struct {
				Content   []textPart `json:"content"`
				ToolCalls []struct {
					Function struct {
						Arguments json.RawMessage `json:"arguments"`
					} `json:"function"`
				} `json:"tool_calls"`
			} `json:"delta"`
		} `json:"choices"`
	}
	_ = json.Unmarshal(data, &odd) // it is well-formed, and has odd types
	for i, choice := range odd.Choices {
		if i >= len(c.Choices) || c.Choices[i].Delta == nil {
			continue
		}
		delta := c.Choices[i].Delta
		for _, p := range choice.Delta.Content {
			delta.Content += p.Text
			for _, t := range p.Thinking {
				delta.ReasoningContent += t.Text
			}
		}
		for j, call := range choice.Delta.ToolCalls {
			if a := call.Function.Arguments; j < len(delta.ToolCalls) && len(a) > 0 && a[0] == '{' {
				delta.ToolCalls[j].Function.Arguments = string(a)
			}
		}
	}
}
