package openai

// endpoint is one of the requests that a parameter is of. They are bits.
type endpoint int

const (
	chat endpoint = 1 << iota
	text
	responses
)

func (e endpoint) path() string {
	switch {
	case e&chat != 0:
		return Path + "/chat/completions"
	case e&text != 0:
		return Path + "/completions"
	}
	return Path + "/responses"
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
// CreateChatCompletionRequest, CreateCompletionRequest, CreateResponse), and
// disconnect_grace, which is ours. One that is in none of them is an upstream's own, and
// goes there as it is. A parameter has one row, or a second one for responses.
var parameters = []parameter{
	{"audio", chat, passedOn, ""},
	{"background", responses, translated, "the longest `disconnect_grace`; without `stream`, the answer comes at once"},
	{"best_of", text, translated, "1 only"},
	{"context_management", responses, refused, "cannot be had: leave earlier turns out yourself"},
	{"conversation", responses, refused, "cannot be had: send the earlier turns in input"},
	{"disconnect_grace", chat | text | responses, translated, "how long to go on when the client has left"},
	{"echo", text, translated, "`false` only"},
	{"frequency_penalty", chat | text | responses, translated, ""},
	{"function_call", chat, refused, "was replaced by tool_choice: send that"},
	{"functions", chat, refused, "was replaced by tools: send those"},
	{"include", responses, translated, "`message.output_text.logprobs`; the others are of what no answer here has"},
	{"input", responses, translated, "messages, function calls and their outputs, reasoning, and references to items of responses that are still kept"},
	{"instructions", responses, translated, ""},
	{"logit_bias", chat | text, translated, ""},
	{"logprobs", chat | text, translated, ""},
	{"max_completion_tokens", chat, translated, ""},
	{"max_output_tokens", responses, translated, ""},
	{"max_tokens", chat | text, translated, ""},
	{"max_tool_calls", responses, dropped, "it counts calls of tools that a server has, and there are none"},
	{"messages", chat, translated, ""},
	{"metadata", chat | responses, translated, ""},
	{"modalities", chat, passedOn, ""},
	{"model", chat | text | responses, translated, "without it: the server's default model"},
	{"moderation", chat | responses, refused, "cannot be had: an answer has no place for its results"},
	{"n", chat | text, translated, "1 only"},
	{"parallel_tool_calls", chat | responses, translated, ""},
	{"prediction", chat, passedOn, ""},
	{"presence_penalty", chat | text | responses, translated, ""},
	{"previous_response_id", responses, refused, "cannot be had yet: send the earlier turns in input"},
	{"prompt", text, translated, "one text; no tokens"},
	{"prompt", responses, refused, "cannot be had: send its text in instructions and input"},
	{"prompt_cache_key", chat | responses, passedOn, ""},
	{"prompt_cache_options", chat | responses, passedOn, ""},
	{"prompt_cache_retention", chat | responses, passedOn, ""},
	{"reasoning", chat, passedOn, "OpenRouter's"},
	{"reasoning", responses, translated, "`effort`; whatever `summary` says, reasoning is given as it is"},
	{"reasoning_effort", chat, translated, ""},
	{"response_format", chat, translated, ""},
	{"safety_identifier", chat | responses, passedOn, ""},
	{"seed", chat | text, translated, ""},
	{"service_tier", chat | responses, translated, ""},
	{"stop", chat | text, translated, ""},
	{"store", chat, passedOn, "the completion is also kept there"},
	{"store", responses, dropped, "a response is kept for as long as a completion is"},
	{"stream", chat | text | responses, translated, ""},
	{"stream_options", chat | text, translated, "`include_usage`; `include_obfuscation` is dropped, as nothing is obfuscated"},
	{"stream_options", responses, translated, "`include_obfuscation` is dropped, as nothing is obfuscated"},
	{"suffix", text, passedOn, ""},
	{"temperature", chat | text | responses, translated, ""},
	{"text", responses, translated, ""},
	{"tool_choice", chat, translated, ""},
	{"tool_choice", responses, translated, "functions only"},
	{"tools", chat | responses, translated, "functions only"},
	{"top_logprobs", chat | responses, translated, ""},
	{"top_p", chat | text | responses, translated, ""},
	{"truncation", responses, translated, "`disabled` only"},
	{"user", chat | text | responses, translated, ""},
	{"verbosity", chat, translated, ""},
	{"web_search_options", chat, passedOn, ""},
}

// find returns a parameter of an endpoint, or else of another, or the zero value.
func find(name string, of endpoint) (found parameter) {
	for _, p := range parameters {
		if p.name == name && (found.name == "" || p.of&of != 0) {
			found = p
		}
	}
	return found
}
