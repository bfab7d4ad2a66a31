package openai

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

const (
	// retryBudget is how long a completion waits for its next tries, in all. It is less
	// than a bridge holds back its status line, so that a refusal is still one.
	retryBudget = 4 * time.Second

	// refusedPause is how long it waits after a connection that was refused. It doubles.
	refusedPause = 200 * time.Millisecond
)

// retrier sends a completion's requests, and those again that certainly cost nothing: the
// connection was refused, or the upstream said, with 429 or 503, when to come back.
// Whatever else fails may have been generated and be paid for, such as what was sent over
// a connection that was reset.
type retrier struct {
	engine *Engine
	left   int           // how many times it may try again
	budget time.Duration // how long it may wait, in all
	pause  time.Duration // after the next connection that is refused
}

func (e *Engine) newRetrier() *retrier {
	return &retrier{engine: e, left: e.config.Retries, budget: retryBudget, pause: refusedPause}
}

// send does what Engine.send does, until it succeeds, or fails for good, or ctx is done.
func (r *retrier) send(ctx context.Context, req *completionv1.CompletionRequest, d dialect) (*http.Response, error) {
	for {
		res, err := r.engine.send(ctx, req, d)
		if err == nil {
			return res, nil
		}
		reason, wait := r.next(err)
		if wait == 0 || !sleep(ctx, wait) {
			return nil, err
		}
		r.left--
		r.budget -= wait
		if r.engine.config.OnRetry != nil {
			r.engine.config.OnRetry(reason)
		}
	}
}

// next returns how long to wait before the next try, or 0 if there is none, and what the
// completion would have failed with.
func (r *retrier) next(err error) (reason failure.Reason, wait time.Duration) {
	if r.left <= 0 {
		return 0, 0
	}
	var upstream *upstreamError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		reason, wait = failure.UpstreamUnavailable, r.pause
		r.pause *= 2
	case !errors.As(err, &upstream):
	case upstream.status == http.StatusTooManyRequests:
		reason, wait = failure.UpstreamRateLimited, upstream.parsedRetryAfter()
	case upstream.status == http.StatusServiceUnavailable:
		reason, wait = failure.UpstreamUnavailable, upstream.parsedRetryAfter()
	}
	if wait == 0 || wait > r.budget {
		return 0, 0
	}
	// Jitter only adds: nobody comes sooner than the upstream has asked.
	return reason, min(wait+rand.N(wait/4+1), r.budget)
}

func (u *upstreamError) parsedRetryAfter() time.Duration {
	u.parse()
	return u.retryAfter(time.Now())
}

// sleep waits, and reports whether it did so to the end and not until ctx was done.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
