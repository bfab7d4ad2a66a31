package server

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"google.golang.org/grpc/metadata"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/engine/echo"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// fluent is an engine, and the stream, that has so many deltas, which cost nothing.
type fluent struct {
	left     int
	chunk    engine.Chunk
	oneByOne bool // there is never another one at hand
}

func (f *fluent) Models(context.Context) ([]string, error) { return nil, nil }

func (f *fluent) Generate(context.Context, *completionv1.CompletionRequest) engine.Stream { return f }

func (f *fluent) Next(wait bool) (*engine.Chunk, error) {
	if f.oneByOne && !wait {
		return nil, nil
	}
	if f.left--; f.left < 0 {
		return nil, io.EOF
	}
	return &f.chunk, nil
}

func (f *fluent) Close() {}

// discard is a receiver that takes everything.
type discard struct{}

func (discard) Header(metadata.MD)     {}
func (discard) Receive([][]byte) error { return nil }

// BenchmarkDelta is one delta from the engine to the journal and to a reader in this
// process. What the engine costs is in package openai's benchmark of the same name.
func BenchmarkDelta(b *testing.B) {
	b.Run("in-bursts", func(b *testing.B) { benchmarkDelta(b, false) })
	b.Run("one-by-one", func(b *testing.B) { benchmarkDelta(b, true) })
}

func benchmarkDelta(b *testing.B, oneByOne bool) {
	eng := &fluent{left: b.N, chunk: *text(" world"), oneByOne: oneByOne}
	j := memory.New(memory.Config{Bytes: 1 << 40, MaxCompletion: 1 << 40})
	defer j.Close()
	s := New(Config{Echo: &echo.Engine{}, OpenAI: eng, DefaultModel: "m", Journal: j, Log: slog.New(slog.DiscardHandler)})
	defer s.Close()
	conn := &inproc.Conn{}
	completionv1.RegisterCompletionServiceServer(conn, s)
	b.ReportAllocs()
	b.ResetTimer()
	_ = conn.Stream(b.Context(), completionv1.CompletionService_StreamCompletion_FullMethodName, prompt("x"), discard{})
}
