package openai

import "github.com/sluice-sse/sluice/server/failure"

// phrases are what servers write, each with its source. The first that a message
// contains counts: a message about a key, or a rate, may well speak of tokens.
var phrases = []phrase{
	// A rate limit.
	{"rate_limit_exceeded", rateLimited, ""}, // Groq, with 413: HunorLaczko/ha-groq-cloud-api#27
	{"tokens per min", rateLimited, ""},      // OpenAI, Groq: "on tokens per min (TPM)", vanna-ai/vanna-flask#11

	// What the operator has to put right: the key, the account, the base URL.
	{"api key not valid", rejected, ""},             // Gemini, with 400: the reason API_KEY_INVALID
	{"incorrect api key", rejected, ""},             // xAI, with 400: continuedev/continue#10778
	{"credit balance is too low", rejected, ""},     // Anthropic, with 400
	{"location is not supported", rejected, ""},     // Gemini, with 400 FAILED_PRECONDITION: ai.google.dev troubleshooting
	{"billing_hard_limit_reached", rejected, ""},    // OpenAI, with 400: the code
	{"billing_not_active", rejected, ""},            // OpenAI
	{"invalid url (", rejected, ""},                 // OpenAI, with 404 for /v1/v1/…
	{"unexpected endpoint or method", rejected, ""}, // LM Studio, with 200: lmstudio-ai/lmstudio-bug-tracker#618
	{"unknown request url", rejected, ""},           // Groq, with 404: code unknown_url
	{"resource not found", rejected, ""},            // Azure, with 404: a wrong endpoint or version
	{"matching your data policy", rejected, ""},     // OpenRouter, with 404: openrouter.ai/settings/privacy
	{"unsupported api version", rejected, ""},       // Azure
	{"api version not supported", rejected, ""},     // Azure

	// An input that is longer than the model's context.
	{"context_length_exceeded", tooLong, ""},                           // OpenAI, Azure, Cerebras: the code
	{"exceed_context_size_error", tooLong, ""},                         // llama.cpp: the type
	{"tokens_limit_reached", tooLong, ""},                              // GitHub Models, with 413: eslint/tsc-meetings#593
	{"model_context_window_exceeded", tooLong, ""},                     // Anthropic's stop reason, in gateways
	{"context length", tooLong, ""},                                    // OpenAI, DeepSeek, OpenRouter, vLLM, SGLang, Mistral, LM Studio: sgl-project/sglang#7515
	{"context size", tooLong, ""},                                      // llama.cpp: "exceeds the available context size"
	{"context window", tooLong, ""},                                    // OpenAI's newer models; MiniMax: "context window exceeds limit"
	{"context limit", tooLong, ""},                                     // Anthropic: "input length and `max_tokens` exceed context limit"; "maximum context limit"
	{"maximum context", tooLong, ""},                                   // vLLM: "maximum context … tokens"
	{"prompt is too long", tooLong, ""},                                // Anthropic: "213462 tokens > 200000 maximum"; Fireworks: can1357/oh-my-pi#1618
	{"prompt too long", tooLong, ""},                                   // Ollama: "prompt too long; exceeded max context length"
	{"input is too long for requested model", tooLong, ""},             // Bedrock: aws-samples/bedrock-chat#95
	{"input token count … exceeds", tooLong, ""},                       // Gemini: google-gemini/gemini-cli#6678
	{"prompt token count … exceeds", tooLong, ""},                      // GitHub Copilot
	{"input tokens exceed", tooLong, ""},                               // OpenAI: "exceed the configured limit of 272000 tokens"
	{"maximum prompt length is", tooLong, ""},                          // xAI: badlogic/pi-mono overflow.ts
	{"reduce the length of the messages", tooLong, ""},                 // Groq, Cerebras: badlogic/pi-mono overflow.ts
	{"current length is … while limit is", tooLong, ""},                // Cerebras: BerriAI/litellm exception_mapping_utils.py
	{"`inputs` tokens + `max_new_tokens` must be", tooLong, ""},        // TGI, Together: huggingface/chat-ui#1149
	{"`inputs` must have less than", tooLong, ""},                      // TGI: huggingface/text-generation-inference#695
	{"greater than the context", tooLong, ""},                          // LM Studio: "tokens to keep from the initial prompt is …"
	{"when context the overflows", tooLong, ""},                        // LM Studio, older: "Trying to keep the first … tokens"
	{"exceeded model token limit", tooLong, ""},                        // Moonshot: badlogic/pi-mono overflow.ts
	{"too large for model with", tooLong, ""},                          // Mistral: "Prompt contains … tokens"
	{"too many tokens: ", tooLong, ""},                                 // Cohere: "total number of tokens … cannot exceed"
	{"range of input length should be", tooLong, ""},                   // DashScope
	{"prompt exceeds max length", tooLong, ""},                         // Zhipu, code 1261: farion1231/cc-switch#6982
	{"input length … exceeds the maximum allowed length", tooLong, ""}, // SGLang: sgl-project/sglang#4048
	{"maximum input length is … tokens", tooLong, ""},                  // BerriAI/litellm exception_mapping_utils.py
	{"is longer than the maximum model length", tooLong, ""},           // vLLM: xorbitsai/inference#3785
	{"maximum number of tokens allowed", tooLong, ""},                  // Gemini, Vertex

	// A model that the upstream does not have.
	{"model_not_found", noModel, ""},                  // OpenAI, Groq, new-api: the code, new-api with 503
	{"model_decommissioned", noModel, ""},             // Groq, with 400
	{"invalid_model", noModel, ""},                    // Mistral, Perplexity, with 400: the type
	{"invalid model", noModel, ""},                    // Mistral, LiteLLM, Kiro: decolua/9router#1187
	{"is not a valid model", noModel, ""},             // OpenRouter, with 400: continuedev/continue#10758
	{"model '…' not found", noModel, ""},              // llama-server's router, with 400: tools/server/server-models.cpp
	{"model \"…\" not found", noModel, ""},            // Ollama
	{"model not exist", noModel, ""},                  // DeepSeek, DashScope, with 400
	{"model … does not exist", noModel, ""},           // OpenAI, vLLM, xAI, Hugging Face's router
	{"unable to access model", noModel, ""},           // Together, with 400
	{"unknown model", noModel, ""},                    // MiniMax, code 2013
	{"model identifier is invalid", noModel, ""},      // Bedrock, with 400: iOfficeAI/AionCore#377
	{"requested model is not supported", noModel, ""}, // GitHub Copilot, with 400: model_not_supported
	{"not supported by any provider", noModel, ""},    // Hugging Face's router, with 400
	{"模型不存在", noModel, ""},                            // Zhipu, code 1211
	{"real modelid", noModel, ""},                     // llama-swap, with 400

	// What the model, or a filter, does not accept.
	{"this is not a chat model", invalid, "messages"},                     // OpenAI, with 404
	{"this is a chat model", invalid, "prompt"},                           // OpenAI, with 404
	{"image input is not supported", invalid, inputField},                 // llama-server, with 500: ggml-org/llama.cpp#19917, #13566
	{"support image input", invalid, inputField},                          // OpenRouter, with 404: "No endpoints found that …"
	{"audio input is not supported", invalid, inputField},                 // llama-server, with 500: beside the images
	{"your input was flagged", invalid, filteredField},                    // OpenRouter, with 403: openrouter.ai/docs errors
	{"content_filter", invalid, filteredField},                            // Azure, Moonshot: the code or the type
	{"not a multimodal model", invalid, inputField},                       // vLLM, with 400
	{"roles must alternate", invalid, inputField},                         // chat templates: vLLM with 400, llama-server with 500
	{"jinja exception", invalid, inputField},                              // llama-server, with 500: sipeed/picoclaw#207
	{"content exists risk", invalid, filteredField},                       // DeepSeek's filter
	{"data_inspection_failed", invalid, filteredField},                    // DashScope's filter
	{"content_policy_violation", invalid, filteredField},                  // OpenAI's filter
	{"responsibleaipolicyviolation", invalid, filteredField},              // Azure's filter
	{"request_too_large", invalid, inputField},                            // Anthropic, with 413
	{"reasoning_content` in the thinking mode must", invalid, inputField}, // DeepSeek
	{"maximum tokens you requested exceeds", invalid, "max_tokens"},       // Bedrock: charmbracelet/crush#946
	{"does not support tools", invalid, "tools"},                          // Ollama: ollama/ollama#5793
	{"that support tool use", invalid, "tools"},                           // OpenRouter, with 404
	{"tool choice requires", invalid, "tool_choice"},                      // vLLM: --enable-auto-tool-choice
	{"does not support thinking", invalid, "reasoning_effort"},            // Ollama
	{"not allowed to request logprobs", invalid, "logprobs"},              // OpenAI, with 403: confident-ai/deepeval#2184
}

const (
	rateLimited = failure.UpstreamRateLimited
	rejected    = failure.UpstreamRejected
	tooLong     = failure.ContextLengthExceeded
	noModel     = failure.ModelNotFound
	invalid     = failure.InvalidRequest
)

// parameterPatterns are how servers name a parameter that they do not accept, each with
// its source. What is found counts only if the request has such a parameter.
var parameterPatterns = []parameterPattern{
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
