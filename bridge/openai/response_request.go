package openai

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-sse/sluice/bridge/jsonbody"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// responseBody is the body of POST /responses.
type responseBody struct {
	Model             *string            `json:"model"`
	Input             *input             `json:"input"`
	Instructions      *string            `json:"instructions"`
	MaxOutputTokens   *int32             `json:"max_output_tokens"`
	MaxToolCalls      *int64             `json:"max_tool_calls"` // of tools that the server itself has: none here
	Temperature       *float64           `json:"temperature"`
	TopP              *float64           `json:"top_p"`
	PresencePenalty   *float64           `json:"presence_penalty"`
	FrequencyPenalty  *float64           `json:"frequency_penalty"`
	Include           []string           `json:"include"`
	TopLogprobs       *int32             `json:"top_logprobs"`
	Tools             []responseTool     `json:"tools"`
	ToolChoice        *responseChoice    `json:"tool_choice"`
	ParallelToolCalls *bool              `json:"parallel_tool_calls"`
	Reasoning         *reasoningOptions  `json:"reasoning"`
	Text              *textOptions       `json:"text"`
	Metadata          map[string]*string `json:"metadata"`
	ServiceTier       *string            `json:"service_tier"`
	User              *string            `json:"user"`
	Truncation        *string            `json:"truncation"`
	Background        *bool              `json:"background"`
	Store             *bool              `json:"store"` // a response is kept, and can be read, whatever this says
	Stream            *bool              `json:"stream"`
	StreamOptions     *streamOptions     `json:"stream_options"`
	DisconnectGrace   *duration          `json:"disconnect_grace"`
	Others            jsontext.Value     `json:",unknown"`
}

type reasoningOptions struct {
	Effort          *string        `json:"effort"`
	Summary         *string        `json:"summary"` // reasoning is given as it is, whichever is asked for
	GenerateSummary *string        `json:"generate_summary"`
	Others          jsontext.Value `json:",unknown"`
}

type textOptions struct {
	Format    *textFormat    `json:"format"`
	Verbosity *string        `json:"verbosity"`
	Others    jsontext.Value `json:",unknown"`
}

// longest is the grace of a response in the background: the server bounds it.
const longest = 24 * 60 * 60

// Find returns a response that there was before, by its completion. The caller closes it.
type Find func(ctx context.Context, completion string) (*WholeResponse, error)

// DecodeResponse makes a request of the body of POST /responses. Items that this only
// refers to are looked up.
func DecodeResponse(ctx context.Context, d jsonbody.Decoder, body []byte, find Find) (*Request, error) {
	var b responseBody
	if err := decode(ctx, d, body, responses, &b); err != nil {
		return nil, err
	}
	r, err := b.toRequest()
	if err == nil {
		c := conversation{find: find, most: int(d.MaxBody), room: roomOverMost * int(d.MaxBody)}
		defer c.close()
		r.Completion.Messages, err = c.messages(ctx, b.Instructions, b.Input)
	}
	if err != nil {
		return nil, invalid(err)
	}
	return r, nil
}

func (b *responseBody) toRequest() (*Request, error) {
	if b.Input == nil {
		return nil, wrong("input", "is required")
	}
	if b.Truncation != nil && *b.Truncation != "disabled" {
		return nil, wrong("truncation", "must be disabled: leave earlier turns out yourself")
	}
	req := &completionv1.CompletionRequest{
		Model: textOf(b.Model), MaxTokens: b.MaxOutputTokens, Temperature: b.Temperature, TopP: b.TopP,
		PresencePenalty: b.PresencePenalty, FrequencyPenalty: b.FrequencyPenalty,
		ParallelToolCalls: b.ParallelToolCalls, Metadata: withoutNulls(b.Metadata), ServiceTier: b.ServiceTier, User: b.User,
		DisconnectGrace: b.DisconnectGrace.toMessage(),
	}
	r := &Request{Completion: req, Stream: isTrue(b.Stream), Background: isTrue(b.Background)}
	if r.Background && req.DisconnectGrace == nil {
		req.DisconnectGrace = &durationpb.Duration{Seconds: longest}
	}
	if o := b.StreamOptions; o != nil {
		if o.IncludeUsage != nil {
			return nil, wrong("stream_options.include_usage", "is a parameter of POST %s: the usage is in the last event", chat.path())
		}
		if err := noOthers(o.Unknown); err != nil {
			return nil, in("stream_options", err)
		}
	}
	b.logprobs(req)
	if err := b.options(req); err != nil {
		return nil, err
	}
	for i := range b.Tools {
		t, err := b.Tools[i].toMessage()
		if err != nil {
			return nil, in(fmt.Sprintf("tools[%d]", i), err)
		}
		req.Tools = append(req.Tools, t)
	}
	var err error
	req.ExtraJson, err = extraOf(b.Others, responses)
	return r, err
}

// logprobs asks for log probabilities if the request does. What else can be included
// is not in answers that have no such thing.
func (b *responseBody) logprobs(req *completionv1.CompletionRequest) {
	for _, what := range b.Include {
		if what == "message.output_text.logprobs" {
			req.Logprobs = proto.Bool(true)
		}
	}
	if b.TopLogprobs != nil && *b.TopLogprobs != 0 {
		req.Logprobs = proto.Bool(true)
		req.TopLogprobs = b.TopLogprobs
	}
}

