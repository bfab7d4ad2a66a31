package openai

import (
	"slices"
	"strings"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// finish is what a finish reason of an upstream means. The zero finish is no reason.
type finish struct {
	reason completionv1.Finished_FinishReason
	failed bool // the upstream gave up: there is no answer, or only a part of it
}

const (
	reasonStop      = completionv1.Finished_STOP
	reasonLength    = completionv1.Finished_LENGTH
	reasonToolCalls = completionv1.Finished_TOOL_CALLS
	reasonFilter    = completionv1.Finished_CONTENT_FILTER
	reasonOther     = completionv1.Finished_OTHER
)

// finishReasons are the finish reasons of servers, in lower case and with _ for -. Any
// other is OTHER.
var finishReasons = []struct {
	source string
	names  []string
	finish finish
}{
	{"OpenAI (openai-python types/chat/chat_completion_chunk.py)", []string{"stop"}, finish{reason: reasonStop}},
	{"OpenAI", []string{"length"}, finish{reason: reasonLength}},
	{"OpenAI", []string{"tool_calls", "function_call"}, finish{reason: reasonToolCalls}},
	{"OpenAI", []string{"content_filter"}, finish{reason: reasonFilter}},
	{"OpenAI's Responses", []string{"max_output_tokens"}, finish{reason: reasonLength}},
	{"no reason yet: a string null; watsonx; Gemini", []string{"null", "none", "not_finished", "finish_reason_unspecified"}, finish{}},

	{"Anthropic (docs: handling stop reasons)", []string{"end_turn", "stop_sequence"}, finish{reason: reasonStop}},
	{"Anthropic, Bedrock, Zhipu", []string{"max_tokens", "model_context_window_exceeded", "compaction"}, finish{reason: reasonLength}},
	{"Anthropic", []string{"tool_use"}, finish{reason: reasonToolCalls}},
	{"Anthropic", []string{"refusal"}, finish{reason: reasonFilter}},

	{"Cohere (cohere-python types/chat_finish_reason.py)", []string{"complete"}, finish{reason: reasonStop}},
	{"Cohere: the context is full", []string{"error_limit"}, finish{reason: reasonLength}},
	{"Cohere", []string{"tool_call"}, finish{reason: reasonToolCalls}},
	{"Cohere", []string{"error_toxic"}, finish{reason: reasonFilter}},
	{"Cohere", []string{"error", "timeout", "user_cancel"}, finish{failed: true}},

	{"Gemini (ai.google.dev/api/generate-content, FinishReason)", []string{
		"safety", "recitation", "language", "blocklist", "prohibited_content", "spii",
		"image_safety", "image_prohibited_content", "image_recitation", "model_armor", "escalation",
	}, finish{reason: reasonFilter}},
	{"Gemini: a tool call that is no use, and no answer", []string{
		"malformed_function_call", "malformed_response", "unexpected_tool_call", "too_many_tool_calls",
		"missing_thought_signature", "function_call_filter",
	}, finish{failed: true}},

	{"Bedrock (API reference: Converse, stopReason)", []string{"guardrail_intervened", "content_filtered"}, finish{reason: reasonFilter}},
	{"Bedrock", []string{"malformed_model_output", "malformed_tool_use"}, finish{failed: true}},

	{"TGI (router/src/lib.rs, FinishReason), watsonx, Together", []string{"eos_token", "eos"}, finish{reason: reasonStop}},
	{"watsonx (API reference: stop_reason)", []string{"token_limit", "time_limit"}, finish{reason: reasonLength}},
	{"watsonx, TensorRT-LLM (executor/result.py): not by us, as we are still reading", []string{"cancelled"}, finish{failed: true}},
	{"Mistral (client-python models)", []string{"model_length"}, finish{reason: reasonLength}},
	{"Baidu (ERNIE API: finish_reason)", []string{"normal"}, finish{reason: reasonStop}},

	{"Zhipu, Tencent (BerriAI/litellm core_helpers.py)", []string{"sensitive"}, finish{reason: reasonFilter}},
	{"Zhipu", []string{"network_error"}, finish{failed: true}},
	{"DeepSeek (api-docs.deepseek.com: create chat completion)", []string{"insufficient_system_resource", "aborted"}, finish{failed: true}},
	{"vLLM (v1/engine/__init__.py), SGLang (managers/schedule_batch.py)", []string{"abort"}, finish{failed: true}},

	{"Ollama (api/types.go, DoneReason): of an empty prompt", []string{"load"}, finish{reason: reasonStop}},
	{"Ollama: the model was unloaded", []string{"unload"}, finish{failed: true}},
	{"LM Studio (lmstudio-js: LLMPredictionStopReason)", []string{"eosfound", "stopstringfound"}, finish{reason: reasonStop}},
	{"LM Studio", []string{"maxpredictedtokensreached", "contextlengthreached"}, finish{reason: reasonLength}},
	{"LM Studio", []string{"toolcalls"}, finish{reason: reasonToolCalls}},
	{"LM Studio", []string{"userstopped", "modelunloaded", "failed"}, finish{failed: true}},
	{"llama.cpp (tools/server, stop_type)", []string{"word"}, finish{reason: reasonStop}},
	{"llama.cpp", []string{"limit"}, finish{reason: reasonLength}},
}

// parseFinish returns what a finish reason means. Gemini's OpenAI-compatible API sends
// two in one, a kind and its own: "function_call_filter: MALFORMED_FUNCTION_CALL".
func parseFinish(reason string) finish {
	if reason == "" {
		return finish{}
	}
	reason = strings.ReplaceAll(strings.ToLower(reason), "-", "_")
	kind, detail, _ := strings.Cut(reason, ": ")
	f := finish{reason: reasonOther}
	for _, name := range []string{detail, kind} {
		for i := range finishReasons {
			if f.reason == reasonOther && slices.Contains(finishReasons[i].names, name) {
				f = finishReasons[i].finish
			}
		}
	}
	return f
}
