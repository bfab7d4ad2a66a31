package openai

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-sse/sluice/server/failure"
)

// TestPhrases checks the reason and the field that callers get for what servers really
// answer. The sources are in phrases and parameterPatterns.
func TestPhrases(t *testing.T) {
	openAI := func(message, kind, param, code string) string {
		quoted := func(s string) string {
			if s == "" {
				return "null"
			}
			return `"` + s + `"`
		}
		return `{"error":{"message":"` + message + `","type":` + quoted(kind) + `,"param":` + quoted(param) + `,"code":` + quoted(code) + `}}`
	}
	for _, tc := range []struct {
		server string
		status int
		body   string
		want   failure.Reason
		field  string
	}{
		// A context that is too short.
		{"OpenAI", 400, openAI("Your input exceeds the context window of this model. Please adjust your input and try again.", "invalid_request_error", "input", "context_length_exceeded"), failure.ContextLengthExceeded, ""},
		{"OpenAI, newer", 400, openAI("Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.", "invalid_request_error", "messages", ""), failure.ContextLengthExceeded, ""},
		{"Anthropic", 400, `{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 213462 tokens > 200000 maximum"}}`, failure.ContextLengthExceeded, ""},
		{"Anthropic, with max_tokens", 400, `{"error":{"code":"invalid_request_error","message":"input length and ` + "`max_tokens`" + ` exceed context limit: 188240 + 21333 > 200000, decrease input length","type":"invalid_request_error","param":null}}`, failure.ContextLengthExceeded, ""},
		{"Gemini", 400, `[{"error":{"code":400,"message":"The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}]`, failure.ContextLengthExceeded, ""},
		{"xAI", 400, `{"code":"Client specified an invalid argument","error":"This model's maximum prompt length is 131072 but the request contains 537812 tokens."}`, failure.ContextLengthExceeded, ""},
		{"vLLM", 400, `{"object":"error","message":"'max_tokens' or 'max_completion_tokens' is too large: 8192. This model's maximum context length is 4096 tokens and your request has 100 input tokens","type":"BadRequestError","param":null,"code":400}`, failure.ContextLengthExceeded, ""},
		{"SGLang", 400, `{"object":"error","message":"The input (61709 tokens) is longer than the model's context length (40960 tokens).","type":"BadRequestError","param":null,"code":400}`, failure.ContextLengthExceeded, ""},
		{"SGLang, with the completion", 400, `{"object":"error","message":"Requested token count exceeds the model's maximum context length of 202752 tokens. You requested a total of 202941 tokens","type":"BadRequest","param":null,"code":400}`, failure.ContextLengthExceeded, ""},
		{"SGLang, in an answer", 200, `{"error":{"message":"Input length (160062 tokens) exceeds the maximum allowed length (59862 tokens).","type":"InternalServerError","code":500}}`, failure.ContextLengthExceeded, ""},
		{"TGI", 422, "{\"error\":\"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192. Given: 6204 `inputs` tokens and 2047 `max_new_tokens`\",\"error_type\":\"validation\"}", failure.ContextLengthExceeded, ""},
		{"TGI, the input alone", 422, "{\"error\":\"Input validation error: `inputs` must have less than 1024 tokens. Given: 1168\",\"error_type\":\"validation\"}", failure.ContextLengthExceeded, ""},
		{"Mistral", 400, `{"object":"error","message":"Prompt contains 50000 tokens and 0 draft tokens, too large for model with 32768 maximum context length","type":"invalid_request_error","param":null,"code":"3051"}`, failure.ContextLengthExceeded, ""},
		{"Cohere", 400, `{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000"}`, failure.ContextLengthExceeded, ""},
		{"Groq", 400, openAI("Please reduce the length of the messages or completion.", "invalid_request_error", "messages", "context_length_exceeded"), failure.ContextLengthExceeded, ""},
		{"Bedrock", 400, `{"message":"Input is too long for requested model."}`, failure.ContextLengthExceeded, ""},
		{"llama.cpp", 400, `{"error":{"code":400,"message":"request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":5000,"n_ctx":4096}}`, failure.ContextLengthExceeded, ""},
		{"Ollama", 400, `{"error":{"message":"prompt too long; exceeded max context length by 4096 tokens","type":"invalid_request_error","param":null,"code":null}}`, failure.ContextLengthExceeded, ""},
		{"LM Studio", 400, `{"error":"The number of tokens to keep from the initial prompt is greater than the context length. Try to load the model with a larger context length"}`, failure.ContextLengthExceeded, ""},
		{"LM Studio, older", 400, `{"error":"Trying to keep the first 7000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens"}`, failure.ContextLengthExceeded, ""},
		{"OpenRouter", 400, `{"error":{"message":"This endpoint's maximum context length is 131072 tokens. However, you requested about 200000 tokens","code":400,"metadata":{"provider_name":null}}}`, failure.ContextLengthExceeded, ""},
		{"OpenRouter, its provider's words", 400, `{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"prompt is too long: 213462 tokens > 200000 maximum\"}}","provider_name":"Anthropic"}}}`, failure.ContextLengthExceeded, ""},
		{"DeepSeek", 400, openAI("This model's maximum context length is 131072 tokens. However, you requested 131134 tokens (122942 in the messages, 8192 in the completion).", "invalid_request_error", "", "invalid_request_error"), failure.ContextLengthExceeded, ""},
		{"Moonshot", 400, `{"error":{"message":"Your request exceeded model token limit: 131072 (requested: 140000)","type":"invalid_request_error"}}`, failure.ContextLengthExceeded, ""},
		{"MiniMax", 400, `{"error":{"message":"invalid params, context window exceeds limit (2013)","type":"bad_request_error"}}`, failure.ContextLengthExceeded, ""},
		{"Cerebras", 400, `{"message":"Please reduce the length of the messages or completion. Current length is 9000 while limit is 8192","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}`, failure.ContextLengthExceeded, ""},
		{"GitHub Models", 413, `{"error":{"code":"tokens_limit_reached","message":"Request body too large for gpt-4o model. Max size: 8000 tokens.","details":"Request body too large for gpt-4o model. Max size: 8000 tokens."}}`, failure.ContextLengthExceeded, ""},
		{"GitHub Copilot", 400, `{"error":{"message":"prompt token count of 150000 exceeds the limit of 128000","code":"model_max_prompt_tokens_exceeded"}}`, failure.ContextLengthExceeded, ""},
		{"DashScope", 400, openAI("Range of input length should be [1, 129024]", "invalid_request_error", "", "invalid_parameter_error"), failure.ContextLengthExceeded, ""},
		{"Zhipu", 400, `{"error":{"code":"1261","message":"Prompt exceeds max length"}}`, failure.ContextLengthExceeded, ""},
		{"a gateway that makes it a 500", 500, `{"error":{"message":"litellm.ContextWindowExceededError: This model's maximum context length is 4096 tokens.","code":"500"}}`, failure.ContextLengthExceeded, ""},

		// Models that are not there.
		{"OpenAI", 400, openAI("The requested model 'x' does not exist.", "invalid_request_error", "model", "model_not_found"), failure.ModelNotFound, ""},
		{"OpenAI, no access", 403, openAI("Project does not have access to model x", "invalid_request_error", "", "model_not_found"), failure.ModelNotFound, ""},
		{"OpenRouter", 400, `{"error":{"message":"claude-sonnet-4-6 is not a valid model ID","code":400},"user_id":"user_x"}`, failure.ModelNotFound, ""},
		{"llama-server's router", 400, `{"error":{"code":400,"message":"model 'x' not found","type":"invalid_request_error"}}`, failure.ModelNotFound, ""},
		{"Mistral", 400, `{"object":"error","message":"Invalid model: x","type":"invalid_model","param":null,"code":"1500"}`, failure.ModelNotFound, ""},
		{"DeepSeek", 400, openAI("Model Not Exist", "invalid_request_error", "", "invalid_request_error"), failure.ModelNotFound, ""},
		{"LiteLLM", 400, `{"error":{"message":"/chat/completions: Invalid model name passed in model=x. Call ` + "`/v1/models`" + ` to view available models for your key.","type":"invalid_request_error","param":"model","code":"400"}}`, failure.ModelNotFound, ""},
		{"Groq", 400, openAI("The model x has been decommissioned and is no longer supported.", "invalid_request_error", "", "model_decommissioned"), failure.ModelNotFound, ""},
		{"GitHub Copilot", 400, openAI("The requested model is not supported.", "invalid_request_error", "model", "model_not_supported"), failure.ModelNotFound, ""},
		{"Bedrock", 400, `{"message":"The provided model identifier is invalid."}`, failure.ModelNotFound, ""},
		{"MiniMax", 400, `{"error":{"message":"invalid params, unknown model 'x' (2013)","type":"bad_request_error"}}`, failure.ModelNotFound, ""},
		{"Zhipu", 400, `{"error":{"code":"1211","message":"模型不存在，请检查模型代码。"}}`, failure.ModelNotFound, ""},
		{"new-api", 503, `{"error":{"code":"model_not_found","message":"No available channel for model x under group default","type":"new_api_error"}}`, failure.ModelNotFound, ""},

		// Parameters that the upstream names.
		{"OpenAI, a value", 400, openAI("Invalid 'temperature': decimal above maximum value. Expected a value <= 1, but got 2 instead.", "invalid_request_error", "temperature", "decimal_above_max_value"), failure.InvalidRequest, "temperature"},
		{"OpenAI, a path", 400, openAI("Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.", "invalid_request_error", "messages.[3].role", ""), failure.InvalidRequest, "messages[3].role"},
		{"OpenAI, a schema", 400, openAI("Invalid schema for function 'f': None is not of type 'array'.", "invalid_request_error", "tools[0].function.parameters", "invalid_function_parameters"), failure.InvalidRequest, "tools[0].function.parameters"},
		{"OpenAI, too many tokens", 400, openAI("max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000.", "invalid_request_error", "max_tokens", "invalid_value"), failure.InvalidRequest, "max_tokens"},
		{"OpenAI, logprobs", 403, openAI("You are not allowed to request logprobs from this model", "invalid_request_error", "", ""), failure.InvalidRequest, "logprobs"},
		{"Azure, older", 400, openAI("Unrecognized request argument supplied: reasoning_effort", "invalid_request_error", "", ""), failure.InvalidRequest, "reasoning_effort"},
		{"a member of extra", 400, openAI("Unknown parameter: 'top_k'.", "invalid_request_error", "top_k", "unknown_parameter"), failure.InvalidRequest, "extra.top_k"},
		{"xAI", 400, `{"code":"Client specified an invalid argument","error":"Argument not supported on this model: presencePenalty"}`, failure.InvalidRequest, "presence_penalty"},
		{"xAI, newer", 400, `{"code":"Client specified an invalid argument","error":"Model grok-4-latest does not support parameter reasoningEffort."}`, failure.InvalidRequest, "reasoning_effort"},
		{"Mistral", 422, `{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","messages",0,"user","name"],"msg":"Extra inputs are not permitted","input":null}]},"type":"invalid_request_error","param":null,"code":null}`, failure.InvalidRequest, "messages[0].name"},
		{"Mistral, reasoning", 422, `{"detail":[{"type":"extra_forbidden","loc":["body","messages",31,"assistant","reasoning_content"],"msg":"Extra inputs are not permitted"}]}`, failure.InvalidRequest, "messages[31].reasoning"},
		{"Mistral, newer", 422, `{"detail":[{"type":"extra_forbidden","loc":["body","parallel_tool_calls"],"msg":"Extra inputs are not permitted","input":true}]}`, failure.InvalidRequest, "parallel_tool_calls"},
		{"vLLM", 400, `{"object":"error","message":"top_p must be in (0, 1], got 0.0.","type":"BadRequestError","param":null,"code":400}`, failure.InvalidRequest, "top_p"},
		{"vLLM, newer", 400, `{"error":{"message":"Requested sample logprobs of 25, which is greater than max allowed: 20 (parameter=logprobs, value=25)","type":"BadRequestError","param":null,"code":400}}`, failure.InvalidRequest, "logprobs"},
		{"vLLM, pydantic", 400, `{"object":"error","message":"[{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), 'msg': 'Extra inputs are not permitted', 'input': 1}]","type":"BadRequestError","param":null,"code":400}`, failure.InvalidRequest, "extra.top_k"},
		{"vLLM, pydantic, with what the caller wrote", 400, `{"object":"error","message":"[{'type': 'less_than_equal', 'loc': ('body', 'temperature'), 'input': {'messages': 'my billing; invalid model; context window'}}]","type":"BadRequestError","param":null,"code":400}`, failure.InvalidRequest, "temperature"},
		{"TGI", 422, "{\"error\":\"Input validation error: `top_p` must be > 0.0 and < 1.0\",\"error_type\":\"validation\"}", failure.InvalidRequest, "top_p"},
		{"Groq", 400, `{"error":{"message":"property 'verbosity' is unsupported","type":"invalid_request_error"}}`, failure.InvalidRequest, "verbosity"},
		{"Groq, for the model", 400, "{\"error\":{\"message\":\"`reasoning_effort` is not supported with this model\",\"type\":\"invalid_request_error\"}}", failure.InvalidRequest, "reasoning_effort"},
		{"Groq, a message", 400, `{"error":{"message":"'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property 'reasoning_content' is unsupported)]","type":"invalid_request_error"}}`, failure.InvalidRequest, "messages[1]"},
		{"DeepSeek", 400, openAI("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", "invalid_request_error", "", "invalid_request_error"), failure.InvalidRequest, "max_tokens"},
		{"Anthropic", 400, `{"error":{"code":"invalid_request_error","message":"temperature: range: 0..1","type":"invalid_request_error","param":null}}`, failure.InvalidRequest, "temperature"},
		{"Gemini", 400, `[{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"frequency_penalty\": Cannot find field.","status":"INVALID_ARGUMENT"}}]`, failure.InvalidRequest, "frequency_penalty"},
		{"Gemini, in a schema", 400, `{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"const\" at 'tools[0].function_declarations[5].parameters.properties[8].value.any_of[0]': Cannot find field.","status":"INVALID_ARGUMENT"}}`, failure.InvalidRequest, "tools[0].function_declarations[5].parameters.properties[8].value.any_of[0]"},
		{"Bedrock, too many tokens", 400, `{"message":"The maximum tokens you requested exceeds the model limit of 32768"}`, failure.InvalidRequest, "max_tokens"},
		{"llama-server, a template", 500, `{"error":{"code":500,"message":"\n------------\nWhile executing CallExpression at line 47, column 32 in source:\n...\nError: Jinja Exception: After the optional system message, conversation roles must alternate user and assistant roles except for tool calls and results.","type":"server_error"}}`, failure.InvalidRequest, "messages"},
		{"Groq, without the parameter", 400, "{\"error\":{\"message\":\"`max_tokens` must be less than or equal to `8192`, the maximum value for `max_tokens` is less than the `context_window` for this model\",\"type\":\"invalid_request_error\"}}", failure.InvalidRequest, "max_tokens"},
		{"OpenAI, a tool that is called like a code", 400, openAI("Invalid schema for function 'content_filter': In context=('properties', 'x'), array schema missing items.", "invalid_request_error", "tools[0].function.parameters", "invalid_function_parameters"), failure.InvalidRequest, "tools[0].function.parameters"},
		{"Moonshot", 400, `{"error":{"message":"invalid temperature: only 1 is allowed for this model","type":"invalid_request_error"}}`, failure.InvalidRequest, "temperature"},
		{"Fireworks", 400, `{"error":{"object":"error","type":"invalid_request_error","message":"Extra inputs are not permitted, field: 'verbosity', value: 'low'"}}`, failure.InvalidRequest, "verbosity"},
		{"Ollama", 400, `{"error":{"message":"json: cannot unmarshal string into Go struct field ChatCompletionRequest.temperature of type float64","type":"invalid_request_error","param":null,"code":null}}`, failure.InvalidRequest, "temperature"},
		{"FastChat", 400, `{"object":"error","message":"9.0 is greater than the maximum of 2 - 'temperature'","code":40302}`, failure.InvalidRequest, "temperature"},
		{"GigaChat", 422, `{"status":422,"message":"Invalid params: temperature must be in range (0, +inf)"}`, failure.InvalidRequest, "temperature"},
		{"OpenRouter, its provider's words", 400, `{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"Unsupported parameter: 'temperature' is not supported with this model.\"}}","provider_name":"OpenAI"}}}`, failure.InvalidRequest, "temperature"},
		{"in an answer", 200, `{"error":{"message":"temperature must be non-negative, got -1.0.","type":"BadRequestError","param":"temperature","code":400}}`, failure.InvalidRequest, "temperature"},

		// What the model cannot do.
		{"Ollama, tools", 400, openAI("registry.ollama.ai/library/gemma3:4b does not support tools", "api_error", "", ""), failure.InvalidRequest, "tools"},
		{"OpenRouter, tools", 404, `{"error":{"message":"No endpoints found that support tool use. To learn more about provider routing, visit: https://openrouter.ai/docs/provider-routing","code":404}}`, failure.InvalidRequest, "tools"},
		{"llama-server, images", 500, `{"error":{"code":500,"message":"image input is not supported - hint: if this is unexpected, you may need to provide the mmproj","type":"server_error"}}`, failure.InvalidRequest, "messages"},
		{"OpenRouter, images", 404, `{"error":{"message":"No endpoints found that support image input","code":404}}`, failure.InvalidRequest, "messages"},
		{"vLLM, images", 400, `{"object":"error","message":"Qwen3-8B is not a multimodal model","type":"BadRequestError","param":null,"code":400}`, failure.InvalidRequest, "messages"},
		{"vLLM, a template", 400, `{"object":"error","message":"Conversation roles must alternate user/assistant/user/assistant/...","type":"BadRequestError","param":null,"code":400}`, failure.InvalidRequest, "messages"},
		{"OpenAI, no chat model", 404, openAI("This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to use v1/completions?", "invalid_request_error", "model", ""), failure.InvalidRequest, "messages"},
		{"OpenAI, a chat model", 404, openAI("This is a chat model and not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions?", "invalid_request_error", "model", ""), failure.InvalidRequest, "prompt"},
		{"DeepSeek's filter", 400, openAI("Content Exists Risk", "invalid_request_error", "", "invalid_request_error"), failure.InvalidRequest, "messages"},

		// A rate.
		{"Groq, 413", 413, openAI("Request too large for model llama-3.1-8b-instant in organization org_x service tier on_demand on tokens per minute (TPM): Limit 6000, Requested 12328, please reduce your message size and try again. Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing", "tokens", "", "rate_limit_exceeded"), failure.UpstreamRateLimited, ""},

		// The operator's.
		{"xAI", 400, `{"code":"Client specified an invalid argument","error":"Incorrect API key provided: na***ys. You can obtain an API key from https://console.x.ai."}`, failure.UpstreamRejected, ""},
		{"Gemini", 400, `[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]`, failure.UpstreamRejected, ""},
		{"Anthropic", 400, `{"error":{"code":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API.","type":"invalid_request_error"}}`, failure.UpstreamRejected, ""},
		{"OpenAI, a base URL with /v1 twice", 404, openAI("Invalid URL (POST /v1/v1/chat/completions)", "invalid_request_error", "", ""), failure.UpstreamRejected, ""},
		{"LM Studio, a base URL without /v1", 200, `{"error":"Unexpected endpoint or method. (POST /chat/completions)"}`, failure.UpstreamRejected, ""},
		{"Azure, a wrong endpoint", 404, `{"error":{"code":"404","message":"Resource not found"}}`, failure.UpstreamRejected, ""},
		{"a gateway without the route", 404, `{"message":"no Route matched with those values"}`, failure.UpstreamRejected, ""},
		{"our stream_options, twice", 422, `{"detail":[{"type":"extra_forbidden","loc":["body","stream"],"msg":"Extra inputs are not permitted"}]}`, failure.UpstreamRejected, ""},
		{"a parameter that is not the caller's", 400, openAI("Unknown parameter: 'top_k2'.", "invalid_request_error", "top_k2", "unknown_parameter"), failure.UpstreamRejected, ""},
		{"a parameter that is no name", 400, openAI("Bad", "invalid_request_error", "temperature at http://upstream.internal", ""), failure.UpstreamRejected, ""},
		{"vLLM, pydantic, the input that the caller wrote", 400, `{"object":"error","message":"[{'type': 'value_error', 'loc': ('body',), 'msg': 'Bad', 'input': {'messages': \"unsupported parameter: 'max_tokens'\"}}]","type":"BadRequestError","param":null,"code":400}`, failure.UpstreamRejected, ""},
		{"402", 402, openAI("Insufficient credits; reduce max_tokens", "", "max_tokens", ""), failure.UpstreamRejected, ""},
		{"401", 401, openAI("invalid model", "", "temperature", ""), failure.UpstreamRejected, ""},
		{"a page that talks of a context window", 400, `<html>context window</html>`, failure.UpstreamRejected, ""},

		// Down.
		{"a server that is down", 503, openAI("billing_not_active: the database is gone", "server_error", "", ""), failure.UpstreamUnavailable, ""},
		{"a server that broke", 500, openAI("temperature must be read from the sensor", "server_error", "", ""), failure.UpstreamUnavailable, ""},
	} {
		t.Run(tc.server, func(t *testing.T) {
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tc.status)
				w.Write([]byte(tc.body))
			})
			req := chat()
			req.Extra = &structpb.Struct{Fields: map[string]*structpb.Value{"top_k": structpb.NewNumberValue(1)}}
			err := generate(t.Context(), e, req, ignore)
			var failed *failure.Error
			if !errors.As(err, &failed) || failed.Reason != tc.want {
				t.Fatalf("got %v, want %s", err, tc.want)
			}
			field := ""
			for _, detail := range status.Convert(failed).Details() {
				if bad, ok := detail.(*errdetails.BadRequest); ok {
					field = bad.GetFieldViolations()[0].GetField()
				}
			}
			if field != tc.field {
				t.Errorf("got the field %q, want %q: %v", field, tc.field, err)
			}
		})
	}
}

