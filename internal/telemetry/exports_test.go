package telemetry

import (
	"log/slog"
	"os"
	"strings"
	"testing"
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
