package engine_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/engine/echo"
)

// A completion is made chunk by chunk: wait for the next one, then take those that have
// come with it.
func Example() {
	var e engine.Engine = &echo.Engine{}
	s := e.Generate(context.Background(), &completionv1.CompletionRequest{Model: "echo", Prompt: proto.String("Hello there")})
	defer s.Close()
	var reason completionv1.Finished_FinishReason
	for wait := true; ; {
		c, err := s.Next(wait)
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		if c == nil { // none at hand: this is where a caller would send what it has
			wait = true
			continue
		}
		wait = false
		fmt.Print(c.Delta.GetText())
		if c.FinishReason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
			reason = c.FinishReason
		}
	}
	fmt.Println("\n" + reason.String()) // without one, the answer was cut
	// Output:
	// Hello there
	// STOP
}
