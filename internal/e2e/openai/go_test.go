package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// runOpenAIGo has the official Go client do what the programs of testdata/openai do.
func runOpenAIGo(t *testing.T, url string) map[string]string {
	t.Helper()
	c := &goClient{t: t, Client: openai.NewClient(option.WithBaseURL(url), option.WithAPIKey("anything")), legacy: strings.Contains(url, "/openai/")}
	result := map[string]string{}
	for feature, run := range map[string]func() error{
		"chat, whole": c.whole, "chat, streamed": c.streamed, "stream helper": c.helper, "usage": c.usage, "tool loop": c.tools, "structured output": c.structured,
		"reasoning": c.reasoning, "refusal": c.refusal, "logprobs": c.logprobs, "images in": c.images, "legacy completions": c.text, "models": c.models, "errors": c.errors, "abort": c.abort,
	} {
		result[feature] = ""
		if err := run(); err != nil {
			result[feature] = err.Error()
		}
	}
	return result
}

type goClient struct {
	t *testing.T
	openai.Client
	legacy bool
}

// scene is a request for a scene.
func scene(name string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: "m", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(name)}}
}

// same returns an error unless two values are the same.
func same(got, want any) error {
	if !reflect.DeepEqual(got, want) {
		return fmt.Errorf("got %v, want %v", got, want)
	}
	return nil
}

// create asks for a whole completion.
func (c *goClient) create(params openai.ChatCompletionNewParams) (openai.ChatCompletionChoice, error) {
	completion, err := c.Chat.Completions.New(c.t.Context(), params)
	if err != nil {
		return openai.ChatCompletionChoice{}, err
	}
	if len(completion.Choices) != 1 {
		return openai.ChatCompletionChoice{}, fmt.Errorf("%d choices", len(completion.Choices))
	}
	return completion.Choices[0], nil
}

// accumulate asks for a stream, and returns what the client's accumulator makes of it.
func (c *goClient) accumulate(params openai.ChatCompletionNewParams) (*openai.ChatCompletionAccumulator, error) {
	stream := c.Chat.Completions.NewStreaming(c.t.Context(), params)
	defer stream.Close()
	sum := &openai.ChatCompletionAccumulator{}
	for stream.Next() {
		if !sum.AddChunk(stream.Current()) {
			return nil, errors.New("the accumulator does not take a chunk")
		}
	}
	return sum, stream.Err()
}

func (c *goClient) whole() error {
	choice, err := c.create(scene("hello"))
	return errors.Join(err, same([]string{choice.Message.Content, choice.FinishReason}, []string{"Hello, wörld", "stop"}))
}

func (c *goClient) streamed() error {
	stream := c.Chat.Completions.NewStreaming(c.t.Context(), scene("hello"))
	var text, reason string
	for stream.Next() {
		choice := stream.Current().Choices[0]
		text += choice.Delta.Content
		reason = choice.FinishReason
	}
	return errors.Join(stream.Err(), same(text+reason, "Hello, wörldstop"))
}

func (c *goClient) helper() error {
	sum, err := c.accumulate(scene("hello"))
	if err != nil {
		return err
	}
	return same(sum.Choices[0].Message.Content, "Hello, wörld")
}

func (c *goClient) usage() error {
	params := scene("hello")
	params.StreamOptions.IncludeUsage = openai.Bool(true)
	sum, err := c.accumulate(params)
	if err != nil {
		return err
	}
	return same([]int64{sum.Usage.PromptTokens, sum.Usage.CompletionTokens, sum.Usage.TotalTokens}, []int64{7, 3, 10})
}

func (c *goClient) tools() error {
	for _, stream := range []bool{false, true} {
		create := c.create
		if stream {
			create = func(params openai.ChatCompletionNewParams) (openai.ChatCompletionChoice, error) {
				sum, err := c.accumulate(params)
				if err != nil {
					return openai.ChatCompletionChoice{}, err
				}
				return sum.Choices[0], nil
			}
		}
		params := scene("weather")
		params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name: "weather", Parameters: openai.FunctionParameters{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}}})}
		answer, err := create(params)
		if err != nil {
			return err
		}
		params.Messages = append(params.Messages, answer.Message.ToParam())
		for _, call := range answer.Message.ToolCalls {
			var args struct{ City string }
			if err := json.Unmarshal([]byte(call.Function.Arguments), &args); err != nil {
				return err
			}
			params.Messages = append(params.Messages, openai.ToolMessage(args.City+": 7 degrees", call.ID))
		}
		if answer, err = create(params); err != nil {
			return err
		}
		if err := same(answer.Message.Content, "I heard: Bern: 7 degrees; Ulm: 7 degrees"); err != nil {
			return err
		}
	}
	return nil
}