// TestWait checks where servers put how long to wait.
func TestWait(t *testing.T) {
	retry := func(words string) string { return `{"error":{"message":"` + words + `","code":429}}` }
	for _, tc := range []struct {
		name, header, body string
		want               time.Duration
	}{
		{"Gemini's details", "", `[{"error":{"code":429,"message":"You exceeded your current quota. Please retry in 53.016342224s.","status":"RESOURCE_EXHAUSTED","details":[` +
			`{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"53s"}]}}]`, 53 * time.Second},
		{"Gemini's fraction", "", `{"error":{"message":"x","details":[{"retryDelay":"34.4s"}]}}`, 34400 * time.Millisecond},
		{"Gemini's words", "", retry("Please retry in 43.5s."), 43500 * time.Millisecond},
		{"Groq", "", retry("Limit 6000, Used 5034, Requested 1443. Please try again in 7.66s. Need more tokens?"), 7660 * time.Millisecond},
		{"OpenAI, minutes", "", retry("Rate limit reached for gpt-4. Please try again in 6m0s."), 6 * time.Minute},
		{"OpenAI, milliseconds", "", retry("Please try again in 350ms. Visit"), 350 * time.Millisecond},
		{"Azure", "", retry("Please retry after 3 seconds."), 3 * time.Second},
		{"the header wins", "2", retry("Please try again in 7s."), 2 * time.Second},
		{"an age", "", retry("Please try again in 9000h."), time.Hour},
		{"no time", "", retry("Please try again in a while."), time.Second},
		{"a number of nothing", "", retry("Please try again in 5."), time.Second},
		{"the past", "", `{"error":{"message":"x","details":[{"retryDelay":"-5s"}]}}`, time.Second},
		{"details that are words", "", `{"error":{"message":"Please retry after 3 seconds.","details":"x"}}`, 3 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if tc.header != "" {
					w.Header().Set("Retry-After", tc.header)
				}
				w.WriteHeader(http.StatusTooManyRequests)
				w.Write([]byte(tc.body))
			})
			err := generate(t.Context(), e, chat(), ignore)
			var got time.Duration
			for _, detail := range status.Convert(err).Details() {
				if info, ok := detail.(*errdetails.RetryInfo); ok {
					got = info.GetRetryDelay().AsDuration()
				}
			}
			if got != tc.want {
				t.Errorf("got %v, want %v: %v", got, tc.want, err)
			}
		})
	}
}

