package openai

import (
	"cmp"
	"maps"
	"slices"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// wireLogprobs are the log probabilities of tokens: of a chat, or of a legacy completion,
// where the elements of the three lists belong together.
//
// https://platform.openai.com/docs/api-reference/completions/object
type wireLogprobs struct {
	Content []wireToken `json:"content"`
	Refusal []wireToken `json:"refusal"`

	Tokens        []string              `json:"tokens"`
	TokenLogprobs []*float64            `json:"token_logprobs"`
	TopLogprobs   []map[string]*float64 `json:"top_logprobs"`
}

// wireToken is a token, with those that were likely in its place.
type wireToken struct {
	wireLogprob
	Top []wireLogprob `json:"top_logprobs"`
}

type wireLogprob struct {
	Token   string       `json:"token"`
	Logprob *float64     `json:"logprob"`
	Bytes   []lenientInt `json:"bytes"`
}

// minLogprob is what OpenAI sends for a token that is not among the most likely ones, and
// vLLM for minus infinity, which JSON does not have.
const minLogprob = -9999

// toMessage returns the log probabilities as callers get them, or nil if there are none.
func (w *wireLogprobs) toMessage() *completionv1.Logprobs {
	if w == nil || len(w.Content)+len(w.Refusal)+len(w.Tokens) == 0 {
		return nil
	}
	out := &completionv1.Logprobs{Content: tokenLogprobs(w.Content), Refusal: tokenLogprobs(w.Refusal)}
	for i, token := range w.Tokens {
		t := &completionv1.TokenLogprob{Token: token, Logprob: minLogprob}
		if i < len(w.TokenLogprobs) {
			t.Logprob = orMin(w.TokenLogprobs[i])
		}
		if i < len(w.TopLogprobs) {
			t.TopLogprobs = topLogprobs(w.TopLogprobs[i])
		}
		out.Content = append(out.Content, t)
	}
	return out
}

func tokenLogprobs(list []wireToken) []*completionv1.TokenLogprob {
	var out []*completionv1.TokenLogprob
	for i := range list {
		t := list[i].toMessage()
		for j := range list[i].Top {
			t.TopLogprobs = append(t.TopLogprobs, list[i].Top[j].toMessage())
		}
		out = append(out, t)
	}
	return out
}

func (w *wireLogprob) toMessage() *completionv1.TokenLogprob {
	t := &completionv1.TokenLogprob{Token: w.Token, Logprob: orMin(w.Logprob)}
	if w.Bytes != nil {
		t.Bytes = make([]byte, len(w.Bytes))
		for i, b := range w.Bytes {
			t.Bytes[i] = byte(b)
		}
	}
	return t
}

// orMin returns a log probability, or minLogprob for null.
func orMin(p *float64) float64 {
	if p == nil {
		return minLogprob
	}
	return *p
}

// topLogprobs returns tokens in the order of their probability: in the upstream's object
// they have none.
func topLogprobs(top map[string]*float64) []*completionv1.TokenLogprob {
	var out []*completionv1.TokenLogprob
	for _, token := range slices.Sorted(maps.Keys(top)) {
		out = append(out, &completionv1.TokenLogprob{Token: token, Logprob: orMin(top[token])})
	}
	slices.SortStableFunc(out, func(a, b *completionv1.TokenLogprob) int { return cmp.Compare(b.Logprob, a.Logprob) })
	return out
}
