package app

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// face is one of the program's: its gRPC server, or its HTTP server.
type face interface {
	// listensOn is where.
	listensOn() net.Addr

	// serve accepts connections. It returns nil after shutdown.
	serve() error

	// announce tells that the face is about to stop: it is not ready.
	announce()

	// drain refuses new completions. It may return when those that run have ended, or
	// have been ended because ctx was done.
	drain(ctx context.Context)

	// shutdown closes the listener, and returns when all requests have ended. Not long
	// after ctx is done, it closes their connections.
	shutdown(ctx context.Context)
}

// lastRead is how long clients have, after the drain, to read the ends of their streams.
const lastRead = time.Second

// serve serves until ctx is done or one of the faces fails. Then all stop at the same
// time, and it returns when they have.
func (f *commonFlags) serve(ctx context.Context, p *program, faces ...face) error {
	failed := make(chan error, len(faces))
	var serving, stopping sync.WaitGroup
	for _, f := range faces {
		serving.Go(func() { failed <- f.serve() })
	}
	var listeners []net.Addr
	for _, f := range faces {
		listeners = append(listeners, f.listensOn())
	}
	drain, delay := time.Duration(f.DrainTimeout), f.shutdownDelay(p.stderr, listeners...)
	var err error
	select {
	case <-ctx.Done():
		p.log.Info(stoppingNote(drain, delay))
	case err = <-failed:
		p.log.Error("stopping", "cause", err, "drain_timeout", drain)
		delay = 0 // there is no listener left to keep open
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	delayed := make(chan struct{})
	time.AfterFunc(delay, func() { close(delayed) })
	for _, f := range faces { // all, before any of them refuses anything
		f.announce()
	}
	for _, f := range faces {
		stopping.Go(func() {
			f.drain(ctx)
			<-delayed
			f.shutdown(ctx)
		})
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
