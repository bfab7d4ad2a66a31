package openai

import (
	"iter"

	"github.com/sluice-sse/sluice/server/failure"
)

// wordings yields one table of what servers say, each line with its source. The
// first that fits counts: a message about a key, or a rate, may well name tokens.
func wordings() iter.Seq[wording] {
	return func(yield func(wording) bool) {
		for _, kind := range []struct {
			reason failure.Reason
			words  []string
		}{
			{failure.UpstreamRateLimited, aboutRates()},
			{failure.UpstreamRejected, aboutUs()},
			{failure.ContextLengthExceeded, aboutLength()},
			{failure.ModelNotFound, aboutModels()},
		} {
			for _, words := range kind.words {
				if !yield(wording{words, kind.reason, ""}) {
					return
				}
			}
		}
		for _, w := range aboutInput() {
			if !yield(wording{w.words, failure.InvalidRequest, w.field}) {
				return
			}
		}
	}
}

func aboutRates() []string {
	return []string{
		"rate_limit_exceeded", // Groq, with 413: HunorLaczko/ha-groq-cloud-api#27
		"tokens per min",      // OpenAI, Groq: "on tokens per min (TPM)", vanna-ai/vanna-flask#11
	}
}

// aboutUs is what the operator has to put right: the key, the account, the base URL.
func aboutUs() []string {
	return []string{
		"api key not valid",             // Gemini, with 400: the reason API_KEY_INVALID
		"incorrect api key",             // xAI, with 400: continuedev/continue#10778
		"credit balance is too low",     // Anthropic, with 400
		"location is not supported",     // Gemini, with 400 FAILED_PRECONDITION: ai.google.dev troubleshooting
		"billing_hard_limit_reached",    // OpenAI, with 400: the code
		"billing_not_active",            // OpenAI
		"invalid url (",                 // OpenAI, with 404 for /v1/v1/…
		"unexpected endpoint or method", // LM Studio, with 200: lmstudio-ai/lmstudio-bug-tracker#618
		"unknown request url",           // Groq, with 404: code unknown_url
		"resource not found",            // Azure, with 404: a wrong endpoint or version
		"matching your data policy",     // OpenRouter, with 404: openrouter.ai/settings/privacy
		"unsupported api version",       // Azure
		"api version not supported",     // Azure
	}
}

// aboutLength is an input that is longer than the model's context.
func aboutLength() []string {
	return []string{
		"context_length_exceeded",                           // OpenAI, Azure, Cerebras: the code
		"exceed_context_size_error",                         // llama.cpp: the type
		"tokens_limit_reached",                              // GitHub Models, with 413: eslint/tsc-meetings#593
		"model_context_window_exceeded",                     // Anthropic's stop reason, in gateways
		"context length",                                    // OpenAI, DeepSeek, OpenRouter, vLLM, SGLang, Mistral, LM Studio: sgl-project/sglang#7515
		"context size",                                      // llama.cpp: "exceeds the available context size"
		"context window",                                    // OpenAI's newer models; MiniMax: "context window exceeds limit"
		"context limit",                                     // Anthropic: "input length and `max_tokens` exceed context limit"; "maximum context limit"
		"maximum context",                                   // vLLM: "maximum context … tokens"
		"prompt is too long",                                // Anthropic: "213462 tokens > 200000 maximum"; Fireworks: can1357/oh-my-pi#1618
		"prompt too long",                                   // Ollama: "prompt too long; exceeded max context length"
		"input is too long for requested model",             // Bedrock: aws-samples/bedrock-chat#95
		"input token count … exceeds",                       // Gemini: google-gemini/gemini-cli#6678
		"prompt token count … exceeds",                      // GitHub Copilot
		"input tokens exceed",                               // OpenAI: "exceed the configured limit of 272000 tokens"
		"maximum prompt length is",                          // xAI: badlogic/pi-mono overflow.ts
		"reduce the length of the messages",                 // Groq, Cerebras: badlogic/pi-mono overflow.ts
		"current length is … while limit is",                // Cerebras: BerriAI/litellm exception_mapping_utils.py
		"`inputs` tokens + `max_new_tokens` must be",        // TGI, Together: huggingface/chat-ui#1149
		"`inputs` must have less than",                      // TGI: huggingface/text-generation-inference#695
		"greater than the context",                          // LM Studio: "tokens to keep from the initial prompt is …"
		"when context the overflows",                        // LM Studio, older: "Trying to keep the first … tokens"
		"exceeded model token limit",                        // Moonshot: badlogic/pi-mono overflow.ts
		"too large for model with",                          // Mistral: "Prompt contains … tokens"
		"too many tokens: ",                                 // Cohere: "total number of tokens … cannot exceed"
		"range of input length should be",                   // DashScope
		"prompt exceeds max length",                         // Zhipu, code 1261: farion1231/cc-switch#6982
		"input length … exceeds the maximum allowed length", // SGLang: sgl-project/sglang#4048
		"maximum input length is … tokens",                  // BerriAI/litellm exception_mapping_utils.py
		"is longer than the maximum model length",           // vLLM: xorbitsai/inference#3785
		"maximum number of tokens allowed",                  // Gemini, Vertex
	}
}

