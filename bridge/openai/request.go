package openai

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/jsonbody"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Request is what a body asks for.
type Request struct {
	Completion   *completionv1.CompletionRequest
	Stream       bool // the answer is wanted in chunks
	IncludeUsage bool // with the usage in one of its own
	Background   bool // and nobody needs to wait for it
}

// common are the parameters that chat and legacy completions have in common. What is
// null counts as absent.
type common struct {
	Model            *string             `json:"model"`
	MaxTokens        *int32              `json:"max_tokens"`
	Temperature      *float64            `json:"temperature"`
	TopP             *float64            `json:"top_p"`
	Stop             texts               `json:"stop"`
	Seed             *int64              `json:"seed"`
	PresencePenalty  *float64            `json:"presence_penalty"`
	FrequencyPenalty *float64            `json:"frequency_penalty"`
	LogitBias        map[string]*float64 `json:"logit_bias"`
	User             *string             `json:"user"`
	Stream           *bool               `json:"stream"`
	StreamOptions    *streamOptions      `json:"stream_options"`
	N                *int64              `json:"n"`
	DisconnectGrace  *duration           `json:"disconnect_grace"`
}

type streamOptions struct {
	IncludeUsage       *bool          `json:"include_usage"`
	IncludeObfuscation *bool          `json:"include_obfuscation"` // nothing is obfuscated here: it says nothing of the answer
	Unknown            jsontext.Value `json:",unknown"`
}

// chatBody is the body of POST /chat/completions.
type chatBody struct {
	common
	Messages            []message          `json:"messages"`
	MaxCompletionTokens *int32             `json:"max_completion_tokens"`
	Tools               []tool             `json:"tools"`
	ToolChoice          *anyValue          `json:"tool_choice"`
	ParallelToolCalls   *bool              `json:"parallel_tool_calls"`
	ResponseFormat      *responseFormat    `json:"response_format"`
	ReasoningEffort     *string            `json:"reasoning_effort"`
	Verbosity           *string            `json:"verbosity"`
	Logprobs            *bool              `json:"logprobs"`
	TopLogprobs         *int32             `json:"top_logprobs"`
	Metadata            map[string]*string `json:"metadata"`
	ServiceTier         *string            `json:"service_tier"`
	Others              jsontext.Value     `json:",unknown"`
}

// textBody is the body of POST /completions.
type textBody struct {
	common
	Prompt   *prompt        `json:"prompt"`
	Logprobs *int32         `json:"logprobs"`
	BestOf   *int64         `json:"best_of"`
	Echo     *bool          `json:"echo"`
	Others   jsontext.Value `json:",unknown"`
}

// DecodeChat makes a request of the body of POST /chat/completions.
func DecodeChat(ctx context.Context, d jsonbody.Decoder, body []byte) (*Request, error) {
	var b chatBody
	if err := decode(ctx, d, body, chat, &b); err != nil {
		return nil, err
	}
	r, err := b.toRequest()
	return r, invalid(err)
}

func (b *chatBody) toRequest() (*Request, error) {
	if len(b.Messages) == 0 {
		return nil, wrong("messages", "is required")
	}
	req := &completionv1.CompletionRequest{
		MaxCompletionTokens: b.MaxCompletionTokens,
		ToolChoice:          b.ToolChoice.toValue(),
		ParallelToolCalls:   b.ParallelToolCalls,
		ReasoningEffort:     b.ReasoningEffort,
		Verbosity:           b.Verbosity,
		Logprobs:            b.Logprobs,
		TopLogprobs:         b.TopLogprobs,
		ServiceTier:         b.ServiceTier,
		Metadata:            withoutNulls(b.Metadata),
	}
	r, err := b.request(req, chat, b.Others)
	if err != nil {
		return nil, err
	}
	for i := range b.Messages {
		m, err := b.Messages[i].toMessage()
		if err != nil {
			return nil, in(fmt.Sprintf("messages[%d]", i), err)
		}
		req.Messages = append(req.Messages, m)
	}
	for i := range b.Tools {
		t, err := b.Tools[i].toMessage()
		if err != nil {
			return nil, in(fmt.Sprintf("tools[%d]", i), err)
		}
		req.Tools = append(req.Tools, t)
	}
	if req.ResponseFormat, err = b.ResponseFormat.toMessage(); err != nil {
		return nil, in("response_format", err)
	}
	return r, nil
}

// DecodeText makes a request of the body of POST /completions.
func DecodeText(ctx context.Context, d jsonbody.Decoder, body []byte) (*Request, error) {
	var b textBody
	if err := decode(ctx, d, body, text, &b); err != nil {
		return nil, err
	}
	r, err := b.toRequest()
	return r, invalid(err)
}

func (b *textBody) toRequest() (*Request, error) {
	req := &completionv1.CompletionRequest{}
	switch {
	case b.Prompt == nil:
		return nil, wrong("prompt", "is required")
	case b.BestOf != nil && *b.BestOf != 1:
		return nil, wrong("best_of", "must be 1: a completion is one answer")
	case b.Echo != nil && *b.Echo:
		return nil, wrong("echo", "must be false: put the prompt before the text yourself")
	case b.Logprobs != nil:
		req.Logprobs, req.TopLogprobs = proto.Bool(true), b.Logprobs
	}
	req.Prompt = proto.String(string(*b.Prompt))
	return b.request(req, text, b.Others)
}

