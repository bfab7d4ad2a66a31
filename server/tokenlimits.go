package server

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Members of an extra by which more tokens could be had than Limits.MaxTokens: each counts
// for some upstream instead of max_tokens.

// tokenLimits are names of such a limit, in lower case.
var tokenLimits = []struct{ name, source string }{
	{"n_predict", "llama.cpp (tools/server/server-task.cpp)"},
	{"num_predict", "Ollama (docs/modelfile.md), and gateways to it: LiteLLM (llms/ollama)"},
	{"max_length", "TabbyAPI (common/sampling.py: an alias), KoboldCpp (koboldcpp.py, transform_genparams: instead of max_tokens)"},
	{"max_new_tokens", "Transformers, TGI, SGLang, text-generation-webui, LMDeploy: in their own APIs"},
	{"auto_max_new_tokens", "text-generation-webui (extensions/openai/typing.py): all that the context has room for"},
	{"max_output_tokens", "OpenAI's Responses, and gateways that take it for chats"},
	{"maxoutputtokens", "Gemini (GenerationConfig)"},
	{"request_output_len", "LMDeploy (serve/openai/protocol.py, GenerateRequest), TensorRT-LLM on Triton"},
	{"max_gen_len", "Llama on Bedrock, MLC before it had max_tokens"},
	{"maxtokens", "Bedrock (InferenceConfiguration), AI21"},
	{"maxtokencount", "Titan on Bedrock"},
	{"max_tokens_to_sample", "Anthropic's Text Completions, LiteLLM"},
}

// leastTokens are names of how many tokens there are to be at least, which a server may
// heed beyond its limit.
var leastTokens = []struct{ name, source string }{
	{"min_tokens", "vLLM (sampling_params.py), SGLang, TabbyAPI, Mistral"},
	{"min_new_tokens", "Transformers, SGLang, LMDeploy"},
	{"min_length", "TabbyAPI (an alias), Transformers, text-generation-webui"},
}

// choiceCounts are names of how many answers there are to be. A completion is one.
var choiceCounts = []struct{ name, source string }{
	{"n", "OpenAI"},
	{"best_of", "OpenAI's legacy completions"},
	{"n_cmpl", "llama.cpp (tools/server/server-schema.cpp), of which n is an alias"},
	{"candidate_count", "Gemini (GenerationConfig)"},
	{"candidatecount", "Gemini (GenerationConfig)"},
}

// parameterObjects are names of members in which a server finds parameters, and may rather
// take them from there.
var parameterObjects = []struct{ name, source string }{
	{"options", "Ollama"},
	{"parameters", "TGI, and Hugging Face's Inference"},
	{"sampling_params", "SGLang"},
	{"sampling_parameters", "TensorRT-LLM on Triton"},
	{"generation_config", "Gemini"},
	{"generationconfig", "Gemini"},
	{"inferenceconfig", "Bedrock"},
	{"extra_body", "LiteLLM's proxy puts its members into the request, as OpenAI's SDKs do"},
}

// moreTokens checks that no member of a request's extra has the upstream make more tokens
// than there may be.
func (v *violations) moreTokens(req *completionv1.CompletionRequest, most int32) {
	text := req.GetExtraJson()
	if len(req.GetExtra().GetFields()) > 0 {
		b, err := protojson.Marshal(req.GetExtra())
		if err != nil {
			return // a number that is none, which is refused already
		}
		text = string(b)
	}
	if text != "" {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()    // any number is one
		_, _ = d.Token() // the brace
		v.moreTokensIn("extra", d, most, false)
	}
}

// moreTokensIn does so for the members of a JSON object that is valid and has begun. In one
// of parameters, those count, too, that are fields of the request itself. Such objects may
// be nested, and each byte is looked at once: 4 MiB within a hundred of them would else take
// seconds.
func (v *violations) moreTokensIn(path string, d *json.Decoder, most int32, isParameters bool) {
	for len(*v) < maxViolations && d.More() {
		token, _ := d.Token()
		name, _ := token.(string)
		field := path // of a longer name: it is none of ours
		if len(name) <= maxName {
			field += "." + name
		}
		is := func(other string) bool { return strings.EqualFold(name, other) } // as Go's encoding/json has it
		named := func(n struct{ name, source string }) bool { return is(n.name) }
		if slices.ContainsFunc(parameterObjects, named) {
			v.moreTokensInValue(field, d, most)
			continue
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return
		}
		switch {
		case slices.ContainsFunc(tokenLimits, named), isParameters && (is("max_tokens") || is("max_completion_tokens")):
			v.check(false, field, "is limited here: set max_tokens")
		case isParameters && slices.ContainsFunc(choiceCounts, named):
			v.check(false, field, "is set here and cannot be changed")
		case slices.ContainsFunc(leastTokens, named):
			// Many servers take the text of a number for a number.
			least, err := strconv.ParseFloat(strings.Trim(string(value), `" `), 64)
			v.check(string(value) == "null" || err == nil && least <= float64(most), field, "must be at most %d here", most)
		}
	}
	_, _ = d.Token() // the other brace
}

// moreTokensInValue does so for a member that may be an object of parameters.
func (v *violations) moreTokensInValue(field string, d *json.Decoder, most int32) {
	switch token, _ := d.Token(); token {
	case json.Delim('{'):
		v.moreTokensIn(field, d, most, true)
	case json.Delim('['):
		for d.More() {
			var value json.RawMessage
			if d.Decode(&value) != nil {
				return
			}
		}
		_, _ = d.Token() // the bracket
	}
}
