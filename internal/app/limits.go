package app

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/sluice-sse/sluice/internal/ratelimit"
	"github.com/sluice-sse/sluice/server"
)

// limitFlags bound what callers of the gRPC face get: by themselves, and all together.
type limitFlags struct {
	MaxRunning             count            `default:"20000" help:"How many completions may run at the same time."`
	MaxRunningPerPrincipal count            `placeholder:"N" help:"How many of one caller. Without it: as many as may run at all."`
	MaxReaders             count            `default:"1000" help:"How many may read one completion at the same time."`
	Rate                   positiveRate     `placeholder:"N" help:"How many requests a second one caller may make in the long run, such as 0.5 or 20. Without it: any number."`
	RateBurst              count            `placeholder:"N" help:"How many at once. Without it: as many as in a second, and one at least."`
	MaxConnectionAge       positiveDuration `default:"30m" help:"How long a gRPC connection gets new calls: then its client is asked to make another one, and the calls that it has go on."`
	MaxTokens              count            `placeholder:"N" help:"The largest max_tokens, and what a request gets that names none. Without it: what the upstream gives."`
	MaxMessages            count            `placeholder:"N" help:"The most messages of a request. Without it: as many as --max-body holds."`
	MaxMessageBytes        byteSize         `placeholder:"SIZE" help:"The largest message, or prompt. Without it: what --max-body holds."`
}

// check refuses what would have no effect.
func (f *limitFlags) check() error {
	if f.RateBurst > 0 && f.Rate == 0 {
		return errors.New("--rate-burst: it needs --rate")
	}
	return nil
}

// limits returns the limits of the server.
func (f *limitFlags) limits() server.Limits {
	return server.Limits{
		Running:             int(f.MaxRunning),
		RunningPerPrincipal: int(f.MaxRunningPerPrincipal),
		Readers:             int(f.MaxReaders),
		MaxTokens:           int32(f.MaxTokens),
		Messages:            int(f.MaxMessages),
		MessageBytes:        int(f.MaxMessageBytes),
	}
}

// limiter returns what limits the rate of calls, or nil if it is not limited.
func (f *limitFlags) limiter(principal func(context.Context) string) *ratelimit.Limiter {
	if f.Rate == 0 {
		return nil
	}
	burst := int(f.RateBurst)
	if burst == 0 {
		burst = max(1, int(math.Min(float64(f.Rate), math.MaxInt32)))
	}
	return ratelimit.New(ratelimit.Config{PerSecond: float64(f.Rate), Burst: burst, Principal: principal})
}

// count is a whole number above 0; 0 is none.
type count int

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *count) UnmarshalText(text []byte) error {
	n, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil || n <= 0 {
		return fmt.Errorf("%q is not a whole number from 1 to %d", text, math.MaxInt32)
	}
	*c = count(n)
	return nil
}

// positiveRate is a number above 0; 0 is none.
type positiveRate float64

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *positiveRate) UnmarshalText(text []byte) error {
	n, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(n >= 1e-6 && n <= 1e9) {
		return fmt.Errorf("%q is not a number of requests a second such as 0.5 or 20", text)
	}
	*r = positiveRate(n)
	return nil
}