// aboutModels is a model that the upstream does not have.
func aboutModels() []string {
	return []string{
		"model_not_found",                  // OpenAI, Groq, new-api: the code, new-api with 503
		"model_decommissioned",             // Groq, with 400
		"invalid_model",                    // Mistral, Perplexity, with 400: the type
		"invalid model",                    // Mistral, LiteLLM, Kiro: decolua/9router#1187
		"is not a valid model",             // OpenRouter, with 400: continuedev/continue#10758
		"model '…' not found",              // llama-server's router, with 400: tools/server/server-models.cpp
		"model \"…\" not found",            // Ollama
		"model not exist",                  // DeepSeek, DashScope, with 400
		"model … does not exist",           // OpenAI, vLLM, xAI, Hugging Face's router
		"unable to access model",           // Together, with 400
		"unknown model",                    // MiniMax, code 2013
		"model identifier is invalid",      // Bedrock, with 400: iOfficeAI/AionCore#377
		"requested model is not supported", // GitHub Copilot, with 400: model_not_supported
		"not supported by any provider",    // Hugging Face's router, with 400
		"模型不存在",                            // Zhipu, code 1211
		"real modelid",                     // llama-swap, with 400
	}
}

// aboutInput is what the model or a filter does not take, with the field that is
// wrong.
func aboutInput() []struct{ words, field string } {
	return []struct{ words, field string }{
		{"this is not a chat model", "messages"},                // OpenAI, with 404
		{"this is a chat model", "prompt"},                      // OpenAI, with 404
		{"image input is not supported", input},                 // llama-server, with 500: ggml-org/llama.cpp#19917, #13566
		{"support image input", input},                          // OpenRouter, with 404: "No endpoints found that …"
		{"audio input is not supported", input},                 // llama-server, with 500: beside the images
		{"your input was flagged", filtered},                    // OpenRouter, with 403: openrouter.ai/docs errors
		{"content_filter", filtered},                            // Azure, Moonshot: the code or the type
		{"not a multimodal model", input},                       // vLLM, with 400
		{"roles must alternate", input},                         // chat templates: vLLM with 400, llama-server with 500
		{"jinja exception", input},                              // llama-server, with 500: sipeed/picoclaw#207
		{"content exists risk", filtered},                       // DeepSeek's filter
		{"data_inspection_failed", filtered},                    // DashScope's filter
		{"content_policy_violation", filtered},                  // OpenAI's filter
		{"responsibleaipolicyviolation", filtered},              // Azure's filter
		{"request_too_large", input},                            // Anthropic, with 413
		{"reasoning_content` in the thinking mode must", input}, // DeepSeek
		{"maximum tokens you requested exceeds", "max_tokens"},  // Bedrock: charmbracelet/crush#946
		{"does not support tools", "tools"},                     // Ollama: ollama/ollama#5793
		{"that support tool use", "tools"},                      // OpenRouter, with 404
		{"tool choice requires", "tool_choice"},                 // vLLM: --enable-auto-tool-choice
		{"does not support thinking", "reasoning_effort"},       // Ollama
		{"not allowed to request logprobs", "logprobs"},         // OpenAI, with 403: confident-ai/deepeval#2184
	}
}

