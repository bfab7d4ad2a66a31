package telemetry

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/server"
)

// The end of a completion whose server is gone has no model. It counts in the series that
// has been there since the start: of a new one, Prometheus does not see the first rise.
func TestLostCompletionIsSeenToRise(t *testing.T) {
	tel, err := New(Config{Prometheus: true, Getenv: func(string) string { return "" }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close()
	tel.KnowModel("") // as there is no --model
	tel.Observer().Ended(t.Context(), server.Ended{ID: "cmpl_x", Outcome: "owner_lost", Journaled: true})
	families, err := tel.scrape.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "sluice_completions_total" {
			continue
		}
		if len(f.GetMetric()) != 1 || f.GetMetric()[0].GetCounter().GetValue() != 1 {
			t.Errorf("got %v", f.GetMetric())
		}
		return
	}
	t.Error("nothing is counted")
}

// What a caller says of a trace that is none is not handed on, as that of ours.
func TestStateOfNoTrace(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	tel, err := New(Config{Getenv: func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}[name] }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer tel.Close()
	const id = "0af7651916cd43dd8448eb211c80319c"
	for parent, want := range map[string]string{
		"00-" + id + "-b7ad6b7169203331-01":                       "a=b",
		"00-" + id + "-b7ad6b7169203331-01-more":                  "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01": "",
		"": "",
	} {
		r, err := http.NewRequest(http.MethodPost, "/v1/completions", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Traceparent", parent)
		r.Header.Set("Tracestate", "a=b")
		tel.Observe(r)(bridge.Answer{Status: http.StatusOK})
		if got := r.Header.Get("Tracestate"); got != want {
			t.Errorf("%q: got %q", parent, got)
		}
	}
}

// That there is no such service is what the health service answers to a bridge, again and
// again: nobody was refused.
func TestHealthRefusesNobody(t *testing.T) {
	for answer, want := range map[error]int{
		status.Error(codes.NotFound, "unknown service"): 0,
		status.Error(codes.ResourceExhausted, "x"):      1,
		nil: 0,
	} {
		var log strings.Builder
		tel, err := New(Config{Prometheus: true, Getenv: func(string) string { return "" }, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		defer tel.Close()
		_, done := tel.Call(t.Context(), healthpb.Health_Check_FullMethodName, false)
		done(answer)
		families, err := tel.scrape.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		counted := false
		for _, f := range families {
			counted = counted || f.GetName() == "sluice_refusals_total"
		}
		if lines := strings.Count(log.String(), "\n"); lines != want || counted != (want > 0) {
			t.Errorf("%v: %d lines in the log; it is counted: %v", answer, lines, counted)
		}
	}
}
