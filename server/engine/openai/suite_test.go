package openai

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/engine/enginetest"
)

// TestSuite runs the suite in front of upstreams that write each burst at once: the
// shortest possible chunks of a chat, and OpenAI's of a legacy completion.
func TestSuite(t *testing.T) {
	for _, tt := range []struct {
		name, text, finish string
		req                *completionv1.CompletionRequest
	}{
		{"chat", `{"model":"m-1","choices":[{"delta":{"content":%s}}]}`, `{"model":"m-1","choices":[{"delta":{},"finish_reason":%q}]}`, chat()},
		{"legacy", `{"id":"cmpl-1","object":"text_completion","created":1,"choices":[{"text":%s,"index":0,"logprobs":null,"finish_reason":null}],"model":"m-1"}`,
			`{"id":"cmpl-1","object":"text_completion","created":1,"choices":[{"text":"","index":0,"logprobs":null,"finish_reason":%q}],"model":"m-1"}`,
			&completionv1.CompletionRequest{Model: "m", Prompt: proto.String("Hi")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			enginetest.Run(t, enginetest.Config{Abilities: enginetest.All, Open: func(t testing.TB, want enginetest.Completion) (engine.Engine, *completionv1.CompletionRequest) {
				return serve(t, perform(want, tt.text, tt.finish)), proto.CloneOf(tt.req)
			}})
		})
	}
}

// perform writes a completion, in chunks of these formats.
func perform(want enginetest.Completion, text, finish string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		var b strings.Builder
		event := func(format string, args ...any) { fmt.Fprintf(&b, "data: "+format+"\n\n", args...) }
		n := 0
		for i, burst := range want.Bursts {
			if i > 0 && want.Resume != nil {
				select {
				case <-want.Resume:
				case <-r.Context().Done():
					return
				}
			}
			for _, s := range burst {
				quoted, _ := json.Marshal(s)
				event(text, quoted)
			}
			n += len(burst)
			if i < len(want.Bursts)-1 || want.End == enginetest.Silence {
				flush(w, b.String())
				b.Reset()
			}
		}
		switch want.End {
		case enginetest.Stop:
			event(finish, "stop")
		case enginetest.Length:
			event(finish, "length")
		case enginetest.Fail:
			event(`{"error":{"message":"no","type":"server_error","code":"server_error"}}`)
		case enginetest.Silence:
			<-r.Context().Done()
			return
		}
		if want.End != enginetest.Fail {
			event(`{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":%d,"total_tokens":%d}}`, n, n+3)
			event("[DONE]")
		}
		flush(w, b.String())
	}
}
