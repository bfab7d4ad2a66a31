package enginetest_test

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/engine/enginetest"
)

func TestScript(t *testing.T) {
	enginetest.Run(t, enginetest.Config{Abilities: enginetest.All, Open: func(t testing.TB, want enginetest.Completion) (engine.Engine, *completionv1.CompletionRequest) {
		return perform(want), &completionv1.CompletionRequest{Model: "m", Prompt: proto.String("x")}
	}})
}

// perform returns a script that produces a completion.
func perform(want enginetest.Completion) enginetest.Script {
	return func(ctx context.Context, emit func(...*engine.Chunk) error) error {
		usage := &completionv1.Usage{PromptTokens: 3, TotalTokens: 3}
		ready := []*engine.Chunk{{Model: "m-1"}}
		for i, burst := range want.Bursts {
			if i > 0 && want.Resume != nil {
				select {
				case <-want.Resume:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			for _, text := range burst {
				usage.CompletionTokens++
				usage.TotalTokens++
				ready = append(ready, &engine.Chunk{Delta: &completionv1.Delta{Text: text}})
			}
			if err := emit(ready...); err != nil {
				return err
			}
			ready = nil
		}
		switch want.End {
		case enginetest.Fail:
			return errors.New("failed")
		case enginetest.Silence:
			<-ctx.Done()
			return context.Cause(ctx)
		case enginetest.Stop:
			ready = append(ready, &engine.Chunk{FinishReason: completionv1.Finished_STOP})
		case enginetest.Length:
			ready = append(ready, &engine.Chunk{FinishReason: completionv1.Finished_LENGTH})
		}
		return emit(append(ready, &engine.Chunk{Usage: usage})...)
	}
}

// TestScriptTakesChunksBack checks that the strings of a chunk are overwritten by the next
// call.
func TestScriptTakesChunksBack(t *testing.T) {
	given := &completionv1.Delta{Text: "a", Reasoning: "b", ToolCalls: []*completionv1.ToolCall{{Id: "c", Arguments: "d"}}, Parts: []*completionv1.Part{{Kind: &completionv1.Part_Text{Text: "e"}}}}
	s := enginetest.Script(func(_ context.Context, emit func(...*engine.Chunk) error) error {
		return emit(&engine.Chunk{Delta: given}, &engine.Chunk{Delta: &completionv1.Delta{Text: "f"}})
	}).Generate(t.Context(), nil)
	defer s.Close()
	first, err := s.Next(true)
	if err != nil || !proto.Equal(first.Delta, given) {
		t.Fatalf("got %v, %v", first, err)
	}
	kept := first.Delta
	if second, err := s.Next(false); err != nil || second.Delta.GetText() != "f" {
		t.Fatalf("got %v, %v", second, err)
	}
	if call, part := kept.GetToolCalls()[0], kept.GetParts()[0]; kept.GetText() != "#" || kept.GetReasoning() != "#" ||
		call.GetId() != "#" || call.GetArguments() != "#" || part.GetText() != "#" {
		t.Errorf("the first delta is still %v", kept)
	}
	if given.GetText() != "a" || given.GetToolCalls()[0].GetId() != "c" {
		t.Errorf("the script's own chunk became %v", given)
	}
}
