package server

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

func TestOutcomes(t *testing.T) {
	both := func(s string, finish completionv1.Finished_FinishReason) *engine.Chunk {
		return &engine.Chunk{Delta: &completionv1.Delta{Text: s}, FinishReason: finish}
	}
	sources := &engine.Chunk{Delta: &completionv1.Delta{Extra: &structpb.Struct{Fields: map[string]*structpb.Value{"annotations": structpb.NewBoolValue(true)}}}}
	slow := failure.New(failure.UpstreamRateLimited, "slow down").WithCause(errors.New("secret words")).WithRetryAfter(7 * time.Second)
	tests := []struct {
		name   string
		fails  error
		chunks []*engine.Chunk
		want   string
		reason failure.Reason
		code   codes.Code
		state  completionv1.Completion_State
	}{
		{name: "finished", chunks: []*engine.Chunk{begun, text("a"), text("b"), stopped}, want: "1:created 2:a 3:b 4:STOP", state: completionv1.Completion_FINISHED},
		{name: "finish reason beside text", chunks: []*engine.Chunk{{Delta: &completionv1.Delta{Text: "a"}, FinishReason: completionv1.Finished_LENGTH}}, want: "1:created 2:a 3:LENGTH", state: completionv1.Completion_FINISHED},
		{name: "usage after the finish reason", chunks: []*engine.Chunk{stopped, begun}, want: "1:created 2:STOP", state: completionv1.Completion_FINISHED},
		{name: "nothing but what says nothing after the finish reason", chunks: []*engine.Chunk{text("a"), stopped, {Delta: &completionv1.Delta{}}, {Delta: &completionv1.Delta{Extra: &structpb.Struct{}}}, {Delta: &completionv1.Delta{Logprobs: &completionv1.Logprobs{}}}}, want: "1:created 2:a 3:STOP", state: completionv1.Completion_FINISHED},
		{name: "what is said of the answer after the finish reason", chunks: []*engine.Chunk{text("a"), stopped, sources}, want: "1:created 2:a 3: 4:STOP", state: completionv1.Completion_FINISHED},
		{name: "a finish reason on each chunk", chunks: []*engine.Chunk{both("a", completionv1.Finished_STOP), both("b", completionv1.Finished_STOP), both("c", completionv1.Finished_LENGTH)}, want: "1:created 2:a 3:b 4:c 5:LENGTH", state: completionv1.Completion_FINISHED},
		{name: "a finish reason that is taken back, and another", chunks: []*engine.Chunk{both("a", completionv1.Finished_LENGTH), text("b"), stopped}, want: "1:created 2:a 3:b 4:STOP", state: completionv1.Completion_FINISHED},
		{name: "text after the finish reason, and a cut", chunks: []*engine.Chunk{both("a", completionv1.Finished_STOP), text("b")}, want: "1:created 2:a 3:b", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "text after the finish reason, usage, and a cut", chunks: []*engine.Chunk{stopped, text("b"), {Usage: &completionv1.Usage{TotalTokens: 3}}}, want: "1:created 2:b", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "reasoning after the finish reason, and a cut", chunks: []*engine.Chunk{stopped, {Delta: &completionv1.Delta{Reasoning: "b"}}}, want: "1:created 2:", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "a refusal after the finish reason, and a cut", chunks: []*engine.Chunk{stopped, {Delta: &completionv1.Delta{Refusal: "b"}}}, want: "1:created 2:", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "a tool call after the finish reason, and a cut", chunks: []*engine.Chunk{stopped, {Delta: &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Id: "c"}}}}}, want: "1:created 2:", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "an image after the finish reason, and a cut", chunks: []*engine.Chunk{stopped, {Delta: &completionv1.Delta{Parts: []*completionv1.Part{{Kind: &completionv1.Part_Text{Text: "b"}}}}}}, want: "1:created 2:", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "an image", chunks: []*engine.Chunk{{Delta: &completionv1.Delta{Parts: []*completionv1.Part{{Kind: &completionv1.Part_Text{Text: "b"}}}}}, stopped}, want: "1:created 2: 3:STOP", state: completionv1.Completion_FINISHED},
		{name: "truncated", chunks: []*engine.Chunk{begun, text("a")}, want: "1:created 2:a", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "nothing at all", want: "", reason: failure.UpstreamTruncated, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "refused", fails: slow, want: "", reason: failure.UpstreamRateLimited, code: codes.ResourceExhausted, state: completionv1.Completion_FAILED},
		{name: "fails after text", fails: slow, chunks: []*engine.Chunk{begun, text("a")}, want: "1:created 2:a", reason: failure.UpstreamRateLimited, code: codes.ResourceExhausted, state: completionv1.Completion_FAILED},
		{name: "an error that is no failure", fails: io.ErrUnexpectedEOF, chunks: []*engine.Chunk{begun}, want: "1:created", reason: failure.UpstreamUnavailable, code: codes.Unavailable, state: completionv1.Completion_FAILED},
		{name: "what cannot be encoded", chunks: []*engine.Chunk{begun, text("\xff"), stopped}, want: "1:created", reason: failure.UpstreamUnavailable, code: codes.Unavailable, state: completionv1.Completion_FAILED},
	}
	for _, tt := range tests {
		for how, engine := range map[string]script{"at once": atOnce(tt.fails, tt.chunks...), "one by one": play(tt.fails, tt.chunks...)} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				checkOutcome(t, engine, tt.want, tt.reason, tt.code, tt.state)
			})
		}
	}
}

func checkOutcome(t *testing.T, engine script, want string, wantReason failure.Reason, code codes.Code, state completionv1.Completion_State) {
	t.Helper()
	f := newFixture(t, engine)
	id, s := f.stream(t, t.Context(), prompt("x"))
	got, err := read(s)
	if got != want || reason(err) != wantReason || status.Code(err) != code {
		t.Fatalf("got %q and %v, want %q and %v", got, err, want, wantReason)
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("the cause is in the error: %v", err)
	}
	again, errAgain := read(f.resume(t, t.Context(), id, 0))
	if again != got || !proto.Equal(status.Convert(errAgain).Proto(), status.Convert(err).Proto()) {
		t.Errorf("read again: %q and %v, want %q and %v", again, errAgain, got, err)
	}
	c, err := f.client.GetCompletion(t.Context(), &completionv1.GetCompletionRequest{Id: id})
	if err != nil || c.GetState() != state || (c.GetError() != nil) != (wantReason != noReason) {
		t.Errorf("completion %v, %v", c, err)
	}
	_, errWhole := f.client.CreateCompletion(t.Context(), prompt("x"))
	if reason(errWhole) != wantReason {
		t.Errorf("the whole: %v, want %v", errWhole, wantReason)
	}
}
