package engine_test

import (
	"context"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// shouter is an engine that returns the prompt in upper case, letter by letter.
type shouter struct{}

func (shouter) Models(context.Context) ([]string, error) { return []string{"shouter"}, nil }

func (shouter) Generate(ctx context.Context, req *completionv1.CompletionRequest) engine.Stream {
	return &shouterStream{ctx: ctx, letters: strings.Split(strings.ToUpper(req.GetPrompt()), "")}
}

type shouterStream struct {
	ctx      context.Context
	letters  []string // still to be sent
	sent     int32
	finished bool
}

// Next has a chunk ready at any time, so it need not look at wait.
func (s *shouterStream) Next(bool) (*engine.Chunk, error) {
	switch {
	case s.ctx.Err() != nil:
		return nil, context.Cause(s.ctx)
	case s.finished:
		return nil, io.EOF
	case len(s.letters) == 0:
		s.finished = true
		usage := &completionv1.Usage{CompletionTokens: s.sent, TotalTokens: s.sent}
		return &engine.Chunk{Model: "shouter", FinishReason: completionv1.Finished_STOP, Usage: usage}, nil
	}
	delta := &completionv1.Delta{Text: s.letters[0]}
	s.letters, s.sent = s.letters[1:], s.sent+1
	return &engine.Chunk{Delta: delta}, nil
}

func (s *shouterStream) Close() {}

// A new engine implements two small interfaces. Its test calls enginetest.Run:
// echo/suite_test.go shows how.
func Example() {
	var e engine.Engine = shouter{}
	s := e.Generate(context.Background(), &completionv1.CompletionRequest{Prompt: proto.String("hi")})
	defer s.Close()
	for {
		c, err := s.Next(true)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(c.Delta.GetText(), c.FinishReason)
	}
	// Output:
	// H FINISH_REASON_UNSPECIFIED
	// I FINISH_REASON_UNSPECIFIED
	//  STOP
	// EOF
}
