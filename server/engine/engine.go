// Package engine defines what makes the text of completions. Its subpackages
// hold the engines: openai, in front of any OpenAI-compatible server, and echo,
// which needs nothing.
package engine

import (
	"context"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// An Engine makes the text of completions. Its methods may be called by many
// goroutines at once. The tests' fake is a script of chunks.
type Engine interface {
	// Models lists the models that the engine serves.
	Models(ctx context.Context) ([]string, error)

	// Generate makes one completion. It calls emit for each chunk, in order and
	// on the caller's goroutine, and returns when the completion is over, ctx is
	// done, or emit has returned an error, which it returns as it is.
	//
	// The request is valid, and its model is one of the engine's or at least not
	// another's. Whether the completion is complete is for the caller to judge: it
	// is when a chunk had a finish reason, not when the error is nil. Errors that
	// are not *failure.Error are taken for faults of the upstream.
	//
	// When ctx is done, Generate has let go of everything upstream before it
	// returns.
	Generate(ctx context.Context, req *completionv1.CompletionRequest, emit func(*Chunk) error) error
}

// A Chunk is what an engine has next. All of its fields may be zero: such a chunk
// says only that the upstream has begun to answer. It belongs to the engine
// again when emit returns, but for its Usage: that the caller keeps until Generate
// returns, and an engine only counts on in it.
type Chunk struct {
	Model        string              // the model that answers, where the upstream says
	Delta        *completionv1.Delta // more of the answer, or nil
	FinishReason completionv1.Finished_FinishReason
	Usage        *completionv1.Usage // the usage so far, or nil
}
