package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/sluice-sse/sluice/bridge"
)

// request is one over HTTP. It does not hold the http.Request, which is large, for as long
// as a stream lasts.
type request struct {
	*Telemetry
	method, path, id string
	scheme           attribute.KeyValue
	began            time.Time
	span             trace.Span
}

// Observe is bridge.Config's.
func (t *Telemetry) Observe(r *http.Request) (done func(bridge.Answer)) {
	q := &request{
		Telemetry: t,
		method:    methodName(r.Method),
		path:      strings.Clone(clip(r.URL.Path)),
		id:        strings.Clone(clip(r.Header.Get("X-Request-Id"))), // not the whole header
		scheme:    attribute.String(attrURLScheme, "http"),
		began:     time.Now(),
	}
	if r.TLS != nil {
		q.scheme = attribute.String(attrURLScheme, "https")
	}
	t.requests.Add(1)
	ctx := context.Background()
	if r.Header.Get("Traceparent") != "" {
		ctx = extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	if q.path == "/healthz" || q.path == "/readyz" { // of which there are too many
		q.span = trace.SpanFromContext(context.Background())
		return q.done
	}
	ctx, q.span = t.tracer.Start(ctx, q.method, trace.WithSpanKind(trace.SpanKindServer))
	// What goes on to the server is below this span. Without one, it is as it came. The
	// state of a trace that is none is not to be that of the span's.
	r.Header.Del("Tracestate")
	propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	return q.done
}

// done is called when the response has ended.
func (q *request) done(a bridge.Answer) {
	q.requests.Add(-1)
	reason, limit := a.Info()
	reason = strings.ToLower(reason)
	if a.Err != nil && reason == "" && a.Status >= 500 { // what the bridge says of a server that it cannot reach
		reason = "upstream_unavailable"
	}
	status := a.Status
	switch {
	case status == 0 && a.Cut:
		status = statusClientClosed
	case status == 0: // as net/http has it
		status = http.StatusOK
	}
	q.endSpan(a, reason, status)
	if q.metrics != nil {
		q.metrics.answered(time.Since(q.began), attribute.String(attrHTTPMethod, q.method), attribute.String(attrHTTPRoute, routeName(a.Route)),
			attribute.Int(attrHTTPStatus, status), q.scheme)
	}
	refused := a.Status >= 400 && a.Status != statusClientClosed && a.ID == ""
	if refused {
		q.Refused("http", reason, limit)
	}
	q.line(trace.ContextWithSpan(context.Background(), q.span), "request", refused, refused, func() []slog.Attr {
		attrs := []slog.Attr{
			slog.String("protocol", "http"),
			slog.String("method", q.method),
			slog.String("path", q.path),
			slog.Int("status", status),
			slog.Duration("duration", time.Since(q.began)),
			slog.String("id", a.ID),
			slog.String("request_id", q.id),
			slog.String("reason", reason),
			slog.String("limit", limit),
		}
		if a.Cut {
			attrs = append(attrs, slog.Bool("cut", true))
		}
		return attrs
	})
}

// statusClientClosed is nginx's for a client that leaves before the answer.
const statusClientClosed = 499

func (q *request) endSpan(a bridge.Answer, reason string, status int) {
	if q.span.IsRecording() {
		if a.Route != "" {
			q.span.SetName(q.method + " " + routeName(a.Route))
			q.span.SetAttributes(attribute.String(attrHTTPRoute, routeName(a.Route)))
		}
		q.span.SetAttributes(
			attribute.String(attrHTTPMethod, q.method),
			attribute.Int(attrHTTPStatus, status),
			attribute.String(attrURLPath, q.path),
			attribute.String(attrRequestID, q.id),
			q.scheme,
		)
		if a.ID != "" {
			q.span.SetAttributes(attribute.String(genAIResponseID, a.ID))
		}
		if reason == "" && a.Status >= 500 {
			reason = strconv.Itoa(a.Status)
		}
		if reason != "" {
			q.span.SetAttributes(attribute.String(attrErrorType, reason))
		}
		if a.Status >= 500 {
			q.span.SetStatus(otelcodes.Error, reason)
		}
	}
	q.span.End()
}

// methodName bounds the methods that labels have.
func methodName(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace:
		return method
	}
	return "_OTHER"
}

// routeName is a pattern of the gateway's as others write it: /v1/completions/{id}.
func routeName(pattern string) string { return routeNames.Replace(pattern) }

var routeNames = strings.NewReplacer("=**}", "}", "=*}", "}")
