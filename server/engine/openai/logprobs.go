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

	Tokens        []string              `json:"tokens"`
	TokenLogprobs []*float64            `json:"token_logprobs"`
	TopLogprobs   []map[string]*float64 `json:"top_logprobs"`
}

type wireToken struct {
	wireLikely
	Top []wireLikely `json:"top_logprobs"`
}

// wireLikely is a token without those that stood beside it, which have none.
type wireLikely struct {
	Token   string       `json:"token"`
	Logprob *float64     `json:"logprob"`
	Bytes   []lenientInt `json:"bytes"`
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
		if i < len(w.TokenLogprobs) {
			t.Logprob = logprob(w.TokenLogprobs[i])
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
		t := list[i].message()
		for j := range list[i].Top {
			t.TopLogprobs = append(t.TopLogprobs, list[i].Top[j].message())
		}
		out = append(out, t)
	}
	return out
}

func (w *wireLikely) message() *completionv1.TokenLogprob {
	t := &completionv1.TokenLogprob{Token: w.Token, Logprob: logprob(w.Logprob)}
	if w.Bytes != nil {
		t.Bytes = make([]byte, len(w.Bytes))
		for i, b := range w.Bytes {
			t.Bytes[i] = byte(b)
		}
	}
	return t
}

// logprob returns a logarithm, or unlikely for null.
func logprob(p *float64) float64 {
	if p == nil {
		return unlikely
	}
	return *p
}

// likeliest returns tokens, the likeliest first: the upstream's object has no order.
func likeliest(top map[string]*float64) []*completionv1.TokenLogprob {
	var out []*completionv1.TokenLogprob
	for _, token := range slices.Sorted(maps.Keys(top)) {
		out = append(out, &completionv1.TokenLogprob{Token: token, Logprob: logprob(top[token])})
	}
	slices.SortStableFunc(out, func(a, b *completionv1.TokenLogprob) int { return cmp.Compare(b.Logprob, a.Logprob) })
	return out
}
