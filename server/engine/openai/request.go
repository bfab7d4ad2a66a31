package openai

import (
	"cmp"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// encode returns the body of a request, of chats and of legacy completions alike. A
// parameter that the caller did not set is not in it, one that is zero is. The fields
// that are for us, disconnect_grace and idempotency_key, are not sent. The error is a
// *failure.Error.
//
// go-openai's own types have float32 with omitempty: they lose a temperature of 0 and the
// digits of 0.123456789, drop empty content, and have no place for the parameters of
// other servers.
//
// https://platform.openai.com/docs/api-reference/chat/create
func encode(req *completionv1.CompletionRequest, d dialect) ([]byte, error) {
	w := newJSONWriter(proto.Size(req))
	w.begin('{')
	w.stringMember("model", req.GetModel())
	w.input(req)
	w.sampling(req, d)
	w.tools(req)
	w.responseFormat(req.GetResponseFormat())
	optionalMember(w, "reasoning_effort", req.ReasoningEffort)
	optionalMember(w, "verbosity", req.Verbosity)
	optionalMember(w, "user", req.User)
	optionalMember(w, "service_tier", req.ServiceTier)
	if len(req.GetMetadata()) > 0 {
		w.member("metadata", req.GetMetadata())
	}
	w.members(req.GetExtra())
	w.membersJSON(req.GetExtraJson())
	w.rawMember("stream", "true")
	if !d.noStreamOptions {
		w.rawMember("stream_options", `{"include_usage":true}`)
	}
	w.end('}')
	if w.err != nil { // a number that is NaN or infinite
		return nil, failure.New(failure.InvalidRequest, "the request cannot be written as JSON").WithCause(w.err)
	}
	return w.out.Bytes(), nil
}

func (w *jsonWriter) input(req *completionv1.CompletionRequest) {
	if req.Prompt != nil {
		w.stringMember("prompt", req.GetPrompt())
	}
	if len(req.GetMessages()) == 0 {
		return
	}
	w.beginMember("messages", '[')
	for _, m := range req.GetMessages() {
		w.message(m)
	}
	w.end(']')
}

func (w *jsonWriter) message(m *completionv1.Message) {
	w.begin('{')
	w.stringMember("role", m.GetRole())
	w.name("content")
	switch {
	case len(m.GetParts()) > 0:
		w.begin('[')
		for _, p := range m.GetParts() {
			w.part(p)
		}
		w.end(']')
	case m.Content == nil && len(m.GetToolCalls()) > 0:
		// vLLM and Mistral reject a message without the key.
		w.value(nil)
	default:
		// An assistant's message may be empty. OpenAI takes null only beside tool calls.
		w.string(m.GetContent())
	}
	w.nonEmptyMember("name", m.GetName())
	if m.Reasoning != nil {
		w.stringMember("reasoning_content", m.GetReasoning())
	}
	if len(m.GetToolCalls()) > 0 {
		w.beginMember("tool_calls", '[')
		for _, c := range m.GetToolCalls() {
			w.toolCall(c)
		}
		w.end(']')
	}
	w.nonEmptyMember("tool_call_id", m.GetToolCallId())
	w.members(m.GetExtra())
	w.end('}')
}

// part writes a part of a message. A part of a kind that we have no field for is all in
// its extra, with its type.
func (w *jsonWriter) part(p *completionv1.Part) {
	w.begin('{')
	switch kind := p.GetKind().(type) {
	case *completionv1.Part_Text:
		w.stringMember("type", "text")
		w.stringMember("text", kind.Text)
	case *completionv1.Part_ImageUrl:
		w.stringMember("type", "image_url")
		w.beginMember("image_url", '{')
		w.stringMember("url", kind.ImageUrl.GetUrl())
		w.nonEmptyMember("detail", kind.ImageUrl.GetDetail())
		w.end('}')
	case *completionv1.Part_InputAudio:
		w.stringMember("type", "input_audio")
		w.beginMember("input_audio", '{')
		w.stringMember("data", kind.InputAudio.GetData())
		w.nonEmptyMember("format", kind.InputAudio.GetFormat())
		w.end('}')
	case *completionv1.Part_File:
		w.stringMember("type", "file")
		w.beginMember("file", '{')
		w.nonEmptyMember("file_data", kind.File.GetFileData())
		w.nonEmptyMember("file_id", kind.File.GetFileId())
		w.nonEmptyMember("filename", kind.File.GetFilename())
		w.end('}')
	}
	w.members(p.GetExtra())
	w.end('}')
}

func (w *jsonWriter) toolCall(c *completionv1.ToolCall) {
	w.begin('{')
	w.stringMember("id", c.GetId())
	w.stringMember("type", "function")
	w.beginMember("function", '{')
	w.stringMember("name", c.GetName())
	w.stringMember("arguments", c.GetArguments())
	w.end('}')
	w.members(c.GetExtra())
	w.end('}')
}

func (w *jsonWriter) sampling(req *completionv1.CompletionRequest, d dialect) {
	if name := d.limitNameFor(req); name != "" {
		w.member(name, cmp.Or(req.MaxTokens, req.MaxCompletionTokens))
	}
	optionalMember(w, "temperature", req.Temperature)
	optionalMember(w, "top_p", req.TopP)
	if len(req.GetStop()) > 0 {
		w.member("stop", req.GetStop())
	}
	optionalMember(w, "seed", req.Seed)
	optionalMember(w, "presence_penalty", req.PresencePenalty)
	optionalMember(w, "frequency_penalty", req.FrequencyPenalty)
	if len(req.GetLogitBias()) > 0 {
		w.member("logit_bias", req.GetLogitBias())
	}
	switch {
	case req.Prompt == nil:
		optionalMember(w, "logprobs", req.Logprobs)
		optionalMember(w, "top_logprobs", req.TopLogprobs)
	case req.GetLogprobs(): // in a legacy completion it is a number
		w.member("logprobs", req.GetTopLogprobs())
	}
}

func (w *jsonWriter) tools(req *completionv1.CompletionRequest) {
	if len(req.GetTools()) > 0 {
		w.beginMember("tools", '[')
		for _, t := range req.GetTools() {
			f := t.GetFunction()
			w.begin('{')
			w.stringMember("type", cmp.Or(t.GetType(), "function"))
			w.beginMember("function", '{')
			w.stringMember("name", f.GetName())
			w.nonEmptyMember("description", f.GetDescription())
			w.objectMember("parameters", f.GetParameters(), f.GetParametersJson())
			optionalMember(w, "strict", f.Strict)
			w.end('}')
			w.end('}')
		}
		w.end(']')
	}
	if req.GetToolChoice() != nil {
		w.member("tool_choice", req.GetToolChoice().AsInterface())
	}
	optionalMember(w, "parallel_tool_calls", req.ParallelToolCalls)
}

func (w *jsonWriter) responseFormat(f *completionv1.ResponseFormat) {
	if f == nil {
		return
	}
	w.beginMember("response_format", '{')
	w.stringMember("type", f.GetType())
	if s := f.GetJsonSchema(); s != nil {
		w.beginMember("json_schema", '{')
		w.stringMember("name", s.GetName())
		w.nonEmptyMember("description", s.GetDescription())
		w.objectMember("schema", s.GetSchema(), s.GetSchemaJson())
		optionalMember(w, "strict", s.Strict)
		w.end('}')
	}
	w.end('}')
}
