// Package engine defines what produces the text of completions. Its subpackages hold
// the engines: openai, in front of any OpenAI-compatible server, and echo, which needs
// nothing. Package enginetest is the suite that every engine passes.
package engine

import (
	"context"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// An Engine produces the text of completions. Its methods may be called by many
// goroutines at once.
//
// The fake for tests is enginetest.Script.
type Engine interface {
	// Models returns the names of the models that the engine serves.
	Models(ctx context.Context) ([]string, error)

	// Generate returns the stream of a new completion. It does not block and sends
	// nothing: the first Next that waits does.
	//
	// The request is valid, and its model is one of the engine's or at least not
	// another engine's. When ctx is done, the stream ends and everything upstream is
	// released.
	Generate(ctx context.Context, req *completionv1.CompletionRequest) Stream
}

// A Stream produces the chunks of one completion. It may be used by one goroutine at a
// time, not always the same one.
type Stream interface {
	// Next returns the next chunk, which is valid until the next call.
	//
	// If wait is true, Next blocks until there is a chunk or the stream ends. If it is
	// false, Next does not read from upstream: it returns a chunk that is already
	// there, or nil and no error.
	//
	// At the end of the stream Next returns io.EOF. The completion is complete if the
	// last chunk with more of the answer, or one after it, had a finish reason;
	// otherwise the answer was cut. When the context is done, Next returns
	// context.Cause, even if there are chunks left. Any error that is not a
	// *failure.Error is taken for a fault of the upstream. After an error Next is not
	// called again.
	Next(wait bool) (*Chunk, error)

	// Close releases everything upstream. It is called once, after the last Next,
	// whether that has come to the end or not.
	Close()
}

// A Chunk is one step of a completion. All of its fields may be zero: such a chunk says
// only that the upstream has begun to answer.
//
// The chunk, its Delta and the bytes of the strings in it belong to the stream and
// change at the next call of Next. Its Usage may be kept: the stream may count it up
// later, but changes nothing else in it.
type Chunk struct {
	Model        string              // the model that answers, if the upstream says
	Delta        *completionv1.Delta // more of the answer, or nil
	FinishReason completionv1.Finished_FinishReason
	Usage        *completionv1.Usage // the tokens used so far, or nil
}