// TestLongMessage checks that it takes no more than a moment to look for a name in a
// long message in which a pattern begins again and again.
func TestLongMessage(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		u := &upstreamError{status: 400, details: errorDetails{Message: jsonText(strings.Repeat("request.", 1<<17))}}
		u.reason(requestInfo{model: "m"})
	}()
	within(t, done, "look for a name")
	value, path := parameterPattern{text: "invalid {} value"}, parameterPattern{text: "request.{} of type"}
	for message, want := range map[string]string{
		"request.request.top_p of type": "request.top_p", "xinvalid temperature value": "temperature", "invalid invalid seed value": "seed",
	} {
		if got := value.find(message) + path.find(message); got != want {
			t.Errorf("%q: got %q, want %q", message, got, want)
		}
	}
}

// TestPhrasesMatch checks that each row of the tables can match: messages are in lower
// case.
func TestPhrasesMatch(t *testing.T) {
	for _, p := range phrases {
		if p.text != strings.ToLower(p.text) || !p.matches(p.text) {
			t.Errorf("%q can never match", p.text)
		}
	}
	for _, p := range parameterPatterns {
		message := strings.TrimPrefix(strings.ReplaceAll(p.text, "{}", "a[0].b"), "^")
		if name := p.find(message); name != "a[0].b" || p.text != strings.ToLower(p.text) {
			t.Errorf("%q: got %q", p.text, name)
		}
	}
}
