package native

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

var benchmarkEvents = map[string]*completionv1.CompletionEvent{
	"small":   delta(117, &completionv1.Delta{Text: " world"}),
	"lines":   delta(117, &completionv1.Delta{Text: strings.Repeat("\tfmt.Println(\"hello\")\n", 20)}),
	"large":   delta(117, &completionv1.Delta{Text: strings.Repeat("The quick brown fox. ", 200)}),
	"foreign": delta(117, &completionv1.Delta{Text: strings.Repeat("敏捷的棕色狐狸“跳”过", 40)}),
	"tools": delta(117, &completionv1.Delta{ToolCalls: []*completionv1.ToolCall{
		{Index: proto.Int32(0), Id: "call_1", Name: "weather", Arguments: `{"city":`}}}),
	"finished": finished(118, &completionv1.Finished{FinishReason: completionv1.Finished_STOP, Usage: &completionv1.Usage{
		PromptTokens: 1200, CompletionTokens: 116, TotalTokens: 1316}}),
	"created": created(1, &completionv1.Created{
		Id: testID, Model: "gpt-oss:20b", CreateTime: &timestamppb.Timestamp{Seconds: 1750000000}}),
}

// BenchmarkAppendEvent sets the encoder beside the obvious way, which does not
// even write the block.
func BenchmarkAppendEvent(b *testing.B) {
	for _, name := range []string{"small", "lines", "large", "foreign", "tools", "finished", "created"} {
		wire := marshal(b, benchmarkEvents[name])
		b.Run(name+"/wire", func(b *testing.B) {
			dst := make([]byte, 0, 1<<16)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := AppendEvent(dst, testID, wire, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/protojson", func(b *testing.B) {
			dst := make([]byte, 0, 1<<16)
			b.ReportAllocs()
			for b.Loop() {
				var e completionv1.CompletionEvent
				if err := proto.Unmarshal(wire, &e); err != nil {
					b.Fatal(err)
				}
				if _, err := (protojson.MarshalOptions{}).MarshalAppend(dst, &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
