package openai

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/native"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// BenchmarkAppendMessage sets the encoder beside the native one.
func BenchmarkAppendMessage(b *testing.B) {
	for _, tt := range []struct {
		name  string
		delta *completionv1.Delta
	}{
		{"small", &completionv1.Delta{Text: " world"}},
		{"lines", &completionv1.Delta{Text: strings.Repeat("\tfmt.Println(\"hello\")\n", 20)}},
		{"tools", &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Arguments: `{"city":`}}}},
	} {
		event := marshal(b, delta(tt.delta))
		b.Run(tt.name+"/openai", func(b *testing.B) {
			e := begun(b, &Encoder{})
			dst := make([]byte, 0, 1<<16)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := e.AppendMessage(dst, event); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(tt.name+"/native", func(b *testing.B) {
			dst := make([]byte, 0, 1<<16)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := native.AppendEvent(dst, testID, event, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
