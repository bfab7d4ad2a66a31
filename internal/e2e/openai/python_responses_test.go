package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

type pythonResponse struct {
	ID, Status string
	Output     []json.RawMessage
	Usage      struct {
		Total int `json:"total_tokens"`
	}
}

// text returns the text of the last item.
func (r *pythonResponse) text() string {
	var item struct{ Content []struct{ Text string } }
	if len(r.Output) == 0 || json.Unmarshal(r.Output[len(r.Output)-1], &item) != nil || len(item.Content) == 0 {
		return ""
	}
	return item.Content[0].Text
}

func (c *python) responses() error {
	var r pythonResponse
	err := c.object("POST", "/responses", `{"input":"hello","instructions":"Talk like a pirate.","model":"m"}`, "", &r)
	return errors.Join(err, same([]any{r.text(), r.Status, r.Usage.Total}, []any{"Hello, wörld", "completed", 10}))
}

func (c *python) responsesStreamed() error {
	events, err := c.stream("POST", "/responses", `{"input":"hello","model":"m","stream":true}`, "")
	text := ""
	for _, event := range events {
		if event["type"] == "response.output_text.delta" {
			text += event["delta"].(string)
		}
	}
	return errors.Join(err, same(text, "Hello, wörld"))
}

// resumed is examples/responses/background_streaming.py: it breaks off after some events,
// and goes on; the client itself leaves out those that it has had.
func (c *python) resumed() error {
	body := `{"background":true,"input":"place","model":"m","stream":true,"text":{"format":{"type":"json_schema","strict":true,"name":"Place","schema":` + pythonSchema + "}}}"
	first, err := c.stream("POST", "/responses", body, "")
	if err != nil {
		return err
	}
	id := first[0]["response"].(map[string]any)["id"].(string)
	for after := range first[:len(first)-1] {
		rest, err := c.stream("GET", fmt.Sprintf("/responses/%s?starting_after=%d&stream=true", id, after), "", "")
		if err != nil {
			return err
		}
		if err := same(rest, first[after+1:]); err != nil {
			return err
		}
	}
	again, err := c.stream("GET", "/responses/"+id+"?stream=true", "", "")
	return errors.Join(err, same(again, first))
}

// background is examples/responses/background.py, which asks until there is an answer, but
// that it is cancelled.
func (c *python) background() error {
	var begun, running, ended pythonResponse
	err := c.object("POST", "/responses", `{"background":true,"input":"endless","model":"m"}`, "", &begun)
	if err != nil {
		return err
	}
	err = c.object("GET", "/responses/"+begun.ID, "", "", &running)
	err = errors.Join(err, c.object("POST", "/responses/"+begun.ID+"/cancel", "", "", &ended))
	return errors.Join(err, same([]string{begun.Status, running.Status, ended.Status}, []string{"in_progress", "in_progress", "cancelled"}))
}

func (c *python) responseTools() error {
	const tools = `"tools":[{"type":"function","strict":true,"name":"weather","parameters":{"properties":{"city":{"title":"City","type":"string"}},"required":["city"],"title":"weather","type":"object","additionalProperties":false}}]`
	var first, last pythonResponse
	if err := c.object("POST", "/responses", `{"input":"weather","model":"m",`+tools+"}", "", &first); err != nil {
		return err
	}
	input := []string{`{"role":"user","content":"weather"}`}
	for _, item := range first.Output {
		input = append(input, string(item)) // response.output, as it is
		var call struct {
			CallID    string `json:"call_id"`
			Arguments string
		}
		var args struct{ City string }
		if err := errors.Join(json.Unmarshal(item, &call), json.Unmarshal([]byte(call.Arguments), &args)); err != nil {
			return err
		}
		input = append(input, fmt.Sprintf(`{"type":"function_call_output","call_id":"%s","output":"%s: 7 degrees"}`, call.CallID, args.City))
	}
	err := c.object("POST", "/responses", `{"input":[`+strings.Join(input, ",")+`],"model":"m",`+tools+"}", "", &last)
	return errors.Join(err, same(last.text(), "I heard: Bern: 7 degrees; Ulm: 7 degrees"))
}

func (c *python) responseErrors() error {
	var r pythonResponse
	err := c.object("POST", "/responses", `{"input":"broken","model":"m"}`, "", &r)
	if got := new(raised); !errors.As(err, &got) || *got != (raised{503, "upstream_unavailable", false}) {
		return fmt.Errorf("got %w", err)
	}
	events, err := c.stream("POST", "/responses", `{"input":"cut","model":"m","stream":true}`, "")
	if err != nil {
		return err
	}
	return same(events[len(events)-1]["type"], "response.failed")
}
