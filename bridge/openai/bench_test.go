package openai

import (
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/native"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// BenchmarkAppendMessage sets the encoders beside the native one. They run in turn, a
// thousand events at a time, as answers are, so that what else the machine does meets all of
// them: the figures to look at are the medians of the ratios.
func BenchmarkAppendMessage(b *testing.B) {
	for _, tt := range []struct {
		name  string
		delta *completionv1.Delta
	}{
		{"small", &completionv1.Delta{Text: " world"}},
		{"lines", &completionv1.Delta{Text: strings.Repeat("\tfmt.Println(\"hello\")\n", 20)}},
		{"tools", &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Arguments: `{"city":`}}}},
	} {
		b.Run(tt.name, func(b *testing.B) { benchmarkEncoders(b, marshal(b, delta(tt.delta))) })
	}
}

func benchmarkEncoders(b *testing.B, event []byte) {
	const events = 1000
	encoders := map[string]func() bridgeEncoder{
		"native":    func() bridgeEncoder { return begunEncoder(b, &native.Encoder{Draining: &atomic.Bool{}}) },
		"chat":      func() bridgeEncoder { return begunEncoder(b, &Encoder{}) },
		"responses": func() bridgeEncoder { return begunEncoder(b, &ResponseEncoder{}) },
	}
	took, allocated := map[string][]float64{}, map[string]uint64{}
	dst := make([]byte, 0, 1<<16)
	end := marshal(b, finished(&completionv1.Finished{FinishReason: completionv1.Finished_STOP}))
	for b.Loop() {
		for name, begin := range encoders {
			e := begin()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			for range events {
				if _, _, err := e.AppendMessage(dst, event); err != nil {
					b.Fatal(err)
				}
			}
			if _, _, err := e.AppendMessage(dst, end); err != nil {
				b.Fatal(err)
			}
			if r, ok := e.(*ResponseEncoder); ok {
				for r.HasMore() {
					r.AppendMore(dst)
				}
			}
			took[name] = append(took[name], float64(time.Since(start).Nanoseconds())/events)
			runtime.ReadMemStats(&after)
			allocated[name] += after.Mallocs - before.Mallocs
		}
	}
	for name := range encoders {
		var ratios []float64
		for i, t := range took[name] {
			ratios = append(ratios, t/took["native"][i])
		}
		b.ReportMetric(median(took[name]), name+"-ns/event")
		b.ReportMetric(float64(allocated[name])/float64(b.N*events), name+"-allocs/event")
		if name != "native" {
			b.ReportMetric(median(ratios), name+"÷native")
		}
	}
}

func median(of []float64) float64 {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// bridgeEncoder is what bridge.Encoder has of it.
type bridgeEncoder interface {
	Begin(metadata.MD) string
	AppendMessage(dst, event []byte) (out []byte, terminal bool, err error)
}

// begunEncoder returns an encoder that has had the first event.
func begunEncoder(tb testing.TB, e bridgeEncoder) bridgeEncoder {
	tb.Helper()
	e.Begin(native.Header(testID))
	if _, _, err := e.AppendMessage(nil, marshal(tb, created)); err != nil {
		tb.Fatal(err)
	}
	return e
}
