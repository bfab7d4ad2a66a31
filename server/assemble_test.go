package server

import (
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/journal"
	"github.com/sluice-sse/sluice/server/journal/memory"
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

// TestAssemblyOfPieces puts together what comes in pieces, and what is not text.
func TestAssemblyOfPieces(t *testing.T) {
	call := func(index int32, id, name, arguments, extra string) *completionv1.ToolCall {
		c := &completionv1.ToolCall{Index: proto.Int32(index), Id: id, Name: name, Arguments: arguments}
		if extra != "" {
			c.Extra = structOf(t, extra)
		}
		return c
	}
	calls := func(calls ...*completionv1.ToolCall) *engine.Chunk {
		return &engine.Chunk{Delta: &completionv1.Delta{ToolCalls: calls}}
	}
	likely := func(tokens ...string) (all []*completionv1.TokenLogprob) {
		for i, token := range tokens {
			all = append(all, &completionv1.TokenLogprob{Token: token, Logprob: -1 - float64(i), Bytes: []byte(token)})
		}
		return all
	}
	image := func(url string) *completionv1.Part {
		return &completionv1.Part{Kind: &completionv1.Part_ImageUrl{ImageUrl: &completionv1.ImageURL{Url: url}}}
	}
	f := newFixture(t, atOnce(nil, begun,
		calls(call(0, "c0", "get_", "", "")),
		calls(call(0, "", "weather", `{"x`, `{"google":{"thought_signature":"s"}}`), call(1, "c1", "g", "", "")),
		calls(call(0, "other", "", `":1}`, `{"google":{"more":1}}`), call(1, "c1", "", "{}", "")),
		calls(call(2, "", "late", "{}", "")),
		calls(call(2, "c2", "", "", "")),
		&engine.Chunk{Delta: &completionv1.Delta{Parts: []*completionv1.Part{image("data:,1")}}},
		&engine.Chunk{Delta: &completionv1.Delta{Parts: []*completionv1.Part{image("data:,2"), image("data:,3")}}},
		&engine.Chunk{Delta: &completionv1.Delta{Text: "ab", Logprobs: &completionv1.Logprobs{Content: likely("a", "b")}}},
		&engine.Chunk{Delta: &completionv1.Delta{Text: "c", Logprobs: &completionv1.Logprobs{Content: likely("c"), Refusal: likely("r")}}},
		&engine.Chunk{Delta: &completionv1.Delta{Extra: structOf(t, `{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"h"}]}`)}},
		&engine.Chunk{Delta: &completionv1.Delta{Extra: structOf(t, `{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"m","signature":"s"}],"annotations":[1]}`)}},
		stopped))
	got, err := f.client.CreateCompletion(t.Context(), prompt("x"))
	if err != nil {
		t.Fatal(err)
	}
	want := &completionv1.Completion{
		Id: got.GetId(), Model: "m-1", State: completionv1.Completion_FINISHED, CreateTime: got.GetCreateTime(), LastSequence: 13, Text: "abc",
		ToolCalls: []*completionv1.ToolCall{
			call(0, "c0", "get_weather", `{"x":1}`, `{"google":{"thought_signature":"s","more":1}}`), call(1, "c1", "g", "{}", ""), call(2, "c2", "late", "{}", ""),
		},
		FinishReason: completionv1.Finished_STOP, Usage: &completionv1.Usage{TotalTokens: 3},
		Parts:    []*completionv1.Part{image("data:,1"), image("data:,2"), image("data:,3")},
		Logprobs: &completionv1.Logprobs{Content: append(likely("a", "b"), likely("c")...), Refusal: likely("r")},
		Extra:    structOf(t, `{"reasoning_details":[{"type":"reasoning.text","index":0,"text":"hm","signature":"s"}],"annotations":[1]}`),
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	again, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: got.GetId()})
	if err != nil || !proto.Equal(again, want) {
		t.Errorf("got %v, %v", again, err)
	}
}

// TestAssemblyIsLinear puts together more and more of all that an answer can have
// much of.
func TestAssemblyIsLinear(t *testing.T) {
	for _, tt := range []struct {
		name  string
		delta func(i int) *completionv1.Delta
	}{
		{"texts", func(int) *completionv1.Delta {
			return &completionv1.Delta{Text: "word", Reasoning: "word", Refusal: "word"}
		}},
		{"tool calls, a delta each", func(i int) *completionv1.Delta {
			return &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(int32(i)), Id: "c", Name: "f"}}}
		}},
		{"pieces of one call", func(int) *completionv1.Delta {
			return &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Name: "f", Arguments: "a"}}}
		}},
		{"parts", func(int) *completionv1.Delta {
			return &completionv1.Delta{Parts: []*completionv1.Part{{Kind: &completionv1.Part_Text{Text: "p"}}}}
		}},
		{"logprobs", func(int) *completionv1.Delta {
			return &completionv1.Delta{Logprobs: &completionv1.Logprobs{Content: []*completionv1.TokenLogprob{{Token: "t"}}}}
		}},
	} {
		checkLinear(t, tt.name, func(n int) func() {
			m := memory.New(memory.Config{})
			t.Cleanup(m.Close)
			w, _, err := m.Create(t.Context(), journal.Completion{ID: "a"}, nobody{})
			for i := range n {
				data, _ := appendDelta(nil, int32(i+1), tt.delta(i))
				if err == nil {
					_, err = w.Append(t.Context(), []journal.Entry{{Sequence: int32(i + 1), Data: data}})
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			s := New(Config{Journal: m})
			t.Cleanup(s.Close)
			return func() {
				if c, err := s.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: "a"}); err != nil || c.GetLastSequence() != int32(n) {
					t.Errorf("up to %d, %v", c.GetLastSequence(), err)
				}
			}
		})
	}
}

// nobody is the owner of what the test itself writes.
type nobody struct{}

func (nobody) Cancel()     {}
func (nobody) Readers(int) {}

// TestReadersAreLinear has more and more readers of one completion come and go.
func TestReadersAreLinear(t *testing.T) {
	m := memory.New(memory.Config{})
	t.Cleanup(m.Close)
	if _, _, err := m.Create(t.Context(), journal.Completion{ID: "a"}, nobody{}); err != nil {
		t.Fatal(err)
	}
	checkLinear(t, "readers", func(n int) func() {
		return func() {
			readers := make([]journal.Reader, n)
			for i := range readers {
				readers[i], _ = m.Follow(t.Context(), "a", 0)
			}
			for i := range readers { // the last one first: a list is walked to its end
				readers[n-1-i].Close()
			}
		}
	})
}
