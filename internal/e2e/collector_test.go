package e2e

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector is what programs export telemetry to: an OTLP receiver.
type collector struct {
	*httptest.Server

	mu      sync.Mutex // guards all below
	spans   []*tracepb.Span
	metrics []*metricspb.Metric // all reports
}

// collect starts a collector, and has programs that the test starts from now on export to
// it. Their exporters read the environment of this process.
func collect(t *testing.T, env map[string]string) *collector {
	t.Helper()
	c := newCollector(t)
	env[exportsTo] = c.URL
	t.Setenv(exportsTo, c.URL)
	return c
}

// exportsTo is the variable that says where a program exports to.
const exportsTo = "OTEL_EXPORTER_OTLP_ENDPOINT"

// newCollector starts a collector.
func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		var request collectortrace.ExportTraceServiceRequest
		if !decodeExport(w, r, &request) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range request.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				c.spans = append(c.spans, scope.GetSpans()...)
			}
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		var request collectormetrics.ExportMetricsServiceRequest
		if !decodeExport(w, r, &request) {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range request.GetResourceMetrics() {
			for _, scope := range resource.GetScopeMetrics() {
				c.metrics = append(c.metrics, scope.GetMetrics()...)
			}
		}
	})
	c.Server = httptest.NewServer(mux)
	t.Cleanup(c.Close)
	return c
}

func decodeExport(w http.ResponseWriter, r *http.Request, m proto.Message) bool {
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(b, m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return err == nil
}

// of returns the spans of a kind that have an attribute, or all of it for "".
func (c *collector) of(kind tracepb.Span_SpanKind, key string) (spans []*tracepb.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.GetKind() == kind && (key == "" || attribute(s.GetAttributes(), key) != "") {
			spans = append(spans, s)
		}
	}
	return spans
}

// labels returns the different values that a label of a counter has which has counted.
func (c *collector) labels(counter, label string) (values []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.metrics {
		if m.GetName() != counter {
			continue
		}
		for _, point := range m.GetSum().GetDataPoints() {
			if v := attribute(point.GetAttributes(), label); point.GetAsInt() > 0 && !slices.Contains(values, v) {
				values = append(values, v)
			}
		}
	}
	return values
}

func attribute(attributes []*commonpb.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// hexID is how the header traceparent has an id.
func hexID(id []byte) string { return hex.EncodeToString(id) }
