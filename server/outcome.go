package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// Why a run ended that neither finished nor failed: the causes of its context.
var (
	errCancelled = errors.New("cancelled by a caller")
	errAbandoned = errors.New("the last reader left")
)

// errLost is how a completion has ended whose server did not write its end.
var errLost = failure.New(failure.OwnerLost, "the server that generated the completion is gone: try again")

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

// outcomeWord says how a completion has ended.
func outcomeWord(outcome error) string {
	var failed *failure.Error
	switch {
	case outcome == nil:
		return "finished"
	case errors.As(outcome, &failed):
		return strings.ToLower(failed.Reason.String())
	case errors.Is(outcome, errAbandoned):
		return "abandoned"
	}
	return "cancelled"
}

// tell tells the log and the observer of the run's end, which is not journaled if there
// was an error of the journal.
func (r *run) tell(journalErr error) {
	e := Ended{
		ID:           r.ID,
		Model:        r.Model,
		Outcome:      outcomeWord(r.outcome),
		Journaled:    journalErr == nil,
		Cause:        r.outcome,
		Events:       int(r.sequence),
		Duration:     time.Since(r.CreateTime),
		FinishReason: r.finishReason,
		Usage:        r.usage,
	}
	if !r.firstToken.IsZero() {
		e.FirstToken = r.firstToken.Sub(r.CreateTime)
	}
	if journalErr != nil {
		e.Outcome, e.Cause = outcomeWord(errLost), errors.Join(e.Cause, journalErr)
	}
	r.server.log(r.ctx, e, r.requestID)
	r.server.config.Observer.Ended(r.ctx, e)
}

// log writes a completion's one line: never a prompt, a text or a key.
func (s *Server) log(ctx context.Context, e Ended, requestID string) {
	level := slog.LevelInfo
	var failed *failure.Error
	switch {
	case !e.Journaled:
		level = slog.LevelError
	case errors.As(e.Cause, &failed):
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.String("id", e.ID), slog.String("outcome", e.Outcome)}
	if e.Model != "" {
		attrs = append(attrs, slog.String("model", e.Model), slog.Int("events", e.Events), slog.Duration("duration", e.Duration))
	}
	if e.FirstToken > 0 {
		attrs = append(attrs, slog.Duration("first_token", e.FirstToken))
	}
	if requestID != "" {
		attrs = append(attrs, slog.String("request_id", requestID))
	}
	if e.Cause != nil {
		attrs = append(attrs, slog.Any("cause", e.Cause))
	}
	s.config.Log.LogAttrs(ctx, level, "completion", attrs...)
}
