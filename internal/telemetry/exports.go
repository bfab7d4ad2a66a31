package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// exports are where metrics and traces go. What is nil is not wanted.
type exports struct {
	traces  *sdktrace.TracerProvider
	metrics *sdkmetric.MeterProvider
	scrape  *scrape
}

// scrape is what Prometheus asks for.
type scrape struct{ registry *prometheus.Registry }

// newExports makes what the configuration and the environment ask for. The exporters
// read the other OTEL_… variables themselves.
func newExports(ctx context.Context, c Config) (*exports, error) {
	env := environment(c.Getenv)
	traces, err := env.asksFor("TRACES")
	if err != nil {
		return nil, err
	}
	metrics, err := env.asksFor("METRICS")
	if err != nil {
		return nil, err
	}
	e := &exports{}
	about, err := aboutProgram(ctx, c.Version)
	if err != nil {
		return nil, err
	}
	var unusable complaints
	if traces != "" || metrics != "" {
		unusable.listen()
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { c.Log.Warn("export telemetry", "cause", err) }))
	}
	if traces != "" {
		exporter, err := newTraceExporter(ctx, traces)
		if err != nil {
			return nil, fmt.Errorf("export traces: %w", err)
		}
		e.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(about)}
	if metrics != "" {
		exporter, err := newMetricExporter(ctx, metrics)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("export metrics: %w", err), e.shutdown(ctx))
		}
		options = append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	}
	if err := unusable.err(); err != nil {
		return nil, errors.Join(err, e.shutdown(ctx))
	}
	if c.Prometheus {
		e.scrape = &scrape{registry: prometheus.NewRegistry()}
		e.scrape.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		reader, err := otelprometheus.New(otelprometheus.WithRegisterer(e.scrape.registry), otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
		if err != nil {
			return nil, errors.Join(fmt.Errorf("metrics for Prometheus: %w", err), e.shutdown(ctx))
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	if metrics != "" || c.Prometheus {
		e.metrics = sdkmetric.NewMeterProvider(options...)
	}
	return e, nil
}

// aboutProgram says what it is that exports. OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES say more, or otherwise.
func aboutProgram(ctx context.Context, version string) (*resource.Resource, error) {
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "sluice"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(),
	)
	if err != nil && !errors.Is(err, resource.ErrSchemaURLConflict) {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return about, nil
}

// environment is that of OpenTelemetry's specification, of which the exporters do not read
// whether, and how, anything is exported.
type environment func(string) string

const (
	protocolHTTPProtobuf = "http/protobuf"
	protocolGRPCName     = "grpc"
)

// asksFor returns the protocol to export a signal by: TRACES or METRICS. It is "" if it is
// not asked for: that takes an endpoint, or the exporter's name. (The specification has
// every program export to this machine if nothing is said.)
func (env environment) asksFor(signal string) (protocol string, err error) {
	variable := "OTEL_" + signal + "_EXPORTER"
	switch exporter := env(variable); {
	case strings.EqualFold(env("OTEL_SDK_DISABLED"), "true"), exporter == "none":
		return "", nil
	case exporter == "" && env("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && env("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") == "":
		return "", nil
	case exporter != "" && exporter != "otlp":
		return "", fmt.Errorf("%s=%s: there are otlp and none; for Prometheus, see --admin", variable, exporter)
	}
	variable = "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL"
	if env(variable) == "" {
		variable = "OTEL_EXPORTER_OTLP_PROTOCOL"
	}
	switch protocol := env(variable); protocol {
	case "":
		return protocolHTTPProtobuf, nil
	case protocolHTTPProtobuf, protocolGRPCName:
		return protocol, nil
	default:
		return "", fmt.Errorf("%s=%s: there are %s and %s", variable, protocol, protocolHTTPProtobuf, protocolGRPCName)
	}
}

func newTraceExporter(ctx context.Context, protocol string) (sdktrace.SpanExporter, error) {
	if protocol == protocolGRPCName {
		return otlptracegrpc.New(ctx)
	}
	return otlptracehttp.New(ctx)
}

func newMetricExporter(ctx context.Context, protocol string) (sdkmetric.Exporter, error) {
	if protocol == protocolGRPCName {
		return otlpmetricgrpc.New(ctx)
	}
	return otlpmetrichttp.New(ctx)
}

// shutdown exports what is left: traces and metrics at the same time, as one may take all
// that there is of it.
func (e *exports) shutdown(ctx context.Context) error {
	var traces, metrics error
	var ending sync.WaitGroup
	if e.traces != nil {
		ending.Go(func() { traces = e.traces.Shutdown(ctx) })
	}
	if e.metrics != nil {
		ending.Go(func() { metrics = e.metrics.Shutdown(ctx) })
	}
	ending.Wait()
	return errors.Join(traces, metrics)
}
