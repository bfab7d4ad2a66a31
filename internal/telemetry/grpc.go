package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/internal/inproc"
)

// call is one of a method.
type call struct {
	method string // as /package.Service/Method
	id     string // of the completion that it reads; "": none, so far
	began  time.Time
	inside bool // it came over HTTP, to this process
	span   trace.Span
}

type callKey struct{}

// Call tells of a call that begins, and returns its context, and what is to be called with
// the call's error when it has ended. It is to be told of all calls, whatever refuses them.
func (t *Telemetry) Call(ctx context.Context, method string, stream bool) (_ context.Context, done func(error)) {
	ctx, c := t.begin(ctx, method)
	counted := stream && !c.inside && !isHealth(method) // a bridge watches the health for as long as it runs
	if counted {
		t.calls.Add(1)
	}
	return ctx, func(err error) {
		if counted {
			t.calls.Add(-1)
		}
		t.end(ctx, c, err)
	}
}

func isHealth(method string) bool { return strings.HasPrefix(method, "/grpc.health.") }

// begin returns the context of a call. Health checks have no span: there are too many.
func (t *Telemetry) begin(ctx context.Context, method string) (context.Context, *call) {
	c := &call{method: method, began: time.Now(), inside: inproc.IsInProcess(ctx)}
	if isHealth(method) {
		c.span = trace.SpanFromContext(ctx)
		return context.WithValue(ctx, callKey{}, c), c
	}
	ctx = extract(ctx, incoming{ctx})
	ctx, c.span = t.tracer.Start(ctx, method[1:], trace.WithSpanKind(trace.SpanKindServer))
	if c.span.IsRecording() {
		c.span.SetAttributes(
			attribute.String(attrRPCSystem, "grpc"),
			attribute.String(attrRPCMethod, method[1:]),
			attribute.String(attrRequestID, requestID(ctx)),
		)
	}
	return context.WithValue(ctx, callKey{}, c), c
}

// end tells of a call that has ended. One that fails before it reads a completion, and was
// not broken off by its client, is a refusal. Not so that there is no such service, which the
// health service answers: a bridge asks for the journal's store each time when it is asked
// whether it is ready, and most servers have none.
func (t *Telemetry) end(ctx context.Context, c *call, err error) {
	code, reason, limit := codes.OK, "", ""
	if err != nil {
		code, reason, limit = explain(err)
	}
	if c.span.IsRecording() {
		c.span.SetAttributes(attribute.String(attrRPCStatus, statusName(code)))
		if c.id != "" {
			c.span.SetAttributes(attribute.String(genAIResponseID, c.id))
		}
		if reason != "" {
			c.span.SetAttributes(attribute.String(attrErrorType, reason))
		}
		if isServerError(code) {
			c.span.SetStatus(otelcodes.Error, reason)
		}
	}
	c.span.End()
	refused := err != nil && c.id == "" && code != codes.Canceled && !(isHealth(c.method) && code == codes.NotFound)
	if refused && !c.inside {
		t.Refused("grpc", reason, limit)
	}
	// In one process, the line that tells operators of a refusal is that of the request
	// over HTTP, which has more to say.
	t.line(ctx, "call", refused, refused && !c.inside, func() []slog.Attr {
		attrs := []slog.Attr{
			slog.String("protocol", "grpc"),
			slog.String("method", c.method[1:]),
			slog.String("status", statusName(code)),
			slog.Duration("duration", time.Since(c.began)),
			slog.String("id", c.id),
			slog.String("request_id", requestID(ctx)),
			slog.String("reason", reason),
			slog.String("limit", limit),
		}
		if cause := errors.Unwrap(err); refused && cause != nil {
			attrs = append(attrs, slog.Any("cause", cause))
		}
		return attrs
	})
}

// line writes a line for a request or a call: at debug, unless somebody was refused.
func (t *Telemetry) line(ctx context.Context, what string, refused, loud bool, attrs func() []slog.Attr) {
	level := slog.LevelDebug
	if loud {
		level = slog.LevelInfo
	}
	if !t.log.Enabled(ctx, level) {
		return
	}
	if refused {
		what += " refused"
	}
	said := attrs()
	n := 0
	for _, a := range said { // what there is not has no name in the line
		if a.Value.Kind() != slog.KindString || a.Value.String() != "" {
			said[n] = a
			n++
		}
	}
	t.log.LogAttrs(ctx, level, what, said[:n]...)
}

// explain returns what an error says for programs; the reason in lower case.
func explain(err error) (code codes.Code, reason, limit string) {
	s, ok := status.FromError(err)
	if !ok {
		s = status.FromContextError(err)
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return s.Code(), strings.ToLower(info.GetReason()), info.GetMetadata()["limit"]
		}
	}
	return s.Code(), "", ""
}

// statusName is a code as gRPC's specification writes it, such as NOT_FOUND.
func statusName(c codes.Code) string {
	switch c {
	case codes.OK:
		return "OK"
	case codes.Canceled:
		return "CANCELLED"
	}
	var name strings.Builder
	for i, r := range c.String() {
		if i > 0 && 'A' <= r && r <= 'Z' {
			name.WriteByte('_')
		}
		name.WriteRune(r)
	}
	return strings.ToUpper(name.String())
}

// isServerError tells whether a call has failed by the server's fault, as the conventions
// for spans of gRPC have it.
func isServerError(c codes.Code) bool {
	switch c {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		return true
	}
	return false
}

// requestID is the caller's name for a request, for the log.
func requestID(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, "x-request-id"); len(v) > 0 {
		return clip(v[0])
	}
	return ""
}

// incoming is the metadata of a call as a propagation.TextMapCarrier, from which is only
// read.
type incoming struct{ context.Context }

func (i incoming) Get(key string) string {
	if v := metadata.ValueFromIncomingContext(i, key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func (incoming) Set(string, string) {}

func (incoming) Keys() []string { return nil }
