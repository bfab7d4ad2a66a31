package server

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/inproc"
	"github.com/sluice-sse/sluice/internal/inproc/inproctest"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/engine/echo"
	"github.com/sluice-sse/sluice/server/engine/enginetest"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// script is the fake of package engine.
type script = enginetest.Script

// text is a chunk of text.
func text(s string) *engine.Chunk { return &engine.Chunk{Delta: &completionv1.Delta{Text: s}} }

var (
	begun   = &engine.Chunk{Model: "m-1"}
	stopped = &engine.Chunk{FinishReason: completionv1.Finished_STOP, Usage: &completionv1.Usage{TotalTokens: 3}}
)

// silent emits chunks, one after the other, and then nothing until it is told to end.
func silent(chunks ...*engine.Chunk) script {
	return func(ctx context.Context, emit func(...*engine.Chunk) error) error {
		for _, c := range chunks {
			if err := emit(c); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
}

// fixture is a server and a client on an in-process connection to it.
type fixture struct {
	server  *Server
	conn    *inproc.Conn
	client  completionv1.CompletionServiceClient
	journal *memory.Journal
	log     *strings.Builder
}

func newFixture(t *testing.T, eng engine.Engine, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{journal: memory.New(memory.Config{}), log: &strings.Builder{}}
	config := Config{
		Echo:               &echo.Engine{},
		OpenAI:             eng,
		DefaultModel:       "m",
		Journal:            f.journal,
		Log:                slog.New(slog.NewTextHandler(f.log, nil)),
		MaxDisconnectGrace: time.Minute,
	}
	for _, c := range change {
		c(&config)
	}
	f.server = New(config)
	f.conn = &inproc.Conn{}
	completionv1.RegisterCompletionServiceServer(f.conn, f.server)
	f.client = completionv1.NewCompletionServiceClient(inproctest.Client{Conn: f.conn})
	t.Cleanup(func() {
		f.server.Close()
		f.journal.Close()
	})
	return f
}

// run returns the run of a completion, or nil when it has ended.
func (f *fixture) run(id string) *run {
	f.server.mu.Lock()
	defer f.server.mu.Unlock()
	return f.server.runs[id]
}

func prompt(s string) *completionv1.CompletionRequest {
	return &completionv1.CompletionRequest{Prompt: proto.String(s)}
}

type eventStream = grpc.ServerStreamingClient[completionv1.CompletionEvent]

func (f *fixture) stream(t *testing.T, ctx context.Context, req *completionv1.CompletionRequest) (string, eventStream) {
	t.Helper()
	s, err := f.client.StreamCompletion(ctx, req)
	return header(t, s, err), s
}

func (f *fixture) resume(t *testing.T, ctx context.Context, id string, after int32) eventStream {
	t.Helper()
	s, err := f.client.ResumeCompletion(ctx, &completionv1.ResumeCompletionRequest{Id: id, AfterSequence: after})
	header(t, s, err)
	return s
}

// header returns the id that a stream's header names.
func header(t *testing.T, s eventStream, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	md, err := s.Header()
	if err != nil {
		t.Fatal(err)
	}
	if v := md.Get("completion-id"); len(v) == 1 {
		return v[0]
	}
	return ""
}

// read reads a stream to its end and says what came, an event a word.
func read(s eventStream) (string, error) {
	var words []string
	for {
		e, err := s.Recv()
		if err == io.EOF {
			return strings.Join(words, " "), nil
		}
		if err != nil {
			return strings.Join(words, " "), err
		}
		words = append(words, fmt.Sprintf("%d:%s", e.GetSequence(), word(e)))
	}
}

func word(e *completionv1.CompletionEvent) string {
	switch event := e.GetEvent().(type) {
	case *completionv1.CompletionEvent_Created:
		return "created"
	case *completionv1.CompletionEvent_Delta:
		return event.Delta.GetText()
	case *completionv1.CompletionEvent_Finished:
		return event.Finished.GetFinishReason().String()
	}
	return "nothing"
}

// reason returns the reason in an error's ErrorInfo, or noReason.
func reason(err error) failure.Reason {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == failure.Domain {
			value, ok := completionv1.ErrorReason_value[info.GetReason()]
			if !ok || value == 0 {
				panic("there is no reason " + info.GetReason())
			}
			return failure.Reason(value)
		}
	}
	return noReason
}

// noReason is what an error has that does not come from the server, and no error.
const noReason failure.Reason = 0

// atOnce has all chunks ready at once, and then ends with err.
func atOnce(err error, chunks ...*engine.Chunk) script {
	return func(_ context.Context, emit func(...*engine.Chunk) error) error {
		return cmp.Or(emit(chunks...), err)
	}
}

// play emits chunks, one after the other, and returns err.
func play(err error, chunks ...*engine.Chunk) script {
	return func(_ context.Context, emit func(...*engine.Chunk) error) error {
		for _, c := range chunks {
			if err := emit(c); err != nil {
				return err
			}
		}
		return err
	}
}
