package openai

import (
	"cmp"
	"maps"
	"slices"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// wireLogprobs says how likely tokens were: those of a chat, or of a legacy
// completion, where the lists go together.
//
// https://platform.openai.com/docs/api-reference/completions/object
type wireLogprobs struct {
	Content []wireToken `json:"content"`
	Refusal []wireToken `json:"refusal"`

	Tokens        []string             `json:"tokens"`
	TokenLogprobs []*float64           `json:"token_logprobs"`
	TopLogprobs   []map[string]float64 `json:"top_logprobs"`
}

type wireToken struct {
	Token   string       `json:"token"`
	Logprob *float64     `json:"logprob"`
	Bytes   []lenientInt `json:"bytes"`
	Top     []wireToken  `json:"top_logprobs"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (w *wireLogprobs) UnmarshalJSON(b []byte) error {
	type plain wireLogprobs
	return leniently(b, (*plain)(w))
}

// unlikely is OpenAI's for a token that is none of the likeliest, and vLLM's for
// minus infinity, which JSON does not have.
const unlikely = -9999

// message returns them as callers get them, or nil where there are none.
func (w *wireLogprobs) message() *completionv1.Logprobs {
	if w == nil || len(w.Content)+len(w.Refusal)+len(w.Tokens) == 0 {
		return nil
	}
	out := &completionv1.Logprobs{Content: tokens(w.Content), Refusal: tokens(w.Refusal)}
	for i, token := range w.Tokens {
		t := &completionv1.TokenLogprob{Token: token, Logprob: unlikely}
		if i < len(w.TokenLogprobs) && w.TokenLogprobs[i] != nil {
			t.Logprob = *w.TokenLogprobs[i]
		}
		if i < len(w.TopLogprobs) {
			t.TopLogprobs = likeliest(w.TopLogprobs[i])
		}
		out.Content = append(out.Content, t)
	}
	return out
}

func tokens(list []wireToken) []*completionv1.TokenLogprob {
	var out []*completionv1.TokenLogprob
	for i := range list {
		w := &list[i]
		t := &completionv1.TokenLogprob{Token: w.Token, Logprob: unlikely, TopLogprobs: tokens(w.Top)}
		if w.Logprob != nil {
			t.Logprob = *w.Logprob
		}
		if w.Bytes != nil {
			t.Bytes = make([]byte, len(w.Bytes))
			for j, b := range w.Bytes {
				t.Bytes[j] = byte(b)
			}
		}
		out = append(out, t)
	}
	return out
}

// likeliest returns tokens, the likeliest first: the upstream's object has no order.
func likeliest(top map[string]float64) []*completionv1.TokenLogprob {
	var out []*completionv1.TokenLogprob
	for _, token := range slices.Sorted(maps.Keys(top)) {
		out = append(out, &completionv1.TokenLogprob{Token: token, Logprob: top[token]})
	}
	slices.SortStableFunc(out, func(a, b *completionv1.TokenLogprob) int { return cmp.Compare(b.Logprob, a.Logprob) })
	return out
}
