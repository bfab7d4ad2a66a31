package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// TestLogIsBounded writes far more lines of one kind than may be, and some of others: what
// is left out is told as a number, once, and hides no other kind.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log, flush := NewLog(slog.NewTextHandler(&out, nil))
		refused := func(reason string) { log.Info("request refused", "status", 401, "reason", reason) }
		for range 10_000 {
			refused("unauthenticated")
			log.Info("completion", "outcome", "finished")
		}
		refused("overloaded")
		log.With("a", "b").Info("request refused", "reason", "unauthenticated")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		refused("unauthenticated")
		for i := range 10_000 { // a message that has something of a client in it
			log.Warn(fmt.Sprint("odd ", i))
		}
		flush()
		got := out.String()
		for what, want := range map[string]int{
			"msg=\"request refused\" status=401 reason=unauthenticated":   linesPerSecond + 1,
			"msg=\"request refused\" status=401 reason=overloaded":        1,
			"left_out=9981 of=\"request refused\" reason=unauthenticated": 1,
			"outcome=finished":   10_000,
			"lines are left out": 2,
		} {
			if n := strings.Count(got, what); n != want {
				t.Errorf("%d lines with %s, want %d", n, what, want)
			}
		}
		if n := strings.Count(got, "msg=\"odd "); n > linesPerSecond+maxLineKinds {
			t.Errorf("%d lines of ever other messages", n)
		}
	})
}

// TestLogIsWholeAtDebug checks that who asks for each line gets it.
func TestLogIsWholeAtDebug(t *testing.T) {
	var out strings.Builder
	log, flush := NewLog(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for range 1000 {
		log.Info("request refused")
	}
	flush()
	if n := strings.Count(out.String(), "\n"); n != 1000 {
		t.Errorf("%d lines", n)
	}
}

// TestLogNamesTrace checks that the line of a sampled trace has its id, and no other has.
func TestLogNamesTrace(t *testing.T) {
	var out strings.Builder
	log, _ := NewLog(slog.NewTextHandler(&out, nil))
	config := trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}}
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(config))
	log.InfoContext(ctx, "x")
	log.Info("x")
	if strings.Contains(out.String(), "trace_id") {
		t.Error(out.String())
	}
	config.TraceFlags = trace.FlagsSampled
	log.InfoContext(trace.ContextWithSpanContext(ctx, trace.NewSpanContext(config)), "x")
	if !strings.Contains(out.String(), " trace_id=01000000000000000000000000000000\n") {
		t.Error(out.String())
	}
}

// TestTraceStateIsBounded checks that a caller's state of a trace that is larger than
// anybody needs is not kept for as long as a completion runs, nor handed on; the trace is.
func TestTraceStateIsBounded(t *testing.T) {
	for size, want := range map[int]bool{200: true, maxTraceField + 500: false} {
		state := "a=" + strings.Repeat("x", 200)
		for i := 0; len(state) < size; i++ {
			state += fmt.Sprintf(",k%d=%s", i, strings.Repeat("x", 250))
		}
		got := trace.SpanContextFromContext(extract(context.Background(), carrier{
			"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": state,
		}))
		if !got.IsValid() || (got.TraceState().Len() > 0) != want {
			t.Errorf("a state of %d bytes: %v", len(state), got)
		}
	}
}

type carrier map[string]string

func (c carrier) Get(key string) string { return c[key] }
func (carrier) Set(string, string)      {}
func (carrier) Keys() []string          { return nil }
