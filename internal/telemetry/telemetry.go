// Package telemetry tells operators what happens: by metrics, traces and lines in the log.
//
// It hears of requests by bridge.Config.Observe, of calls by interceptors, of completions
// by server.Observer, and of requests to the upstream by openai.Config: once for each of
// these, and never for an event. So a stream costs the same however long it is.
//
// A trace is one tree: the span of a request over HTTP has that of the call below it, and
// this that of the completion, which lasts as long as the upstream is asked. Trace
// context goes in the headers of W3C, also from HTTP to gRPC within one process.
//
// How a completion has ended has one word in all of it: see server.Config.Observer.
package telemetry

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// scope is the name of the instrumentation.
const scope = "github.com/sluice-sse/sluice"

// Config says what a Telemetry is for.
type Config struct {
	Prometheus bool                // metrics can be scraped, see Telemetry.Admin
	Getenv     func(string) string // has the OTEL_… variables, which can ask for more
	Version    string              // of the program
	Log        *slog.Logger
}

// Telemetry is for many goroutines at once. It is to be closed.
type Telemetry struct {
	log     *slog.Logger
	tracer  trace.Tracer
	metrics *metrics // nil: there are none
	models  models
	scrape  *scrape // nil: there is none
	exports exports

	requests, calls atomic.Int64 // over HTTP and gRPC, that are under way
}

// propagator is for all contexts that go over a wire. Baggage is not among them: it is the
// callers' own, and may be confidential.
var propagator = propagation.TraceContext{}

// maxTraceField is how many bytes a field of a trace's context may have that callers send:
// it is kept for as long as a completion runs. More of it is as good as none.
const maxTraceField = 4 << 10

// extract returns a context with the trace that a caller has sent.
func extract(ctx context.Context, from propagation.TextMapCarrier) context.Context {
	return propagator.Extract(ctx, boundedCarrier{from})
}

type boundedCarrier struct{ propagation.TextMapCarrier }

func (b boundedCarrier) Get(key string) string {
	if v := b.TextMapCarrier.Get(key); len(v) <= maxTraceField {
		return v
	}
	return ""
}

// New returns one that exports what the environment asks for. It fails if that is not to
// be had.
func New(c Config) (*Telemetry, error) {
	t := &Telemetry{log: c.Log, tracer: tracenoop.NewTracerProvider().Tracer(scope)}
	t.models.log, t.models.known = c.Log, map[string]bool{echoModel: true}
	ctx := context.Background()
	e, err := newExports(ctx, c)
	if err != nil {
		return nil, err
	}
	t.exports = *e
	if e.traces != nil {
		t.tracer = e.traces.Tracer(scope)
	}
	t.scrape = e.scrape
	if e.metrics != nil {
		if t.metrics, err = newMetrics(e.metrics.Meter(scope), c.Version); err != nil {
			t.Close()
			return nil, err
		}
		err := t.observe(e.metrics.Meter(scope), "sluice.streams", "Requests and calls under way, by the protocol that they came over.", "{stream}", func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(t.requests.Load(), metric.WithAttributes(protocolHTTP))
			o.Observe(t.calls.Load(), metric.WithAttributes(protocolGRPC))
			return nil
		})
		if err != nil {
			t.Close()
			return nil, err
		}
	}
	return t, nil
}

// closeTimeout is how long the last spans and metrics have to be exported.
const closeTimeout = 5 * time.Second

// Close exports what is left.
func (t *Telemetry) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	t.models.close()
	if err := t.exports.shutdown(ctx); err != nil {
		t.log.Warn("export telemetry", "cause", err)
	}
}
