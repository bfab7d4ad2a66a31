package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// Why a run ended that neither finished nor failed: the causes of its context.
var (
	errCancelled = errors.New("cancelled by a caller")
	errAbandoned = errors.New("the last reader left")
)

// outcomeOf says how the run ended, from what ended it: nil for finished, errCancelled
// or errAbandoned, or else a *failure.Error.
func (r *run) outcomeOf(err error) error {
	cause := context.Cause(r.ctx)
	var failed *failure.Error
	switch {
	case err == io.EOF && r.finishReason != completionv1.Finished_FINISH_REASON_UNSPECIFIED:
		return nil
	case errors.Is(cause, errCancelled), errors.Is(cause, errAbandoned):
		return cause
	case errors.As(cause, &failed) && failed.Reason == failure.Draining: // which ends many at once
		return failed.WithRetryAfter(time.Second + rand.N(2*time.Second))
	case errors.As(cause, &failed): // a timeout
		return failed
	case err == io.EOF:
		return failure.New(failure.UpstreamTruncated, "the upstream ended in the middle of its answer")
	case errors.As(err, &failed):
		return failed
	}
	return failure.New(failure.UpstreamUnavailable, "the upstream failed").WithCause(err)
}

// log writes the run's one line: never a prompt, a text or a key. With an error of the
// journal, the end is not journaled.
func (r *run) log(journalErr error) {
	level, outcome := slog.LevelInfo, "finished"
	var failed *failure.Error
	switch {
	case errors.As(r.outcome, &failed):
		level, outcome = slog.LevelWarn, "failed"
	case r.outcome != nil:
		outcome = "cancelled"
	}
	attrs := []slog.Attr{
		slog.String("id", r.ID),
		slog.String("model", r.Model),
		slog.String("outcome", outcome),
		slog.Int("events", int(r.sequence)),
		slog.Duration("duration", time.Since(r.CreateTime)),
	}
	if !r.firstToken.IsZero() {
		attrs = append(attrs, slog.Duration("first_token", r.firstToken.Sub(r.CreateTime)))
	}
	if r.requestID != "" {
		attrs = append(attrs, slog.String("request_id", r.requestID))
	}
	if failed != nil {
		attrs = append(attrs, slog.String("reason", failed.Reason.String()))
	}
	if r.outcome != nil {
		attrs = append(attrs, slog.Any("cause", r.outcome))
	}
	if journalErr != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.Any("journal", journalErr))
	}
	r.server.config.Log.LogAttrs(context.Background(), level, "completion", attrs...)
}
