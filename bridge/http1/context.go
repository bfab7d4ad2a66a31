package http1

import (
	"context"
	"sync/atomic"
)

// Context is the context of one response. It has the values of the request's context
// until they are forgotten, so that a response that waits does not hold its request.
type Context struct {
	context.Context
	Cancel context.CancelFunc
	values atomic.Pointer[context.Context]
}

// newContext returns a context that ends with one and has another's values.
func newContext(parent, values context.Context) *Context {
	c := &Context{}
	c.Context, c.Cancel = context.WithCancel(parent)
	c.values.Store(&values)
	return c
}

// Value implements context.Context.
func (c *Context) Value(key any) any {
	if v := c.Context.Value(key); v != nil { // what package context looks for to see its own kind
		return v
	}
	if values := c.values.Load(); values != nil {
		return (*values).Value(key)
	}
	return nil
}

// ForgetValues lets go of the values, and of the request with them.
func (c *Context) ForgetValues() { c.values.Store(nil) }
