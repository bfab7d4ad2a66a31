package server

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

// A fault of the program ends what it is in, and nothing else: a call, by an interceptor
// that recovers (see Recovered), or the generation of a completion, by run.nextBatch.

// Recovered logs what an interceptor has recovered from a call, and returns the error that
// the call is to end in. It is to be called by the deferred function that recovers.
func Recovered(ctx context.Context, log *slog.Logger, method string, p any) error {
	return panicked(ctx, log, p, slog.String("method", method), slog.String("request_id", requestID(ctx))).OfReader()
}

// panicked logs a panic, and returns what callers are told of it. It is called while the
// stack is still that of the panic.
func panicked(ctx context.Context, log *slog.Logger, p any, attrs ...slog.Attr) *failure.Error {
	attrs = append(attrs, slog.String("cause", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	log.LogAttrs(ctx, slog.LevelError, "panic", attrs...)
	// There is no reason for faults of our own. This one says what callers need to know: that
	// they are not to blame, and need not try again.
	return failure.New(failure.UpstreamRejected, "the server has a fault, of which its log tells").WithCause(fmt.Errorf("panic: %v", p))
}

// panicked is that of what generates the run.
func (r *run) panicked(p any) error {
	return panicked(r.ctx, r.server.config.Log, p, slog.String("id", r.ID), slog.String("request_id", r.requestID))
}

// open returns the engine's stream, or one that fails.
func (r *run) open(call context.Context, eng engine.Engine, began Began) (s engine.Stream) {
	defer func() {
		if p := recover(); p != nil {
			s = failedStream{r.panicked(p)}
		}
	}()
	r.ctx = r.server.config.Observer.Began(call, r.ctx, began)
	return eng.Generate(r.ctx, began.Request)
}

// failedStream is an engine.Stream of nothing.
type failedStream struct{ err error }

func (s failedStream) Next(bool) (*engine.Chunk, error) { return nil, s.err }
func (s failedStream) Close()                           {}

// recovered ends the run after a panic, unless that came when it had ended. What was
// journaled before, its leader may not have got: like others, it reads all of it, as it
// gets nothing here.
func (r *run) recovered(p any) *batch {
	outcome := r.panicked(p)
	b := &batch{}
	if r.hasEnded() {
		return b
	}
	stream := r.stream
	r.stream, r.unwritten = nil, nil
	if stream != nil {
		_ = r.try(func() error { stream.Close(); return nil })
	}
	err := r.try(func() error { return r.writeEnd(b, outcome) })
	_ = r.try(func() error { r.finish(err); return nil })
	b.entries = nil
	return b
}

// try returns the error of a function, or that it has panicked.
func (r *run) try(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = r.panicked(p)
		}
	}()
	return f()
}

func (r *run) hasEnded() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state == ended
}
