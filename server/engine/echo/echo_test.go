package echo

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

func TestGenerate(t *testing.T) {
	user := func(texts ...string) []*completionv1.Message {
		var messages []*completionv1.Message
		for _, text := range texts {
			messages = append(messages, &completionv1.Message{Role: "user", Content: &text})
		}
		return messages
	}
	tests := []struct {
		name   string
		req    *completionv1.CompletionRequest
		words  []string
		finish completionv1.Finished_FinishReason
		prompt int32
	}{
		{"prompt", &completionv1.CompletionRequest{Prompt: proto.String("a bc  d\n")}, []string{"a", " bc", "  d", "\n"}, completionv1.Finished_STOP, 4},
		{"nothing", &completionv1.CompletionRequest{Prompt: proto.String("")}, nil, completionv1.Finished_STOP, 0},
		{"spaces", &completionv1.CompletionRequest{Prompt: proto.String(" \u2028 ")}, []string{" \u2028 "}, completionv1.Finished_STOP, 1},
		{"characters of many bytes", &completionv1.CompletionRequest{Prompt: proto.String("👩‍👩‍👧 é")}, []string{"👩‍👩‍👧", " é"}, completionv1.Finished_STOP, 2},
		{"what the user said last", &completionv1.CompletionRequest{Messages: append(user("a b", "c d"), &completionv1.Message{Role: "assistant", Content: proto.String("e")})}, []string{"c", " d"}, completionv1.Finished_STOP, 5},
		{"parts", &completionv1.CompletionRequest{Messages: []*completionv1.Message{{Role: "user", Parts: []*completionv1.Part{
			{Kind: &completionv1.Part_Text{Text: "a "}}, {Kind: &completionv1.Part_ImageUrl{ImageUrl: &completionv1.ImageURL{Url: "data:,"}}}, {Kind: &completionv1.Part_Text{Text: "b"}},
		}}}}, []string{"a", " b"}, completionv1.Finished_STOP, 2},
		{"max_tokens", &completionv1.CompletionRequest{Prompt: proto.String("a b c"), MaxTokens: proto.Int32(2)}, []string{"a", " b"}, completionv1.Finished_LENGTH, 3},
		{"max_completion_tokens", &completionv1.CompletionRequest{Messages: user("a b c"), MaxCompletionTokens: proto.Int32(2)}, []string{"a", " b"}, completionv1.Finished_LENGTH, 3},
		{"max_tokens just enough", &completionv1.CompletionRequest{Prompt: proto.String("a b"), MaxTokens: proto.Int32(2)}, []string{"a", " b"}, completionv1.Finished_STOP, 2},
		{"the first of two stops", &completionv1.CompletionRequest{Prompt: proto.String("a b c d"), Stop: []string{"d", "b c"}}, []string{"a", " "}, completionv1.Finished_STOP, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var words []string
			var last engine.Chunk
			err := generate(t.Context(), &Engine{}, tt.req, func(c *engine.Chunk) {
				if c.Delta != nil {
					words = append(words, c.Delta.GetText())
				}
				last = *c
			})
			want := &completionv1.Usage{PromptTokens: tt.prompt, CompletionTokens: int32(len(tt.words)), TotalTokens: tt.prompt + int32(len(tt.words))}
			if err != nil || !slices.Equal(words, tt.words) || last.FinishReason != tt.finish || !proto.Equal(last.Usage, want) {
				t.Errorf("got %q, %v, %v, %v; want %q, %v, %v", words, last.FinishReason, last.Usage, err, tt.words, tt.finish, want)
			}
		})
	}
}

func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		req := &completionv1.CompletionRequest{Prompt: proto.String("a b c")}
		err := generate(t.Context(), &Engine{Interval: 30 * time.Millisecond}, req, func(c *engine.Chunk) {
			at = append(at, time.Since(start))
		})
		want := []time.Duration{0, 0, 30 * time.Millisecond, 60 * time.Millisecond, 60 * time.Millisecond}
		if err != nil || !slices.Equal(at, want) {
			t.Errorf("chunks at %v, %v; want %v", at, err, want)
		}
	})
}

func TestGenerateEnds(t *testing.T) {
	enough := errors.New("enough")
	req := &completionv1.CompletionRequest{Prompt: proto.String("a b c")}
	ctx, cancel := context.WithCancelCause(t.Context())
	err := generate(ctx, &Engine{Interval: time.Hour}, req, func(c *engine.Chunk) {
		if c.Delta != nil {
			cancel(enough)
		}
	})
	if err != enough {
		t.Errorf("the context's cause: %v", err)
	}
}

// generate calls emit for each chunk of a completion.
func generate(ctx context.Context, e *Engine, req *completionv1.CompletionRequest, emit func(*engine.Chunk)) error {
	s := e.Generate(ctx, req)
	defer s.Close()
	for {
		c, err := s.Next(false)
		if c == nil && err == nil {
			c, err = s.Next(true)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		emit(c)
	}
}

// TestParts checks that a message with ten times as many parts takes about ten times as
// much memory.
func TestParts(t *testing.T) {
	size := func(n int) uint64 {
		parts := slices.Repeat([]*completionv1.Part{{Kind: &completionv1.Part_Text{Text: "a word "}}}, n)
		req := &completionv1.CompletionRequest{Messages: []*completionv1.Message{{Role: "user", Parts: parts}}}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		(&Engine{}).Generate(t.Context(), req)
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	if little, much := size(1000), size(10_000); much > 20*little {
		t.Errorf("1,000 parts take %d bytes, 10,000 take %d", little, much)
	}
}
