package telemetry

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

// OpenTelemetry's libraries go on without a variable that they cannot use, and write its
// value to standard error: it may be the collector's credentials.
func TestUnusableVariables(t *testing.T) {
	for name, variables := range map[string][]string{
		"a header as HTTP has it": {"OTEL_EXPORTER_OTLP_HEADERS", "Authorization: Bearer secret"},
		"a header of traces":      {"OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=secret%zz"},
		"no URL":                  {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://secret:secret@[bad"},
		"no file":                 {"OTEL_EXPORTER_OTLP_CERTIFICATE", "/is/not/there"},
	} {
		for _, protocol := range []string{protocolHTTPProtobuf, protocolGRPCName} {
			t.Run(name+" over "+protocol, func(t *testing.T) {
				t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
				t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
				t.Setenv(variables[0], variables[1])
				tel, err := New(Config{Getenv: os.Getenv, Log: slog.New(slog.DiscardHandler)})
				if err == nil {
					tel.Close()
					t.Fatal("it has started, and exports otherwise than it was told")
				}
				if strings.Contains(err.Error(), "secret") {
					t.Errorf("the error tells the value: %v", err)
				}
				t.Log(err)
			})
		}
	}
}

// A collector of traces that does not answer takes all the time that there is for the end:
// that of metrics gets its last ones nevertheless.
func TestLastMetricsDoNotWaitForTraces(t *testing.T) {
	asked, over := make(chan string, 16), make(chan struct{})
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.Path
		if r.URL.Path == "/v1/traces" {
			<-over
		}
	}))
	defer collector.Close()
	defer close(over)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "120000") // of one export, in ms
	t.Setenv("OTEL_BSP_EXPORT_TIMEOUT", "120000")
	e, err := newExports(t.Context(), Config{Getenv: os.Getenv, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	counter, err := e.metrics.Meter(scope).Int64Counter("c")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 1)
	_, span := e.traces.Tracer(scope).Start(t.Context(), "s")
	span.End()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.shutdown(ctx) }()
	for paths := map[string]bool{}; !paths["/v1/traces"] || !paths["/v1/metrics"]; {
		select {
		case path := <-asked:
			paths[path] = true
		case <-time.After(20 * time.Second):
			t.Fatalf("asked were only %v", paths)
		}
	}
	cancel()
	<-ended
}