func (c *goClient) structured() error {
	params := scene("place")
	params.ResponseFormat.OfJSONSchema = &openai.ResponseFormatJSONSchemaParam{JSONSchema: openai.ResponseFormatJSONSchemaJSONSchemaParam{
		Name: "place", Strict: openai.Bool(true), Schema: map[string]any{"type": "object"}}}
	choice, err := c.create(params)
	var place struct{ City string }
	return errors.Join(err, json.Unmarshal([]byte(choice.Message.Content), &place), same(place.City, "Bern"))
}

func (c *goClient) reasoning() error {
	choice, err := c.create(scene("think"))
	return errors.Join(err, same(choice.Message.JSON.ExtraFields["reasoning_content"].Raw(), `"Hm, so."`))
}

func (c *goClient) refusal() error {
	choice, err := c.create(scene("refuse"))
	if err != nil {
		return err
	}
	sum, err := c.accumulate(scene("refuse"))
	if err != nil {
		return err
	}
	return errors.Join(same(choice.Message.Refusal, "I will not"), same(sum.Choices[0].Message.Refusal, "I will not"))
}

func (c *goClient) logprobs() error {
	params := scene("likely")
	params.Logprobs, params.TopLogprobs = openai.Bool(true), openai.Int(1)
	choice, err := c.create(params)
	if err != nil {
		return err
	}
	sum, err := c.accumulate(params)
	if err != nil {
		return err
	}
	return errors.Join(same(choice.Logprobs.Content[0].TopLogprobs[0].Token, "Hi"), same(sum.Choices[0].Logprobs.Content[0].Logprob, -0.25))
}

func (c *goClient) images() error {
	params := scene("")
	params.Messages = []openai.ChatCompletionMessageParamUnion{openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
		openai.TextContentPart("look"), openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: "https://x.test/a.png", Detail: "low"})})}
	choice, err := c.create(params)
	return errors.Join(err, same(choice.Message.Content, "I see https://x.test/a.png (low)"))
}

func (c *goClient) text() error {
	params := openai.CompletionNewParams{Model: "m", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("hello")}}
	if !c.legacy {
		return nil
	}
	completion, err := c.Completions.New(c.t.Context(), params)
	if err != nil {
		return err
	}
	stream, text := c.Completions.NewStreaming(c.t.Context(), params), ""
	for stream.Next() {
		text += stream.Current().Choices[0].Text
	}
	return errors.Join(stream.Err(), same([]string{completion.Choices[0].Text, text}, []string{"Hello, wörld", "Hello, wörld"}))
}

func (c *goClient) models() error {
	var ids []string
	models := c.Models.ListAutoPaging(c.t.Context())
	for models.Next() {
		ids = append(ids, models.Current().ID)
	}
	model, err := c.Models.Get(c.t.Context(), "echo")
	if err != nil {
		return err
	}
	return errors.Join(models.Err(), same(slices.Clone(ids), []string{"m", "echo"}), same(model.ID, "echo"))
}

func (c *goClient) errors() error {
	for _, tt := range []struct {
		scene  string
		status int
		code   string
	}{
		{"too long", 400, "context_length_exceeded"}, {"broken", 503, "upstream_unavailable"},
	} {
		var refused *openai.Error
		if _, err := c.create(scene(tt.scene)); !errors.As(err, &refused) || refused.StatusCode != tt.status || refused.Code != tt.code {
			return fmt.Errorf("%s: %w", tt.scene, err)
		}
	}
	if _, err := c.accumulate(scene("cut")); err == nil || !strings.Contains(err.Error(), "upstream_truncated") {
		return fmt.Errorf("an answer that is cut ends with %v", err)
	}
	return nil
}

func (c *goClient) abort() error {
	stream := c.Chat.Completions.NewStreaming(c.t.Context(), scene("endless"))
	if !stream.Next() {
		return stream.Err()
	}
	return stream.Close()
}