// request fills in what both kinds have in common.
func (b *common) request(req *completionv1.CompletionRequest, of endpoint, others jsontext.Value) (*Request, error) {
	if b.N != nil && *b.N != 1 {
		return nil, wrong("n", "must be 1: a completion is one answer, and another answer is another request")
	}
	if b.Model != nil {
		req.Model = *b.Model
	}
	req.MaxTokens, req.Temperature, req.TopP, req.Seed, req.User = b.MaxTokens, b.Temperature, b.TopP, b.Seed, b.User
	req.PresencePenalty, req.FrequencyPenalty = b.PresencePenalty, b.FrequencyPenalty
	req.Stop, req.LogitBias, req.DisconnectGrace = b.Stop, withoutNulls(b.LogitBias), b.DisconnectGrace.toMessage()
	r := &Request{Completion: req}
	if b.Stream != nil {
		r.Stream = *b.Stream
	}
	if o := b.StreamOptions; o != nil {
		if !r.Stream {
			return nil, wrong("stream_options", "is for a request with stream: true")
		}
		if err := noOthers(o.Unknown); err != nil {
			return nil, in("stream_options", err)
		}
		r.IncludeUsage = o.IncludeUsage != nil && *o.IncludeUsage
	}
	var err error
	req.ExtraJson, err = extraOf(others, of)
	return r, err
}

// extraOf returns what goes upstream as it is: the parameters that are not made into
// fields, but for those that cannot be had.
func extraOf(others jsontext.Value, of endpoint) (string, error) {
	names, values, err := membersOf(others)
	if err != nil || len(names) == 0 {
		return "", err
	}
	kept := make([]byte, 0, len(others))
	fields := (&completionv1.CompletionRequest{}).ProtoReflect().Descriptor().Fields()
	for i, name := range names {
		p := find(name, of)
		if values[i].Kind() == 'n' && p.use != passedOn && p.name != "" {
			continue // as absent
		}
		switch {
		case p.use == refused:
			return "", wrong(name, "%s", p.say)
		case p.name != "" && p.of&of == 0:
			return "", wrong(name, "is a parameter of POST %s", p.of.path())
		case fields.ByJSONName(name) != nil || fields.ByTextName(name) != nil:
			return "", wrong(name, "is no parameter of this API")
		}
		kept = append(kept, ',')
		kept = append(append(appendString(kept, name), ':'), values[i]...)
	}
	if len(kept) == 0 {
		return "", nil
	}
	kept[0] = '{'
	return string(append(kept, '}')), nil
}

// membersOf returns the members of an object, in their order.
func membersOf(object jsontext.Value) (names []string, values []jsontext.Value, err error) {
	if len(object) == 0 {
		return nil, nil, nil
	}
	d := jsontext.NewDecoder(strings.NewReader(string(object)))
	if _, err := d.ReadToken(); err != nil {
		return nil, nil, err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, nil, err
		}
		names = append(names, name.String())
		value, err := d.ReadValue()
		if err != nil {
			return nil, nil, err
		}
		values = append(values, slices.Clone(value))
	}
	return names, values, nil
}

// noOthers refuses the members of an object that are not known. One that is null says
// nothing.
func noOthers(others jsontext.Value) error {
	names, values, err := membersOf(others)
	for i, name := range names {
		if values[i].Kind() != 'n' {
			return wrong(name, "is not known here, and so cannot be had")
		}
	}
	return err
}

// structOf returns members as a Struct, but for those that are null or of no meaning.
func structOf(others jsontext.Value, ignored ...string) (*structpb.Struct, error) {
	names, values, err := membersOf(others)
	if err != nil {
		return nil, err
	}
	var s *structpb.Struct
	for i, name := range names {
		if values[i].Kind() == 'n' || slices.Contains(ignored, name) {
			continue
		}
		var v anyValue
		if err := v.set(values[i]); err != nil {
			return nil, in(name, err)
		}
		if s == nil {
			s = &structpb.Struct{Fields: map[string]*structpb.Value{}}
		}
		s.Fields[name] = v.value
	}
	return s, nil
}

func withoutNulls[V any](m map[string]*V) map[string]V {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]V, len(m))
	for name, value := range m {
		if value != nil {
			out[name] = *value
		}
	}
	return out
}

// mistake is what is wrong with a parameter.
type mistake struct{ param, what string }

func (m *mistake) Error() string {
	if m.param == "" {
		return m.what
	}
	return m.param + ": " + m.what
}

// wrong returns a mistake.
func wrong(param, format string, args ...any) error {
	return &mistake{failure.Clip(param), fmt.Sprintf(format, args...)}
}

// in says where a mistake is.
func in(where string, err error) error {
	var m *mistake
	switch {
	case !errors.As(err, &m):
		return err
	case m.param == "":
		return &mistake{where, m.what}
	case strings.HasPrefix(m.param, "["):
		return &mistake{where + m.param, m.what}
	}
	return &mistake{where + "." + m.param, m.what}
}

// invalid returns a mistake as callers are told it.
func invalid(err error) error {
	var m *mistake
	if !errors.As(err, &m) {
		return err
	}
	return failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, m.param, "%s", m.Error())
}
