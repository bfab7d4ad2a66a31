// Package ratelimit refuses the calls of those who call more often than they may, with
// RATE_LIMITED and the time after which the next call is taken.
//
// Each caller has a token bucket (golang.org/x/time/rate). The buckets of those who have
// not called for longest are dropped when there are many, so that a million callers take
// no more memory than some ten thousand: who comes back later than all of these finds a
// full bucket.
//
// Health checks and reflection are not counted. Cancelling has a bucket of its own: who
// has used up the other one can still end what they have begun, which costs them.
package ratelimit

import (
	"context"
	"crypto/sha256"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// maxCallers is how many callers' buckets are kept: some 25 MiB.
const maxCallers = 1 << 16

// Config says how often each caller may call.
type Config struct {
	PerSecond float64                      // in the long run; above 0
	Burst     int                          // and so many at once; at least 1
	Principal func(context.Context) string // whose call it is
}

// Limiter limits calls. It is for many goroutines at once.
type Limiter struct {
	config  Config
	callers *lru.Cache[caller, *buckets]
}

// caller is a hash of a principal, which may be as long as a token.
type caller [sha256.Size]byte

// buckets are those of one caller.
type buckets struct{ cancels, others *rate.Limiter }

// New returns a limiter.
func New(config Config) *Limiter {
	callers, err := lru.New[caller, *buckets](maxCallers)
	if err != nil {
		panic(err) // of a size that is not above 0
	}
	return &Limiter{config: config, callers: callers}
}

// Admit counts a call, or refuses it.
func (l *Limiter) Admit(ctx context.Context, method string) error {
	if strings.HasPrefix(method, "/grpc.") {
		return nil
	}
	b := l.buckets(sha256.Sum256([]byte(l.config.Principal(ctx))))
	bucket := b.others
	if method == completionv1.CompletionService_CancelCompletion_FullMethodName {
		bucket = b.cancels
	}
	now := time.Now()
	if bucket.AllowN(now, 1) {
		return nil
	}
	missing := 1 - bucket.TokensAt(now) // not by a reservation, which others would have to wait for
	wait := time.Duration(missing/l.config.PerSecond*float64(time.Second)).Truncate(time.Millisecond) + time.Millisecond
	return failure.New(failure.RateLimited, "you may call %v times a second, and %d times at once: try again in %v",
		l.config.PerSecond, l.config.Burst, wait).WithLimit("rate").WithRetryAfter(wait)
}

// buckets returns those of a caller.
func (l *Limiter) buckets(c caller) *buckets {
	if b, ok := l.callers.Get(c); ok {
		return b
	}
	limit := rate.Limit(l.config.PerSecond)
	b := &buckets{cancels: rate.NewLimiter(limit, l.config.Burst), others: rate.NewLimiter(limit, l.config.Burst)}
	if before, ok, _ := l.callers.PeekOrAdd(c, b); ok {
		return before
	}
	return b
}
