package openai

import (
	"encoding/json"
	"errors"

	goopenai "github.com/sashabaranov/go-openai"
	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// request is the JSON that goes upstream, of chats and of legacy completions: a
// parameter that the caller did not set is not in it, one that is zero is.
// go-openai's own types have float32 with omitempty, so they lose a temperature
// of 0 and the digits of 0.123456789, and they drop an empty content.
//
// https://platform.openai.com/docs/api-reference/chat/create
type request struct {
	Model               string          `json:"model"`
	Messages            []message       `json:"messages,omitempty"`
	Prompt              *string         `json:"prompt,omitempty"`
	MaxTokens           *int32          `json:"max_tokens,omitempty"`
	MaxCompletionTokens *int32          `json:"max_completion_tokens,omitempty"`
	Temperature         *float64        `json:"temperature,omitempty"`
	TopP                *float64        `json:"top_p,omitempty"`
	Stop                []string        `json:"stop,omitempty"`
	Seed                *int64          `json:"seed,omitempty"`
	PresencePenalty     *float64        `json:"presence_penalty,omitempty"`
	FrequencyPenalty    *float64        `json:"frequency_penalty,omitempty"`
	Tools               []tool          `json:"tools,omitempty"`
	ToolChoice          any             `json:"tool_choice,omitempty"`
	ResponseFormat      *responseFormat `json:"response_format,omitempty"`
	ReasoningEffort     *string         `json:"reasoning_effort,omitempty"`
	User                *string         `json:"user,omitempty"`
	Stream              bool            `json:"stream"`
	StreamOptions       streamOptions   `json:"stream_options"`
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

type message struct {
	Role       string     `json:"role"`
	Content    any        `json:"content,omitempty"` // *string or []part
	ToolCalls  []toolCall `json:"tool_calls,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
}

type part struct {
	Type     string    `json:"type"`
	Text     *string   `json:"text,omitempty"`
	ImageURL *imageURL `json:"image_url,omitempty"`
}

type imageURL struct {
	URL    string `json:"url"`
	Detail string `json:"detail,omitempty"`
}

type toolCall struct {
	ID       string       `json:"id"`
	Type     string       `json:"type"`
	Function functionCall `json:"function"`
}

type functionCall struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

type tool struct {
	Type     string   `json:"type"`
	Function function `json:"function"`
}

type function struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Parameters  map[string]any `json:"parameters,omitzero"` // {} is sent
	Strict      *bool          `json:"strict,omitempty"`
}

type responseFormat struct {
	Type       string      `json:"type"`
	JSONSchema *jsonSchema `json:"json_schema,omitempty"`
}

type jsonSchema struct {
	Name        string         `json:"name"`
	Description string         `json:"description,omitempty"`
	Schema      map[string]any `json:"schema,omitzero"`
	Strict      *bool          `json:"strict,omitempty"`
}

// newRequest says what the caller asks for in OpenAI's words. What is ours,
// disconnect_grace and idempotency_key, stays here.
func newRequest(req *completionv1.CompletionRequest) *request {
	r := &request{
		Model:            req.GetModel(),
		Prompt:           req.Prompt,
		MaxTokens:        req.MaxTokens,
		Temperature:      req.Temperature,
		TopP:             req.TopP,
		Stop:             req.GetStop(),
		Seed:             req.Seed,
		PresencePenalty:  req.PresencePenalty,
		FrequencyPenalty: req.FrequencyPenalty,
		ReasoningEffort:  req.ReasoningEffort,
		User:             req.User,
		Stream:           true,
		StreamOptions:    streamOptions{IncludeUsage: true},
	}
	if req.Prompt == nil && wantsCompletionTokens(req.GetModel()) {
		r.MaxTokens, r.MaxCompletionTokens = nil, req.MaxTokens
	}
	for _, m := range req.GetMessages() {
		r.Messages = append(r.Messages, newMessage(m))
	}
	for _, t := range req.GetTools() {
		f := t.GetFunction()
		r.Tools = append(r.Tools, tool{Type: "function", Function: function{
			Name: f.GetName(), Description: f.GetDescription(), Parameters: object(f.GetParameters()), Strict: f.Strict,
		}})
	}
	if req.GetToolChoice() != nil {
		r.ToolChoice = req.GetToolChoice().AsInterface()
	}
	if f := req.GetResponseFormat(); f != nil {
		r.ResponseFormat = &responseFormat{Type: f.GetType()}
		if s := f.GetJsonSchema(); s != nil {
			r.ResponseFormat.JSONSchema = &jsonSchema{
				Name: s.GetName(), Description: s.GetDescription(), Schema: object(s.GetSchema()), Strict: s.Strict,
			}
		}
	}
	return r
}

func newMessage(m *completionv1.Message) message {
	w := message{Role: m.GetRole(), ToolCallID: m.GetToolCallId()}
	if m.Content != nil { // a nil *string in an any would be sent as null
		w.Content = m.Content
	}
	if len(m.GetParts()) > 0 {
		parts := make([]part, len(m.GetParts()))
		for i, p := range m.GetParts() {
			switch kind := p.GetKind().(type) {
			case *completionv1.Part_Text:
				parts[i] = part{Type: "text", Text: &kind.Text}
			case *completionv1.Part_ImageUrl:
				parts[i] = part{Type: "image_url", ImageURL: &imageURL{URL: kind.ImageUrl.GetUrl(), Detail: kind.ImageUrl.GetDetail()}}
			}
		}
		w.Content = parts
	}
	for _, c := range m.GetToolCalls() {
		w.ToolCalls = append(w.ToolCalls, toolCall{
			ID: c.GetId(), Type: "function", Function: functionCall{Name: c.GetName(), Arguments: c.GetArguments()},
		})
	}
	return w
}

// object returns nil for nil: not the same as the empty object.
func object(s *structpb.Struct) map[string]any {
	if s == nil {
		return nil
	}
	return s.AsMap()
}

func (r *request) encode() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil { // a number that is NaN or infinite
		return nil, failure.New(failure.InvalidRequest, "the request cannot be written as JSON").WithCause(err)
	}
	return b, nil
}

// wantsCompletionTokens tells whether the model takes max_completion_tokens only.
// go-openai keeps the list of such models and refuses max_tokens for them.
func wantsCompletionTokens(model string) bool {
	//lint:ignore SA1019 whether the model still takes it is the question
	err := goopenai.NewReasoningValidator().Validate(goopenai.ChatCompletionRequest{Model: model, MaxTokens: 1})
	return errors.Is(err, goopenai.ErrReasoningModelMaxTokensDeprecated)
}

// checked returns of a chat what go-openai checks before it sends it; the rest
// goes upstream in the exchange's own body.
func checked(req *completionv1.CompletionRequest) goopenai.ChatCompletionRequest {
	r := goopenai.ChatCompletionRequest{
		Model:            req.GetModel(),
		Temperature:      float32(req.GetTemperature()),
		TopP:             float32(req.GetTopP()),
		PresencePenalty:  float32(req.GetPresencePenalty()),
		FrequencyPenalty: float32(req.GetFrequencyPenalty()),
		ReasoningEffort:  req.GetReasoningEffort(),
		Tools:            make([]goopenai.Tool, len(req.GetTools())),
	}
	if req.GetToolChoice() != nil {
		r.ToolChoice = req.GetToolChoice().AsInterface()
	}
	return r
}
