package openai

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// A server may tell the log probabilities of all tokens, those of reasoning and of calls, too:
// these part nothing, and begin no message of nothing.
func TestResponseLogprobsOfOtherThanText(t *testing.T) {
	likely := func(token string, d *completionv1.Delta) *completionv1.CompletionEvent {
		d.Logprobs = &completionv1.Logprobs{Content: []*completionv1.TokenLogprob{{Token: token, Logprob: -0.5}}}
		return delta(d)
	}
	call := func(id, arguments string) *completionv1.Delta {
		return &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Id: id, Arguments: arguments}}}
	}
	stream, all := responseTo(t, &ResponseEncoder{}, created,
		likely("Hm", &completionv1.Delta{Reasoning: "Hm"}), likely("</think>", &completionv1.Delta{}), likely(".", &completionv1.Delta{Reasoning: "."}),
		likely("Yes", &completionv1.Delta{Text: "Yes"}), likely("half of a sign", &completionv1.Delta{}), likely("!", &completionv1.Delta{Text: "!"}),
		likely("{", call("x", "{")), likely("}", call("", "}")), likely("<end>", &completionv1.Delta{}), ended(completionv1.Finished_STOP))
	accumulate(t, all)
	if got, want := describeItems(all[len(all)-1]["response"].(map[string]any)), `reasoning  ["summary_text:Hm."]; message completed ["output_text:Yes!"]; function_call completed x  {}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for token, want := range map[string]bool{"Hm": false, "Yes": true, "half of a sign": true, "!": true, "<end>": false} {
		if got := strings.Contains(stream, `{"token":"`+token+`"`); got != want {
			t.Errorf("the token %q is told: %v", token, got)
		}
	}
	stream, all = responseTo(t, &ResponseEncoder{}, created, likely("half of a sign", &completionv1.Delta{}), likely("rest", &completionv1.Delta{Text: "é"}), ended(completionv1.Finished_STOP))
	if got := describeItems(all[len(all)-1]["response"].(map[string]any)); got != `message completed ["output_text:é"]` || !strings.Contains(stream, "half of a sign") {
		t.Errorf("got %s", stream)
	}
}

// A reference stands for an item as it was told: all of it, or none.
func TestReferencesToOddItems(t *testing.T) {
	events := []*completionv1.CompletionEvent{created, thought("Hm"), delta(&completionv1.Delta{Refusal: "I"}), text1(" can"), delta(&completionv1.Delta{Refusal: " not"}), called(0, "x", "f", "{}")}
	find := func(events ...*completionv1.CompletionEvent) *conversation {
		return &conversation{most: 1000, room: 1000, find: func(context.Context, string) (*WholeResponse, error) {
			w := NewWholeResponse(nil)
			for _, event := range events {
				if err := w.Add(event); err != nil {
					t.Fatal(err)
				}
			}
			return w, nil
		}}
	}
	c := find(append(events, ended(completionv1.Finished_STOP))...)
	id := strings.TrimPrefix(testID, nativePrefix)
	if err := c.reference(t.Context(), "msg_"+id+"_1"); err != nil {
		t.Fatal(err)
	}
	if got := c.out[0]; got.GetContent() != " can" || got.GetExtra().GetFields()["refusal"].GetStringValue() != "I not" {
		t.Errorf("got %v", got)
	}
	for _, tt := range []struct {
		item   string
		events []*completionv1.CompletionEvent // of a response that runs
		want   string
	}{
		{"rs_" + id + "_0", events, ""}, // it is whole
		{"rs_" + id + "_0", events[:2], "is that of an item that is not complete yet"},
		{"msg_" + id + "_1", events[:4], "is that of an item that is not complete yet"},
		{"fc_" + id + "_2", events, "is that of an item that is not complete yet"},
	} {
		err := find(tt.events...).reference(t.Context(), tt.item)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s after %d events: got %v", tt.item, len(tt.events), err)
		}
	}
}
