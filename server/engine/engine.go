// Package engine defines what makes the text of completions. Its subpackages
// hold the engines: openai, in front of any OpenAI-compatible server, and echo,
// which needs nothing.
package engine

import (
	"context"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// An Engine makes the text of completions. Its methods may be called by many
// goroutines at once. Package enginetest tests what it promises, and has the fake of
// other packages' tests: enginetest.Script.
type Engine interface {
	// Models lists the models that the engine serves.
	Models(ctx context.Context) ([]string, error)

	// Generate returns a completion to be made. It sends nothing yet: Next does.
	//
	// The request is valid, and its model is one of the engine's or at least not
	// another's. When ctx is done, everything upstream is let go of.
	Generate(ctx context.Context, req *completionv1.CompletionRequest) Stream
}

// A Stream is one completion while it is made. It is for one goroutine at a time,
// which need not always be the same.
type Stream interface {
	// Next returns the next chunk, which is lost unless the caller takes it. It waits
	// for one, or, if it is not to, returns nil when it has none at hand: only one that
	// waits reads on. At the end, it returns io.EOF; whether the completion is complete
	// is for the caller to judge: it is when a chunk had a finish reason, and nothing
	// but usage came behind it. It returns the cause of the context when that is done,
	// whatever is still at hand. Errors that are not *failure.Error are taken for
	// faults of the upstream. After an error it is not called again.
	Next(wait bool) (*Chunk, error)

	// Close lets go of everything upstream. It is called once, after the last Next,
	// which need not have come to the end.
	Close()
}

// A Chunk is what an engine has next. All of its fields may be zero: such a chunk
// says only that the upstream has begun to answer. It belongs to the stream
// again at the next call, the bytes of the strings in its Delta included; its Usage
// the caller keeps until the end, and an engine only counts on in it.
type Chunk struct {
	Model        string              // the model that answers, where the upstream says
	Delta        *completionv1.Delta // more of the answer, or nil
	FinishReason completionv1.Finished_FinishReason
	Usage        *completionv1.Usage // the usage so far, or nil
}