// paramForm is how some server names, in a sentence in lower case, a parameter that it
// does not take; {} stands for the name. A name that no request has is none.
type paramForm struct {
	form string
	name bool // it does not know the name, whatever the value
}

// paramForms is one table of these, each line with its source.
func paramForms() []paramForm {
	return []paramForm{
		{"'type': 'extra_forbidden', 'loc': ('body', '{}'", true}, // vLLM, FastChat: pydantic in a string, gpustack/gpustack#429
		{"validation error at #/{}: extra inputs", true},          // Azure's inference API: microsoft/semantic-kernel#10510
		{"^{}: extra inputs are not permitted", true},             // Anthropic: anthropics/claude-code#4378
		{"(parameter={}", false},                                  // vLLM: vllm-project/vllm#31870
		{"'loc': ('body', '{}'", false},                           // vLLM, FastChat: pydantic in a string, gpustack/gpustack#429
		{"unsupported parameter: '{}'", true},                     // OpenAI and Azure, through gateways that drop param
		{"unsupported value: '{}'", false},                        // the same
		{"unknown parameter: '{}'", true},                         // the same
		{"missing required parameter: '{}'", false},               // the same
		{"invalid value for '{}'", false},                         // the same
		{"invalid type for '{}'", false},                          // the same
		{"invalid '{}'", false},                                   // the same
		{"unrecognized request argument supplied: {}", true},      // Azure, older: openai/openai-python#1724
		{"unrecognized request arguments supplied: {}", true},     // the same
		{"validation error at #/{}:", false},                      // Azure's inference API: microsoft/semantic-kernel#10510
		{"argument not supported on this model: {}", true},        // xAI: n8n-io/n8n#14581
		{"does not support parameter {}", true},                   // xAI: open-webui/open-webui#21266
		{"validation error: `{}` must be", false},                 // TGI: argilla-io/synthetic-data-generator#48
		{"property '{}' is unsupported", true},                    // Groq: CherryHQ/cherry-studio#11435
		{"`{}` is not supported with this model", true},           // Groq: iamsrikanthnani/pluely#242
		{"`{}`: ", false},                                         // Groq: "`messages[3].reasoning`: …", vercel/ai#8056
		{"'{}' : for ", false},                                    // Groq: janhq/jan#8136
		{"invalid {} value", false},                               // DeepSeek: BerriAI/litellm#5198
		{"invalid {}:", false},                                    // Moonshot: opencyvis/opencyvis-phone#12
		{"invalid params: {} must be", false},                     // GigaChat: ai-forever/gigachain#237
		{"target type: {}:", false},                               // serde of DeepSeek, xAI: "Failed to deserialize the JSON body into the target type: …"
		{"invalid request: {} must", false},                       // Cohere
		{"field: '{}'", true},                                     // Fireworks: FlowiseAI/Flowise#2866, web-infra-dev/midscene#1322
		{"invalidparameter: {} should", false},                    // DashScope: "<400> InternalError.Algo.InvalidParameter: …"
		{" at '{}': cannot find field", false},                    // Gemini, within a schema: zed-industries/zed#44875
		{"unknown name \"{}\"", true},                             // Gemini: FuzzAnything/PromptFuzz#42
		{"extraneous key [{}]", true},                             // Bedrock: "Malformed input request: #: …"
		{"request.{} of type", false},                             // Ollama, LocalAI: Go's encoding/json
		{"- '{}'", false},                                         // FastChat: "… is greater than the maximum of 2 - 'temperature'", lm-sys/FastChat#2994
		{"^{} must be", false},                                    // vLLM, SGLang: "temperature must be non-negative, got -1.0."
		{"^`{}` must be", false},                                  // Groq, through gateways that drop param
		{"^'{}' must be", false},                                  // LM Studio: "'response_format.type' must be …"
		{"^{}: ", false},                                          // Anthropic: "temperature: range: 0..1", anthropics/anthropic-sdk-python#893
	}
}
