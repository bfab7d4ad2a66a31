package telemetry

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server"
	"github.com/sluice-sse/sluice/server/failure"
)

// Attributes that are not of the conventions for generative AI.
const (
	attrOutcome  = "outcome" // of a completion, in one word
	attrReason   = "reason"  // of a refusal, in lower case
	attrLimit    = "limit"   // that was reached; "": it was none
	attrProtocol = "protocol"
	attrVersion  = "version"
	attrGo       = "goversion"

	attrErrorType  = "error.type"
	attrHTTPMethod = "http.request.method"
	attrHTTPRoute  = "http.route"
	attrHTTPStatus = "http.response.status_code"
	attrURLPath    = "url.path"
	attrURLScheme  = "url.scheme"
	attrRPCSystem  = "rpc.system.name"
	attrRPCMethod  = "rpc.method"
	attrRPCStatus  = "rpc.response.status_code"
	attrRequestID  = "sluice.request.id"
	attrSpanResult = "sluice.outcome"
)

var (
	protocolHTTP = attribute.String(attrProtocol, "http")
	protocolGRPC = attribute.String(attrProtocol, "grpc")
)

// httpDurationBuckets go from a cached answer to a long stream.
var httpDurationBuckets = []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800}

// metrics are what is counted and measured when it happens. What is only looked at when
// somebody asks, is observed: see Telemetry.observe.
type metrics struct {
	completions metric.Int64Counter
	resumes     metric.Int64Counter
	retries     metric.Int64Counter
	refusals    metric.Int64Counter

	httpDuration metric.Float64Histogram
	duration     metric.Float64Histogram
	firstToken   metric.Float64Histogram
	perToken     metric.Float64Histogram
	tokens       metric.Int64Histogram
}

// newMetrics returns them. An error is a mistake in this function.
func newMetrics(m metric.Meter, version string) (*metrics, error) {
	var all metrics
	var errs []error
	counter := func(to *metric.Int64Counter, name, unit, description string) {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(description))
		*to = c
		errs = append(errs, err)
	}
	seconds := func(to *metric.Float64Histogram, name, description string, buckets []float64) {
		h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(buckets...))
		*to = h
		errs = append(errs, err)
	}
	counter(&all.completions, "sluice.completions", "{completion}", "Completions that have ended, by how: finished, cancelled, abandoned, or the reason of the failure.")
	counter(&all.resumes, "sluice.resumes", "{call}", "Calls that resumed a completion.")
	counter(&all.retries, "sluice.upstream.retries", "{request}", "Requests that were sent to the upstream again, by why.")
	counter(&all.refusals, "sluice.refusals", "{request}", "Requests and calls that were refused, by the reason and the limit that was reached.")
	seconds(&all.httpDuration, "http.server.request.duration", "Duration of requests over HTTP, streams to their ends.", httpDurationBuckets)
	seconds(&all.duration, genAIRequestDuration, "Duration of completions, to the last token.", genAIRequestDurationBuckets)
	seconds(&all.firstToken, genAITimeToFirstToken, "Time until the first token of completions.", genAITimeToFirstTokenBuckets)
	seconds(&all.perToken, genAITimePerOutputToken, "Time per token after the first one, of completions that were finished.", genAITimePerOutputTokenBuckets)
	tokens, err := m.Int64Histogram(genAITokenUsage, metric.WithUnit("{token}"), metric.WithDescription("Tokens of completions, as the upstream counts them."), metric.WithExplicitBucketBoundaries(genAITokenUsageBuckets...))
	all.tokens = tokens
	info, infoErr := m.Int64Gauge("sluice.build.info", metric.WithDescription("The version that runs: always 1."))
	if err := errors.Join(append(errs, err, infoErr)...); err != nil {
		return nil, err
	}
	info.Record(context.Background(), 1, metric.WithAttributes(attribute.String(attrVersion, version), attribute.String(attrGo, runtime.Version())))
	// A rise is only one from what was seen before: an alert would not hear of the first.
	all.completions.Add(context.Background(), 0, metric.WithAttributes(
		attribute.String(attrOutcome, strings.ToLower(failure.OwnerLost.String())), attribute.String(genAIRequestModel, otherModel)))
	return &all, nil
}

