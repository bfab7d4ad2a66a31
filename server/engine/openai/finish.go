package openai

import (
	"slices"
	"strings"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// end is what a finish reason means: a reason of ours, or that the upstream gave up
// and there is no answer, or not all of it. The zero end is none.
type end struct {
	reason completionv1.Finished_FinishReason
	failed bool
}

const (
	stop          = completionv1.Finished_STOP
	length        = completionv1.Finished_LENGTH
	toolCalls     = completionv1.Finished_TOOL_CALLS
	contentFilter = completionv1.Finished_CONTENT_FILTER
	other         = completionv1.Finished_OTHER
)

// finishReasons are the words that servers have, in lower case and with _ for -. One
// that stands nowhere here is OTHER.
var finishReasons = []struct {
	source string
	words  []string
	end    end
}{
	{"OpenAI (openai-python types/chat/chat_completion_chunk.py)", []string{"stop"}, end{reason: stop}},
	{"OpenAI", []string{"length"}, end{reason: length}},
	{"OpenAI", []string{"tool_calls", "function_call"}, end{reason: toolCalls}},
	{"OpenAI", []string{"content_filter"}, end{reason: contentFilter}},
	{"OpenAI's Responses", []string{"max_output_tokens"}, end{reason: length}},
	{"no reason yet: a string null; watsonx; Gemini", []string{"null", "none", "not_finished", "finish_reason_unspecified"}, end{}},

	{"Anthropic (docs: handling stop reasons)", []string{"end_turn", "stop_sequence"}, end{reason: stop}},
	{"Anthropic, Bedrock, Zhipu", []string{"max_tokens", "model_context_window_exceeded", "compaction"}, end{reason: length}},
	{"Anthropic", []string{"tool_use"}, end{reason: toolCalls}},
	{"Anthropic", []string{"refusal"}, end{reason: contentFilter}},

	{"Cohere (cohere-python types/chat_finish_reason.py)", []string{"complete"}, end{reason: stop}},
	{"Cohere: the context is full", []string{"error_limit"}, end{reason: length}},
	{"Cohere", []string{"tool_call"}, end{reason: toolCalls}},
	{"Cohere", []string{"error_toxic"}, end{reason: contentFilter}},
	{"Cohere", []string{"error", "timeout", "user_cancel"}, end{failed: true}},

	{"Gemini (ai.google.dev/api/generate-content, FinishReason)", []string{
		"safety", "recitation", "language", "blocklist", "prohibited_content", "spii",
		"image_safety", "image_prohibited_content", "image_recitation", "model_armor", "escalation",
	}, end{reason: contentFilter}},
	{"Gemini: a call that cannot be read, and no answer", []string{
		"malformed_function_call", "malformed_response", "unexpected_tool_call", "too_many_tool_calls",
		"missing_thought_signature", "function_call_filter",
	}, end{failed: true}},

	{"Bedrock (API reference: Converse, stopReason)", []string{"guardrail_intervened", "content_filtered"}, end{reason: contentFilter}},
	{"Bedrock", []string{"malformed_model_output", "malformed_tool_use"}, end{failed: true}},

	{"TGI (router/src/lib.rs, FinishReason), watsonx, Together", []string{"eos_token", "eos"}, end{reason: stop}},
	{"watsonx (API reference: stop_reason)", []string{"token_limit", "time_limit"}, end{reason: length}},
	{"watsonx, TensorRT-LLM (executor/result.py): not by us, as we are still here", []string{"cancelled"}, end{failed: true}},
	{"Mistral (client-python models)", []string{"model_length"}, end{reason: length}},
	{"Baidu (ERNIE API: finish_reason)", []string{"normal"}, end{reason: stop}},

	{"Zhipu, Tencent (BerriAI/litellm core_helpers.py)", []string{"sensitive"}, end{reason: contentFilter}},
	{"Zhipu", []string{"network_error"}, end{failed: true}},
	{"DeepSeek (api-docs.deepseek.com: create chat completion)", []string{"insufficient_system_resource", "aborted"}, end{failed: true}},
	{"vLLM (v1/engine/__init__.py), SGLang (managers/schedule_batch.py)", []string{"abort"}, end{failed: true}},

	{"Ollama (api/types.go, DoneReason): an empty prompt has loaded the model", []string{"load"}, end{reason: stop}},
	{"Ollama: the model has gone", []string{"unload"}, end{failed: true}},
	{"LM Studio (lmstudio-js: LLMPredictionStopReason)", []string{"eosfound", "stopstringfound"}, end{reason: stop}},
	{"LM Studio", []string{"maxpredictedtokensreached", "contextlengthreached"}, end{reason: length}},
	{"LM Studio", []string{"toolcalls"}, end{reason: toolCalls}},
	{"LM Studio", []string{"userstopped", "modelunloaded", "failed"}, end{failed: true}},
	{"llama.cpp (tools/server, stop_type)", []string{"word"}, end{reason: stop}},
	{"llama.cpp", []string{"limit"}, end{reason: length}},
}

// endOf returns what a finish reason means. Gemini's OpenAI-compatible face gives two
// words, the kind and its own: "function_call_filter: MALFORMED_FUNCTION_CALL".
func endOf(reason string) end {
	if reason == "" {
		return end{}
	}
	reason = strings.ReplaceAll(strings.ToLower(reason), "-", "_")
	kind, own, _ := strings.Cut(reason, ": ")
	e := end{reason: other}
	for _, word := range []string{own, kind} {
		for i := range finishReasons {
			if e.reason == other && slices.Contains(finishReasons[i].words, word) {
				e = finishReasons[i].end
			}
		}
	}
	return e
}
