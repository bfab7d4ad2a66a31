package openai

import "slices"

// endpoint is one of the requests that a parameter is of. They are bits.
type endpoint int

const (
	chat endpoint = 1 << iota
	text
)

func (e endpoint) path() string {
	if e&chat != 0 {
		return Path + "/chat/completions"
	}
	return Path + "/completions"
}

// use is what becomes of a parameter.
type use int

const (
	translated use = iota // it is a field of the completion request
	passedOn              // it goes upstream as it is
	dropped               // it is taken, and means nothing here
	refused               // it would change the answer, and cannot be had
)

// parameter is a parameter of OpenAI's API.
type parameter struct {
	name string
	of   endpoint
	use  use
	say  string // what to do instead, or why
}

// parameters are all that the API's reference has (github.com/openai/openai-openapi,
// CreateChatCompletionRequest, CreateCompletionRequest), and disconnect_grace, which is
// ours. One that is in neither is an upstream's own, and goes there as it is.
var parameters = []parameter{
	{"audio", chat, passedOn, ""},
	{"best_of", text, translated, "1 only"},
	{"disconnect_grace", chat | text, translated, "how long to go on when the client has left"},
	{"echo", text, translated, "`false` only"},
	{"frequency_penalty", chat | text, translated, ""},
	{"function_call", chat, refused, "was replaced by tool_choice: send that"},
	{"functions", chat, refused, "was replaced by tools: send those"},
	{"logit_bias", chat | text, translated, ""},
	{"logprobs", chat | text, translated, ""},
	{"max_completion_tokens", chat, translated, ""},
	{"max_tokens", chat | text, translated, ""},
	{"messages", chat, translated, ""},
	{"metadata", chat, translated, ""},
	{"modalities", chat, passedOn, ""},
	{"model", chat | text, translated, "without it: the server's default model"},
	{"moderation", chat, refused, "cannot be had: an answer has no place for its results"},
	{"n", chat | text, translated, "1 only"},
	{"parallel_tool_calls", chat, translated, ""},
	{"prediction", chat, passedOn, ""},
	{"presence_penalty", chat | text, translated, ""},
	{"prompt", text, translated, "one text; no tokens"},
	{"prompt_cache_key", chat, passedOn, ""},
	{"prompt_cache_options", chat, passedOn, ""},
	{"prompt_cache_retention", chat, passedOn, ""},
	{"reasoning_effort", chat, translated, ""},
	{"response_format", chat, translated, ""},
	{"safety_identifier", chat, passedOn, ""},
	{"seed", chat | text, translated, ""},
	{"service_tier", chat, translated, ""},
	{"stop", chat | text, translated, ""},
	{"store", chat, passedOn, "the completion is also kept there"},
	{"stream", chat | text, translated, ""},
	{"stream_options", chat | text, translated, "`include_usage`; `include_obfuscation` is dropped, as nothing is obfuscated"},
	{"suffix", text, passedOn, ""},
	{"temperature", chat | text, translated, ""},
	{"tool_choice", chat, translated, ""},
	{"tools", chat, translated, "functions only"},
	{"top_logprobs", chat, translated, ""},
	{"top_p", chat | text, translated, ""},
	{"user", chat | text, translated, ""},
	{"verbosity", chat, translated, ""},
	{"web_search_options", chat, passedOn, ""},
}

// find returns a parameter, or the zero value.
func find(name string) parameter {
	if i := slices.IndexFunc(parameters, func(p parameter) bool { return p.name == name }); i >= 0 {
		return parameters[i]
	}
	return parameter{}
}
