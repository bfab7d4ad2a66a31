package openai

import (
	"cmp"
	"math"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// wireUsage counts tokens, under the names of those that count them.
type wireUsage struct {
	PromptTokens     lenientInt `json:"prompt_tokens"`
	CompletionTokens lenientInt `json:"completion_tokens"`
	TotalTokens      lenientInt `json:"total_tokens"`
	InputTokens      lenientInt `json:"input_tokens"`  // Anthropic, OpenAI's Responses
	OutputTokens     lenientInt `json:"output_tokens"` // the same

	CompletionDetails wireReasoning `json:"completion_tokens_details"`
	OutputDetails     wireReasoning `json:"output_tokens_details"` // OpenAI's Responses
	ReasoningTokens   lenientInt    `json:"reasoning_tokens"`      // SGLang (srt/entrypoints/openai/protocol.py), Perplexity

	PromptDetails  wireCached `json:"prompt_tokens_details"`
	InputDetails   wireCached `json:"input_tokens_details"`    // OpenAI's Responses
	CachedTokens   lenientInt `json:"cached_tokens"`           // Moonshot (platform.moonshot.ai, chat API)
	CacheHitTokens lenientInt `json:"prompt_cache_hit_tokens"` // DeepSeek (api-docs.deepseek.com/guides/kv_cache)
	CacheRead      lenientInt `json:"cache_read_input_tokens"` // Anthropic; LiteLLM (litellm/types/utils.py, Usage)
}

type wireReasoning struct {
	ReasoningTokens lenientInt `json:"reasoning_tokens"`
}

type wireCached struct {
	CachedTokens lenientInt `json:"cached_tokens"`
}

// usage returns what a chunk says that was used, wherever it says so, or nil.
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

// usageOf returns nil for a usage that is all zero: Ollama has one in every chunk
// of a legacy completion but the last.
func usageOf(w *wireUsage) *completionv1.Usage {
	if w == nil || *w == (wireUsage{}) {
		return nil
	}
	prompt, completion := cmp.Or(w.PromptTokens, w.InputTokens), cmp.Or(w.CompletionTokens, w.OutputTokens)
	return &completionv1.Usage{
		PromptTokens:     count(prompt),
		CompletionTokens: count(completion),
		TotalTokens:      count(cmp.Or(w.TotalTokens, prompt+completion)), // Anthropic has no total
		ReasoningTokens:  count(cmp.Or(w.CompletionDetails.ReasoningTokens, w.OutputDetails.ReasoningTokens, w.ReasoningTokens)),
		CachedTokens: count(cmp.Or(w.PromptDetails.CachedTokens, w.InputDetails.CachedTokens,
			w.CachedTokens, w.CacheHitTokens, w.CacheRead)),
	}
}

func count(n lenientInt) int32 { return int32(min(max(n, 0), math.MaxInt32)) }
