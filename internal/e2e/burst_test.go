package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// numbered returns the chunks of a chat whose text is " 1 2 3 …" up to n, and that
// text. They are as short as chunks can be, so that many come with one read.
func numbered(n int) (chunks []string, text string) {
	for i := range n {
		word := fmt.Sprintf(" %d", i+1)
		chunks = append(chunks, fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", word))
		text += word
	}
	return chunks, text
}

const finishingChunk = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"

// TestBursts checks that no text is lost when chunks come faster than they are
// taken: as many as go into one write of the upstream's, and those that wait behind
// one that is larger than the buffers.
func TestBursts(t *testing.T) {
	chunks, text := numbered(400)
	large := strings.Repeat("x", 9<<10)
	largeChunk := fmt.Sprintf("data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", large)
	for _, tt := range []struct {
		name    string
		writes  []string
		request string
		want    string
	}{
		{"400 chunks in one write", []string{strings.Join(chunks, "") + finishingChunk}, e2etest.Question, text},
		{"100 chunks at a time", []string{strings.Join(chunks[:100], ""), strings.Join(chunks[100:200], ""), strings.Join(chunks[200:300], ""), strings.Join(chunks[300:], "") + finishingChunk}, e2etest.Question, text},
		{"a backlog behind a large chunk", []string{chunks[0], largeChunk + strings.Join(chunks[1:], "") + finishingChunk}, e2etest.Question, " 1" + large + strings.TrimPrefix(text, " 1")},
		{"64 chunks", []string{strings.Join(chunks[:64], "") + finishingChunk}, e2etest.Question, text[:strings.Index(text, " 65")]},
		{"echo without a pause", nil, fmt.Sprintf(`{"model":"echo","prompt":%q}`, strings.TrimSpace(text)), strings.TrimSpace(text)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				if len(tt.writes) == 1 { // without chunked encoding, reads are fuller
					w.Header().Set("Content-Length", strconv.Itoa(len(tt.writes[0])))
				}
				for _, piece := range tt.writes {
					_, _ = io.WriteString(w, piece)
					w.(http.Flusher).Flush()
				}
			})
			for _, layout := range layouts {
				p := e2etest.Start(t, layout, u.Env(), "--echo-interval=0s")
				for _, face := range faces {
					a, err := face.ask(t.Context(), p, tt.request)
					if err != nil || a.status != nil {
						t.Fatalf("%s, %s: %v, %v", layout, face.name, a, err)
					}
					if got := a.text; got != tt.want {
						t.Errorf("%s, %s: %d bytes, want %d, from %.40q on", layout, face.name, len(got), len(tt.want), got[common(got, tt.want):])
					}
					if kept := keptText(t, p, a.id); kept != tt.want {
						t.Errorf("%s, %s: kept are %d bytes, want %d", layout, face.name, len(kept), len(tt.want))
					}
				}
			}
		})
	}
}

// common is how many bytes two texts have in common at their start.
func common(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
