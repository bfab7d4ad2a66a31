package openai

import (
	"cmp"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// encode says what the caller asks for in OpenAI's words, of chats and of legacy
// completions alike: a parameter that the caller did not set is not in it, one
// that is zero is. What is ours, disconnect_grace and idempotency_key, stays here.
//
// go-openai's own types have float32 with omitempty, so they lose a temperature
// of 0 and the digits of 0.123456789, drop an empty content, and have no place for
// what one server has and others have not.
//
// https://platform.openai.com/docs/api-reference/chat/create
func encode(req *completionv1.CompletionRequest, d dialect) ([]byte, error) {
	w := newWriter(proto.Size(req))
	w.begin('{')
	w.full("model", req.GetModel())
	w.input(req)
	w.sampling(req, d)
	w.tools(req)
	w.format(req.GetResponseFormat())
	optional(w, "reasoning_effort", req.ReasoningEffort)
	optional(w, "verbosity", req.Verbosity)
	optional(w, "user", req.User)
	optional(w, "service_tier", req.ServiceTier)
	if len(req.GetMetadata()) > 0 {
		w.member("metadata", req.GetMetadata())
	}
	w.extra(req.GetExtra())
	w.extraJSON(req.GetExtraJson())
	w.literal("stream", "true")
	if !d.noStreamOptions {
		w.literal("stream_options", `{"include_usage":true}`)
	}
	w.end('}')
	if w.err != nil { // a number that is NaN or infinite
		return nil, failure.New(failure.InvalidRequest, "the request cannot be written as JSON").WithCause(w.err)
	}
	return w.out.Bytes(), nil
}

func (w *writer) input(req *completionv1.CompletionRequest) {
	if req.Prompt != nil {
		w.full("prompt", req.GetPrompt())
	}
	if len(req.GetMessages()) == 0 {
		return
	}
	w.name("messages")
	w.begin('[')
	for _, m := range req.GetMessages() {
		w.message(m)
	}
	w.end(']')
}

func (w *writer) message(m *completionv1.Message) {
	w.begin('{')
	w.full("role", m.GetRole())
	w.name("content")
	switch {
	case len(m.GetParts()) > 0:
		w.begin('[')
		for _, p := range m.GetParts() {
			w.part(p)
		}
		w.end(']')
	case m.Content == nil && len(m.GetToolCalls()) > 0:
		// Absent, it is refused by servers that want the key (vLLM, Mistral).
		w.value(nil)
	default:
		// An assistant's turn may have been empty; null OpenAI takes only beside calls.
		w.string(m.GetContent())
	}
	w.text("name", m.GetName())
	if m.Reasoning != nil {
		w.full("reasoning_content", m.GetReasoning())
	}
	if len(m.GetToolCalls()) > 0 {
		w.name("tool_calls")
		w.begin('[')
		for _, c := range m.GetToolCalls() {
			w.toolCall(c)
		}
		w.end(']')
	}
	w.text("tool_call_id", m.GetToolCallId())
	w.extra(m.GetExtra())
	w.end('}')
}

// part writes a part. One of a kind that has no field is all in its extra, its
// type too.
func (w *writer) part(p *completionv1.Part) {
	w.begin('{')
	switch kind := p.GetKind().(type) {
	case *completionv1.Part_Text:
		w.full("type", "text")
		w.full("text", kind.Text)
	case *completionv1.Part_ImageUrl:
		w.full("type", "image_url")
		w.name("image_url")
		w.begin('{')
		w.full("url", kind.ImageUrl.GetUrl())
		w.text("detail", kind.ImageUrl.GetDetail())
		w.end('}')
	case *completionv1.Part_InputAudio:
		w.full("type", "input_audio")
		w.name("input_audio")
		w.begin('{')
		w.full("data", kind.InputAudio.GetData())
		w.text("format", kind.InputAudio.GetFormat())
		w.end('}')
	case *completionv1.Part_File:
		w.full("type", "file")
		w.name("file")
		w.begin('{')
		w.text("file_data", kind.File.GetFileData())
		w.text("file_id", kind.File.GetFileId())
		w.text("filename", kind.File.GetFilename())
		w.end('}')
	}
	w.extra(p.GetExtra())
	w.end('}')
}

func (w *writer) toolCall(c *completionv1.ToolCall) {
	w.begin('{')
	w.full("id", c.GetId())
	w.full("type", "function")
	w.name("function")
	w.begin('{')
	w.full("name", c.GetName())
	w.full("arguments", c.GetArguments())
	w.end('}')
	w.extra(c.GetExtra())
	w.end('}')
}

func (w *writer) sampling(req *completionv1.CompletionRequest, d dialect) {
	if name := d.limitOf(req); name != "" {
		w.member(name, cmp.Or(req.MaxTokens, req.MaxCompletionTokens))
	}
	optional(w, "temperature", req.Temperature)
	optional(w, "top_p", req.TopP)
	if len(req.GetStop()) > 0 {
		w.member("stop", req.GetStop())
	}
	optional(w, "seed", req.Seed)
	optional(w, "presence_penalty", req.PresencePenalty)
	optional(w, "frequency_penalty", req.FrequencyPenalty)
	if len(req.GetLogitBias()) > 0 {
		w.member("logit_bias", req.GetLogitBias())
	}
	switch {
	case req.Prompt == nil:
		optional(w, "logprobs", req.Logprobs)
		optional(w, "top_logprobs", req.TopLogprobs)
	case req.GetLogprobs(): // of a legacy completion, it is their number
		w.member("logprobs", req.GetTopLogprobs())
	}
}

func (w *writer) tools(req *completionv1.CompletionRequest) {
	if len(req.GetTools()) > 0 {
		w.name("tools")
		w.begin('[')
		for _, t := range req.GetTools() {
			f := t.GetFunction()
			w.begin('{')
			w.full("type", cmp.Or(t.GetType(), "function"))
			w.name("function")
			w.begin('{')
			w.full("name", f.GetName())
			w.text("description", f.GetDescription())
			w.object("parameters", f.GetParameters(), f.GetParametersJson())
			optional(w, "strict", f.Strict)
			w.end('}')
			w.end('}')
		}
		w.end(']')
	}
	if req.GetToolChoice() != nil {
		w.member("tool_choice", req.GetToolChoice().AsInterface())
	}
	optional(w, "parallel_tool_calls", req.ParallelToolCalls)
}

func (w *writer) format(f *completionv1.ResponseFormat) {
	if f == nil {
		return
	}
	w.name("response_format")
	w.begin('{')
	w.full("type", f.GetType())
	if s := f.GetJsonSchema(); s != nil {
		w.name("json_schema")
		w.begin('{')
		w.full("name", s.GetName())
		w.text("description", s.GetDescription())
		w.object("schema", s.GetSchema(), s.GetSchemaJson())
		optional(w, "strict", s.Strict)
		w.end('}')
	}
	w.end('}')
}