// options takes what stands in objects of its own.
func (b *responseBody) options(req *completionv1.CompletionRequest) error {
	if o := b.Reasoning; o != nil {
		if err := noOthers(o.Others); err != nil {
			return in("reasoning", err)
		}
		req.ReasoningEffort = o.Effort
	}
	if o := b.Text; o != nil {
		if err := noOthers(o.Others); err != nil {
			return in("text", err)
		}
		req.Verbosity = o.Verbosity
		var err error
		if req.ResponseFormat, err = o.Format.toMessage(); err != nil {
			return in("text.format", err)
		}
	}
	if b.ToolChoice != nil {
		req.ToolChoice = b.ToolChoice.value
	}
	return nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// textFormat is the form that an answer must have: that of a chat completion, but that
// the schema's members stand beside the type.
type textFormat struct {
	Type        *string        `json:"type"`
	Name        *string        `json:"name"`
	Description *string        `json:"description"`
	Schema      jsontext.Value `json:"schema"`
	Strict      *bool          `json:"strict"`
	Others      jsontext.Value `json:",unknown"`
}

func (f *textFormat) toMessage() (*completionv1.ResponseFormat, error) {
	if f == nil {
		return nil, nil
	}
	if err := noOthers(f.Others); err != nil {
		return nil, err
	}
	switch kind := textOf(f.Type); kind {
	case "text": // as without it; not all upstreams know it
		return nil, nil
	case "json_schema":
		text, err := schema(f.Schema)
		if err != nil {
			return nil, in("schema", err)
		}
		return &completionv1.ResponseFormat{Type: kind, JsonSchema: &completionv1.JSONSchema{
			Name: textOf(f.Name), Description: textOf(f.Description), SchemaJson: text, Strict: f.Strict}}, nil
	default:
		if len(f.Schema) > 0 && f.Schema.Kind() != 'n' {
			return nil, wrong("schema", "is of json_schema alone, and so cannot be had")
		}
		return &completionv1.ResponseFormat{Type: kind}, nil
	}
}

// responseTool is what the model may call: a function, whose members stand beside the type.
type responseTool struct {
	Type        *string        `json:"type"`
	Name        *string        `json:"name"`
	Description *string        `json:"description"`
	Parameters  jsontext.Value `json:"parameters"`
	Strict      *bool          `json:"strict"`
	Others      jsontext.Value `json:",unknown"`
}

func (t *responseTool) toMessage() (*completionv1.Tool, error) {
	if textOf(t.Type) != "function" {
		return nil, wrong("type", "must be function: tools of other types cannot be had")
	}
	if err := noOthers(t.Others); err != nil {
		return nil, err
	}
	parameters, err := schema(t.Parameters)
	if err != nil {
		return nil, in("parameters", err)
	}
	return &completionv1.Tool{Type: "function", Function: &completionv1.Function{
		Name: textOf(t.Name), Description: textOf(t.Description), ParametersJson: parameters, Strict: t.Strict}}, nil
}

// responseChoice is which tool is to be called: a word, a function, or a list of those
// that may be.
type responseChoice struct{ value *structpb.Value }

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *responseChoice) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == '"' {
		token, err := d.ReadToken()
		c.value = structpb.NewStringValue(token.String())
		return err
	}
	type choice struct {
		Type   *string        `json:"type"`
		Name   *string        `json:"name"`
		Mode   *string        `json:"mode"`
		Tools  []choice       `json:"tools"`
		Others jsontext.Value `json:",unknown"`
	}
	var v choice
	if err := json.UnmarshalDecode(d, &v); err != nil {
		return err
	}
	function := func(c choice) map[string]any {
		return map[string]any{"type": "function", "function": map[string]any{"name": strings.ToValidUTF8(textOf(c.Name), "\uFFFD")}}
	}
	var of any
	switch textOf(v.Type) {
	case "function":
		if textOf(v.Name) == "" {
			return wrong("name", "is required")
		}
		of = function(v)
	case "allowed_tools":
		var tools []any
		for i, t := range v.Tools {
			if textOf(t.Type) != "function" {
				return wrong(fmt.Sprintf("tools[%d].type", i), "must be function: tools of other types cannot be had")
			}
			if textOf(t.Name) == "" {
				return wrong(fmt.Sprintf("tools[%d].name", i), "is required")
			}
			if err := noOthers(t.Others); err != nil {
				return in(fmt.Sprintf("tools[%d]", i), err)
			}
			tools = append(tools, function(t))
		}
		of = map[string]any{"type": "allowed_tools", "allowed_tools": map[string]any{"mode": textOf(v.Mode), "tools": tools}}
	default:
		return wrong("type", "must be function or allowed_tools: tools of other types cannot be had")
	}
	if err := noOthers(v.Others); err != nil {
		return err
	}
	var err error
	c.value, err = structpb.NewValue(of)
	return err
}

// inWordsOfResponses names the parameter that is wrong as responses have it.
func inWordsOfResponses(r Refusal) Refusal {
	if r.Param == "" {
		return r
	}
	name := responseNames.Replace(r.Param)
	if strings.HasPrefix(name, "messages[") {
		name = "input" // several items may be one message: which one it was is not known
	}
	r.Message = strings.Replace(r.Message, r.Param+": ", name+": ", 1)
	r.Param = name
	return r
}

var responseNames = strings.NewReplacer("].function.", "].", "max_tokens", "max_output_tokens", "reasoning_effort", "reasoning.effort",
	"response_format.json_schema.", "text.format.", "response_format", "text.format", "verbosity", "text.verbosity")
