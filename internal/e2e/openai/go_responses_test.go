package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/responses"
)

// runOpenAIGoResponses has the official Go client do what testdata/openai/responses.js does.
func runOpenAIGoResponses(t *testing.T, url string) map[string]string {
	t.Helper()
	c := &goResponses{t: t, Client: openai.NewClient(option.WithBaseURL(url), option.WithAPIKey("anything"))}
	result := map[string]string{}
	for feature, run := range map[string]func() error{
		"whole": c.whole, "streamed": c.streamed, "resumed": c.resumed, "background": c.background, "tool loop": c.tools, "structured output": c.structured,
		"reasoning": c.reasoning, "refusal": c.refusal, "images in": c.images, "errors": c.errors, "abort": c.abort,
	} {
		feature = "responses, " + feature
		result[feature] = ""
		if err := run(); err != nil {
			result[feature] = err.Error()
		}
	}
	return result
}

type goResponses struct {
	t *testing.T
	openai.Client
}

// sceneInput is a request for a scene.
func sceneInput(name string) responses.ResponseNewParams {
	return responses.ResponseNewParams{Model: "m", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(name)}}
}

func (c *goResponses) create(params responses.ResponseNewParams) (*responses.Response, error) {
	return c.Responses.New(c.t.Context(), params)
}

// stream asks for a stream.
func (c *goResponses) stream(params responses.ResponseNewParams) ([]responses.ResponseStreamEventUnion, error) {
	return allOf(c.Responses.NewStreaming(c.t.Context(), params))
}

// allOf returns the events of a stream, which must end in a response.
func allOf(stream *ssestream.Stream[responses.ResponseStreamEventUnion]) (all []responses.ResponseStreamEventUnion, err error) {
	defer stream.Close()
	for stream.Next() {
		all = append(all, stream.Current())
	}
	if stream.Err() == nil && (len(all) == 0 || all[len(all)-1].Response.ID == "") {
		return all, errors.New("the stream ends without a response")
	}
	return all, stream.Err()
}

func (c *goResponses) whole() error {
	r, err := c.create(sceneInput("hello"))
	if err != nil {
		return err
	}
	return same([]any{r.OutputText(), r.Status, r.Usage.TotalTokens}, []any{"Hello, wörld", responses.ResponseStatusCompleted, int64(10)})
}

func (c *goResponses) streamed() error {
	all, err := c.stream(sceneInput("hello"))
	if err != nil {
		return err
	}
	text := ""
	for i, event := range all {
		if event.SequenceNumber != int64(i) {
			return fmt.Errorf("the event %d has the number %d", i, event.SequenceNumber)
		}
		if event.Type == "response.output_text.delta" {
			text += event.AsResponseOutputTextDelta().Delta
		}
	}
	last := all[len(all)-1].AsResponseCompleted()
	return same([]string{text, last.Response.OutputText()}, []string{"Hello, wörld", "Hello, wörld"})
}

func (c *goResponses) resumed() error {
	all, err := c.stream(sceneInput("think"))
	if err != nil {
		return err
	}
	id := all[0].Response.ID
	for i := range all[:len(all)-1] {
		rest, err := allOf(c.Responses.GetStreaming(c.t.Context(), id, responses.ResponseGetParams{StartingAfter: openai.Int(int64(i))}))
		if err != nil {
			return err
		}
		for j, event := range rest {
			if want := all[i+1+j]; event.RawJSON() != want.RawJSON() {
				return fmt.Errorf("after %d: got %s, want %s", i, event.RawJSON(), want.RawJSON())
			}
		}
	}
	return nil
}

func (c *goResponses) background() error {
	params := sceneInput("endless")
	params.Background = openai.Bool(true)
	begun, err := c.create(params)
	if err != nil {
		return err
	}
	running, err := c.Responses.Get(c.t.Context(), begun.ID, responses.ResponseGetParams{})
	if err != nil {
		return err
	}
	ended, err := c.Responses.Cancel(c.t.Context(), begun.ID)
	if err != nil {
		return err
	}
	return same([]responses.ResponseStatus{begun.Status, running.Status, ended.Status}, []responses.ResponseStatus{"in_progress", "in_progress", "cancelled"})
}

func (c *goResponses) tools() error {
	params := sceneInput("weather")
	params.Tools = []responses.ToolUnionParam{responses.ToolParamOfFunction("weather", map[string]any{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}}, false)}
	first, err := c.create(params)
	if err != nil {
		return err
	}
	input := responses.ResponseInputParam{responses.ResponseInputItemParamOfMessage("weather", "user")}
	for _, item := range first.Output {
		var args struct{ City string }
		call := item.AsFunctionCall()
		if err := json.Unmarshal([]byte(call.Arguments), &args); err != nil {
			return err
		}
		own, output := call.ToParam(), responses.ResponseInputItemParamOfFunctionCallOutput(args.City+": 7 degrees")
		output.OfFunctionCallOutput.CallID = openai.String(call.CallID)
		input = append(input, responses.ResponseInputItemUnionParam{OfFunctionCall: &own}, output)
	}
	params.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: input}
	last, err := c.create(params)
	if err != nil {
		return err
	}
	return same(last.OutputText(), "I heard: Bern: 7 degrees; Ulm: 7 degrees")
}

func (c *goResponses) structured() error {
	params := sceneInput("place")
	params.Text.Format = responses.ResponseFormatTextConfigParamOfJSONSchema("place", map[string]any{"type": "object"})
	r, err := c.create(params)
	if err != nil {
		return err
	}
	var place struct{ City string }
	return errors.Join(json.Unmarshal([]byte(r.OutputText()), &place), same(place.City, "Bern"))
}

func (c *goResponses) reasoning() error {
	r, err := c.create(sceneInput("think"))
	if err != nil {
		return err
	}
	return same([]string{r.Output[0].AsReasoning().Summary[0].Text, r.OutputText()}, []string{"Hm, so.", "Yes"})
}

func (c *goResponses) refusal() error {
	r, err := c.create(sceneInput("refuse"))
	if err != nil {
		return err
	}
	return same(r.Output[0].Content[0].Refusal, "I will not")
}

func (c *goResponses) images() error {
	image := responses.ResponseInputContentParamOfInputImage("low")
	image.OfInputImage.ImageURL = openai.String("https://x.test/a.png")
	params := sceneInput("")
	params.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{responses.ResponseInputItemParamOfMessage(
		responses.ResponseInputMessageContentListParam{responses.ResponseInputContentParamOfInputText("look"), image}, "user")}}
	r, err := c.create(params)
	if err != nil {
		return err
	}
	return same(r.OutputText(), "I see https://x.test/a.png (low)")
}

func (c *goResponses) errors() error {
	var refused *openai.Error
	if _, err := c.create(sceneInput("too long")); !errors.As(err, &refused) || refused.StatusCode != 400 || refused.Code != "context_length_exceeded" {
		return fmt.Errorf("too long: %w", err)
	}
	all, err := c.stream(sceneInput("cut"))
	if err != nil {
		return err
	}
	return same(string(all[len(all)-1].AsResponseFailed().Response.Error.Code), "upstream_truncated")
}

func (c *goResponses) abort() error {
	stream := c.Responses.NewStreaming(c.t.Context(), sceneInput("endless"))
	if !stream.Next() {
		return stream.Err()
	}
	return stream.Close()
}
