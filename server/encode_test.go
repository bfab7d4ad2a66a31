package server

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

func FuzzAppendDelta(f *testing.F) {
	f.Add(int32(2), "a", "", "", false)
	f.Add(int32(1<<31-1), "", "b\x00", "é", false)
	f.Add(int32(300), string(make([]byte, 300)), "b", "c", true)
	f.Add(int32(2), "\xff", "", "", false)
	f.Add(int32(2), "", "", "\xc3", false)
	f.Fuzz(func(t *testing.T, sequence int32, text, reasoning, refusal string, call bool) {
		sequence = max(sequence, 1)
		d := &completionv1.Delta{Text: text, Reasoning: reasoning, Refusal: refusal}
		if call {
			d.ToolCalls = []*completionv1.ToolCall{{Index: proto.Int32(0), Id: "c"}}
		}
		want, wantErr := proto.Marshal(&completionv1.CompletionEvent{Sequence: sequence, Event: &completionv1.CompletionEvent_Delta{Delta: d}})
		got, err := appendDelta([]byte("before"), sequence, d)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err == nil && !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Errorf("got %x, want %x", got, want)
		}
	})
}

func BenchmarkAppendDelta(b *testing.B) {
	d := &completionv1.Delta{Text: " world"}
	buf := make([]byte, 0, 64)
	b.Run("by-hand", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := appendDelta(buf, 7, d); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("proto", func(b *testing.B) {
		b.ReportAllocs()
		event := &completionv1.CompletionEvent{Sequence: 7, Event: &completionv1.CompletionEvent_Delta{Delta: d}}
		for b.Loop() {
			if _, err := (proto.MarshalOptions{}).MarshalAppend(buf, event); err != nil {
				b.Fatal(err)
			}
		}
	})
}
