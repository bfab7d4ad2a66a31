package server

import (
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

func TestAssembly(t *testing.T) {
	call := func(index int32, id, name, arguments string) *engine.Chunk {
		return &engine.Chunk{Delta: &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{
			{Index: proto.Int32(index), Id: id, Name: name, Arguments: arguments},
		}}}
	}
	f := newFixture(t, play(nil, begun,
		&engine.Chunk{Delta: &completionv1.Delta{Reasoning: "hm"}}, &engine.Chunk{Delta: &completionv1.Delta{Reasoning: "m", Refusal: "n"}},
		text("a"), text("b"), call(0, "c0", "f", `{"x"`), call(1, "c1", "g", "{}"), call(0, "", "", ":1}"),
		&engine.Chunk{FinishReason: completionv1.Finished_TOOL_CALLS, Usage: &completionv1.Usage{TotalTokens: 9}}))
	got, err := f.client.CreateCompletion(t.Context(), prompt("x"))
	if err != nil {
		t.Fatal(err)
	}
	want := &completionv1.Completion{
		Id: got.GetId(), Model: "m-1", State: completionv1.Completion_FINISHED, CreateTime: got.GetCreateTime(), LastSequence: 9,
		Text: "ab", Reasoning: "hmm", Refusal: "n",
		ToolCalls: []*completionv1.ToolCall{
			{Index: proto.Int32(0), Id: "c0", Name: "f", Arguments: `{"x":1}`},
			{Index: proto.Int32(1), Id: "c1", Name: "g", Arguments: "{}"},
		},
		FinishReason: completionv1.Finished_TOOL_CALLS, Usage: &completionv1.Usage{TotalTokens: 9},
	}
	if !proto.Equal(got, want) || got.GetCreateTime().AsTime().IsZero() {
		t.Errorf("got %v, want %v", got, want)
	}
	again, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: got.GetId()})
	if err != nil || !proto.Equal(again, want) {
		t.Errorf("got %v, %v", again, err)
	}
}
