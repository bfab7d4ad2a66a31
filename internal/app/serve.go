package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// half is one face of the program.
type half interface {
	// serve serves until stop is called, and returns why if it is for another
	// reason.
	serve() error

	// stop stops in order: it is not ready and begins nothing new; its listener closes,
	// once it has been seen not to be ready; what runs ends, and is cut when ctx is done.
	stop(ctx context.Context, seen <-chan struct{})
}

// serve runs halves until ctx is done or one of them fails; then all stop at the
// same time. It returns when all have.
func (f *commonFlags) serve(ctx context.Context, log *slog.Logger, halves ...half) error {
	failed := make(chan error, len(halves))
	var serving, stopping sync.WaitGroup
	for _, h := range halves {
		serving.Go(func() { failed <- h.serve() })
	}
	drain, delay := time.Duration(f.DrainTimeout), time.Duration(f.ShutdownDelay)
	var err error
	select {
	case <-ctx.Done():
		log.Info(stoppingNote(drain, delay))
	case err = <-failed: // there is nothing to be seen
		log.Error("stopping", "cause", err, "drain_timeout", drain)
		delay = 0
	}
	ctx = context.WithoutCancel(ctx)
	seen, cancelSeen := context.WithTimeout(ctx, delay)
	defer cancelSeen()
	ctx, cancel := context.WithTimeout(ctx, drain)
	defer cancel()
	for _, h := range halves {
		stopping.Go(func() { h.stop(ctx, seen.Done()) })
	}
	stopping.Wait()
	serving.Wait()
	return err
}

// stoppingNote says what a stop waits for.
func stoppingNote(drain, delay time.Duration) string {
	note := fmt.Sprintf("stopping: no new completions; running ones have %v to end", drain)
	if delay > 0 {
		note += fmt.Sprintf(", and for %v it can be seen that this is not ready", delay)
	}
	return note + "; a second signal (Ctrl-C) stops at once"
}