// observe has a gauge looked at when somebody asks.
func (t *Telemetry) observe(m metric.Meter, name, description, unit string, look metric.Int64Callback) error {
	_, err := m.Int64ObservableGauge(name, metric.WithDescription(description), metric.WithUnit(unit), metric.WithInt64Callback(look))
	return err
}

// Watch has the metrics show what a server and its journal have at the time. It is called
// once.
func (t *Telemetry) Watch(stats func() server.Stats, journalBytes func() int64) error {
	if t.exports.metrics == nil {
		return nil
	}
	m := t.exports.metrics.Meter(scope)
	one := func(value func() int64) metric.Int64Callback {
		return func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(value())
			return nil
		}
	}
	return errors.Join(
		t.observe(m, "sluice.completions.running", "Completions that are generated.", "{completion}", one(func() int64 { return int64(stats().Running) })),
		t.observe(m, "sluice.readers", "Calls that read a completion.", "{reader}", one(func() int64 { return int64(stats().Readers) })),
		t.observe(m, "sluice.journal", "What the completions that are kept take of this process's memory.", "By", one(journalBytes)),
	)
}

// Retried counts a request that was sent to the upstream again. It is openai.Config's
// OnRetry.
func (t *Telemetry) Retried(reason failure.Reason) {
	if t.metrics != nil {
		t.metrics.retries.Add(context.Background(), 1, metric.WithAttributes(attribute.String(attrReason, strings.ToLower(reason.String()))))
	}
}

// Refused counts what was refused, also before it was a request, such as a connection. What
// the server of another API gives as a reason is no label.
func (t *Telemetry) Refused(protocol, reason, limit string) {
	if t.metrics == nil {
		return
	}
	if _, ours := completionv1.ErrorReason_value[strings.ToUpper(reason)]; !ours && reason != "" {
		reason, limit = "other", ""
	}
	t.metrics.refusals.Add(context.Background(), 1, metric.WithAttributes(
		attribute.String(attrProtocol, protocol), attribute.String(attrReason, strings.ToLower(reason)), attribute.String(attrLimit, limit)))
}

// ended measures a completion. Its tokens are those of which the upstream has told.
func (m *metrics) ended(ctx context.Context, e server.Ended, common []attribute.KeyValue) {
	m.completions.Add(ctx, 1, metric.WithAttributes(attribute.String(attrOutcome, e.Outcome), common[len(common)-1]))
	if e.Model == "" { // another server has had it
		return
	}
	all := metric.WithAttributeSet(attribute.NewSet(common...))
	if e.FirstToken > 0 {
		m.firstToken.Record(ctx, e.FirstToken.Seconds(), all)
	}
	if n := e.Usage.GetPromptTokens(); n > 0 {
		m.tokens.Record(ctx, int64(n), metric.WithAttributes(append(common, attribute.String(genAITokenType, genAIInput))...))
	}
	n := e.Usage.GetCompletionTokens()
	if n > 0 {
		m.tokens.Record(ctx, int64(n), metric.WithAttributes(append(common, attribute.String(genAITokenType, genAIOutput))...))
	}
	if n > 1 && e.FirstToken > 0 && e.Cause == nil {
		m.perToken.Record(ctx, (e.Duration-e.FirstToken).Seconds()/float64(n-1), all)
	}
	if e.Cause != nil {
		all = metric.WithAttributes(append(common, attribute.String(attrErrorType, e.Outcome))...)
	}
	m.duration.Record(ctx, e.Duration.Seconds(), all)
}

// answered measures a request over HTTP.
func (m *metrics) answered(d time.Duration, attrs ...attribute.KeyValue) {
	m.httpDuration.Record(context.Background(), d.Seconds(), metric.WithAttributes(attrs...))
}
