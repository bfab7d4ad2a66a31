package app

import (
	"context"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/sluice-sse/sluice/internal/auth"
	"github.com/sluice-sse/sluice/internal/ratelimit"
	"github.com/sluice-sse/sluice/internal/telemetry"
	"github.com/sluice-sse/sluice/server"
)

// calls has the interceptors that all calls run in: what panics within is recovered, the
// telemetry is told, and it is asked who calls and how often they may.
//
// That is one interceptor, and not one for each of these: a stream that waits has all its
// interceptors on its stack, each with what calls it, which was a quarter of all there is.
type calls struct {
	log       *slog.Logger // for panics
	telemetry *telemetry.Telemetry
	auth      *auth.Authenticator
	limiter   *ratelimit.Limiter // nil: there is none
}

func (c *calls) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	begun := c.begin(ctx, info.FullMethod, false)
	defer begun.end(&err)
	if begun.refused != nil {
		return nil, begun.refused
	}
	return handler(begun.ctx, req)
}

func (c *calls) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	begun := c.begin(ss.Context(), info.FullMethod, true)
	defer begun.end(&err)
	if begun.refused != nil {
		return begun.refused
	}
	return handler(srv, server.WithContext(begun.ctx, ss))
}

// begunCall is a call that has begun.
type begunCall struct {
	log     *slog.Logger
	ctx     context.Context
	method  string
	done    func(error) // tells the telemetry
	refused error       // nil: it is not
}

// begin begins a call, or refuses it. Either way it is to be ended.
func (c *calls) begin(ctx context.Context, method string, stream bool) (call *begunCall) {
	call = &begunCall{log: c.log, ctx: ctx, method: method, done: func(error) {}}
	defer call.recover(&call.refused)
	ctx, call.done = c.telemetry.Call(ctx, method, stream)
	call.ctx = ctx
	if ctx, call.refused = c.auth.Authenticate(ctx, method); call.refused != nil {
		return call
	}
	call.ctx = ctx
	if c.limiter != nil {
		call.refused = c.limiter.Admit(ctx, method)
	}
	return call
}

// end is to be deferred: it makes of a panic the call's error.
func (c *begunCall) end(err *error) {
	if p := recover(); p != nil {
		*err = server.Recovered(c.ctx, c.log, c.method, p)
	}
	defer c.recover(err)
	c.done(*err)
}

// recover is end of what the telemetry does.
func (c *begunCall) recover(err *error) {
	if p := recover(); p != nil {
		*err = server.Recovered(c.ctx, c.log, c.method, p)
	}
}
