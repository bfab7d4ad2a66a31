package bridge

import (
	"context"
	"sync/atomic"
)

// streamContext is the context of one stream. It has the values of the request's
// context until the response has begun: a stream that waits does not hold its request.
type streamContext struct {
	context.Context
	cancel context.CancelFunc
	values atomic.Pointer[context.Context]
}

// newStreamContext returns a context that ends with one and has another's values.
func newStreamContext(parent, values context.Context) *streamContext {
	c := &streamContext{}
	c.Context, c.cancel = context.WithCancel(parent)
	c.values.Store(&values)
	return c
}

// Value implements context.Context.
func (c *streamContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil { // what package context looks for to see its own kind
		return v
	}
	if values := c.values.Load(); values != nil {
		return (*values).Value(key)
	}
	return nil
}

// forget lets go of the values.
func (c *streamContext) forget() { c.values.Store(nil) }
