package echo

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/engine/enginetest"
)

// TestSuite runs the suite without an interval, and with one, so that words are not ready
// at once.
func TestSuite(t *testing.T) {
	for _, tt := range []struct {
		name     string
		interval time.Duration
		maxTexts int
	}{{"no pause", 0, 0}, {"a pause", time.Microsecond, 70}} {
		t.Run(tt.name, func(t *testing.T) {
			enginetest.Run(t, enginetest.Config{MaxTexts: tt.maxTexts, Open: func(_ testing.TB, want enginetest.Completion) (engine.Engine, *completionv1.CompletionRequest) {
				var texts []string
				for _, burst := range want.Bursts {
					texts = append(texts, burst...)
				}
				req := &completionv1.CompletionRequest{}
				eng := &Engine{Interval: tt.interval}
				switch want.End {
				case enginetest.Length:
					req.MaxTokens = proto.Int32(int32(len(texts)))
					texts = append(texts, " beyond")
				case enginetest.Silence:
					eng.Interval = time.Hour
					texts = append(texts, " later")
				}
				req.Prompt = proto.String(strings.Join(texts, ""))
				return eng, req
			}})
		})
	}
}
