package openai

import (
	"cmp"
	"math"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// wireUsage is the number of tokens used, under the names that servers have for it.
type wireUsage struct {
	PromptTokens     lenientInt `json:"prompt_tokens"`
	CompletionTokens lenientInt `json:"completion_tokens"`
	TotalTokens      lenientInt `json:"total_tokens"`
	InputTokens      lenientInt `json:"input_tokens"`  // Anthropic, OpenAI's Responses
	OutputTokens     lenientInt `json:"output_tokens"` // Anthropic, OpenAI's Responses

	CompletionDetails wireOutputDetails `json:"completion_tokens_details"`
	OutputDetails     wireOutputDetails `json:"output_tokens_details"` // OpenAI's Responses
	ReasoningTokens   lenientInt        `json:"reasoning_tokens"`      // SGLang (srt/entrypoints/openai/protocol.py), Perplexity

	PromptDetails  wireInputDetails `json:"prompt_tokens_details"`
	InputDetails   wireInputDetails `json:"input_tokens_details"`    // OpenAI's Responses
	CachedTokens   lenientInt       `json:"cached_tokens"`           // Moonshot (platform.moonshot.ai, chat API)
	CacheHitTokens lenientInt       `json:"prompt_cache_hit_tokens"` // DeepSeek (api-docs.deepseek.com/guides/kv_cache)
	CacheRead      lenientInt       `json:"cache_read_input_tokens"` // Anthropic; LiteLLM (litellm/types/utils.py, Usage)
}

type wireOutputDetails struct {
	ReasoningTokens lenientInt `json:"reasoning_tokens"`
}

type wireInputDetails struct {
	CachedTokens lenientInt `json:"cached_tokens"`
}

// usage returns the usage in a chunk, wherever it is, or nil.
func (c *wireChunk) usage() *completionv1.Usage {
	used := usageOf(c.Usage)
	if used == nil && c.Groq != nil {
		used = usageOf(c.Groq.Usage)
	}
	for i := range c.Choices {
		if used == nil {
			used = usageOf(c.Choices[i].Usage)
		}
	}
	return used
}

// usageOf returns the usage as callers get it. It returns nil if all is zero, as in the
// chunks of Ollama's legacy completions before the last one.
func usageOf(w *wireUsage) *completionv1.Usage {
	if w == nil || *w == (wireUsage{}) {
		return nil
	}
	prompt, completion := cmp.Or(w.PromptTokens, w.InputTokens), cmp.Or(w.CompletionTokens, w.OutputTokens)
	return &completionv1.Usage{
		PromptTokens:     tokenCount(prompt),
		CompletionTokens: tokenCount(completion),
		TotalTokens:      tokenCount(cmp.Or(w.TotalTokens, prompt+completion)), // Anthropic does not send the total
		ReasoningTokens:  tokenCount(cmp.Or(w.CompletionDetails.ReasoningTokens, w.OutputDetails.ReasoningTokens, w.ReasoningTokens)),
		CachedTokens: tokenCount(cmp.Or(w.PromptDetails.CachedTokens, w.InputDetails.CachedTokens,
			w.CachedTokens, w.CacheHitTokens, w.CacheRead)),
	}
}

// tokenCount returns a number within the range of our field.
func tokenCount(n lenientInt) int32 { return int32(min(max(n, 0), math.MaxInt32)) }
