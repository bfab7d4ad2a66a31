package redis

import (
	"context"
	"sync"
	"time"
)

// maxReads is how many readers read the store at once. When it comes back, or a connection
// breaks, all of them do, and those whose clients come back: it has to answer owners, too.
const maxReads = 64

// reads are the places of those who read the store. A read that takes long gives its place
// to the next one: a part of a cluster that does not answer must not hold up those who read
// the others.
type reads struct {
	places chan struct{}
	long   time.Duration
}

// begin waits for a place, and returns what gives it up. It returns the cause of ctx when
// that is done before.
func (r *reads) begin(ctx context.Context) (end func(), err error) {
	select {
	case r.places <- struct{}{}:
	default:
		select {
		case r.places <- struct{}{}:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	free := sync.OnceFunc(func() { <-r.places })
	timer := time.AfterFunc(r.long, free)
	return func() { timer.Stop(); free() }, nil
}
