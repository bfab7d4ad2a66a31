package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// A family is five characters to Unicode, joined into one to people.
const family = "\U0001F469\u200D\U0001F469\u200D\U0001F466"

// texts are hard to carry over lines, JSON, UTF-8, or a page.
var texts = []struct {
	name   string
	chunks []string
}{
	{"line feeds", []string{"a\nb", "\n", "\n\nc", "\n"}},
	{"carriage returns", []string{"a\rb", "\r", "\rc\r"}},
	{"both", []string{"a\r\nb", "\r", "\n", "\r\n\r\n"}},
	{"NUL", []string{"a\x00b", "\x00"}},
	{"control characters", []string{"\x01\x02\x1b[31m\x7f\b\f\v\t"}},
	{"line separators", []string{"a\u2028b\u2029c\u0085d", "\u2028", "\u0085"}},
	{"emoji", []string{"a \U0001F600", "\U0001F44D\U0001F3FD", " \U0001F1E9\U0001F1EA"}},
	{"emoji split over chunks", splitRunes("\u2764\uFE0F " + family + " \U0001F1E9\U0001F1EA \U0001F44D\U0001F3FD")},
	{"combining characters", splitRunes("e\u0301 \u0e19\u0e49\u0e33 नमस्ते")},
	{"other scripts", []string{"日本語", " العربية\u202e", " \uFEFF", "\uFFFD\uFFFF\U0010FFFF"}},
	{"an event stream", []string{"data: ", "data: x\n\nevent: finished\ndata: {}\nid: cmpl_x_9\n\n", ": hb\n", "\n\n"}},
	{"an upstream's end", []string{"data: [DONE]\n\n", "[DONE]"}},
	{"markup", []string{"</script>", "<!--", "&amp;<b>'\"", "]]>"}},
	{"JSON", []string{`{"error":{"code":500}}`, `\`, `"`, `\u0000`, `\n`, `"}`}},
	{"white space", []string{" ", " a", "  ", "\t", "\u00a0", " "}},
	{"one long chunk", []string{strings.Repeat("0123456789\n\U0001F600\x00", 1<<16)}}, // 1 MiB
}

// splitRunes makes each code point a chunk.
func splitRunes(s string) []string { return strings.Split(s, "") }

// TestTexts checks that texts arrive as they were sent, on each face, while the
// upstream writes one byte at a time, which cuts every character.
func TestTexts(t *testing.T) {
	for _, layout := range layouts {
		for _, tt := range texts {
			t.Run(layout+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				want := strings.Join(tt.chunks, "")
				if !utf8.ValidString(want) {
					t.Fatal("no text")
				}
				for _, legacy := range []bool{false, true} {
					if legacy && layout != layouts[0] {
						continue // the halves between the engine and a caller are the same
					}
					request := e2etest.Question
					if legacy {
						request = `{"model":"m","prompt":"Hi"}`
					}
					u := e2etest.NewUpstream(t, speak(tt.chunks, legacy))
					p := e2etest.Start(t, layout, u.Env())
					for _, face := range faces {
						a, err := face.ask(t.Context(), p, request)
						if err != nil || a.status != nil {
							t.Fatalf("%s: %v, %v", face.name, a, err)
						}
						if a.text != want {
							t.Errorf("%s, legacy %v: got %.200q, want %.200q", face.name, legacy, a.text, want)
						}
						if got := keptText(t, p, a.id); got != want {
							t.Errorf("%s, legacy %v: kept is %.200q, want %.200q", face.name, legacy, got, want)
						}
					}
				}
			})
		}
	}
}

// speak streams chunks of text, short ones byte by byte.
func speak(chunks []string, legacy bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i, c := range chunks {
			finish := "null"
			if i == len(chunks)-1 {
				finish = `"stop"`
			}
			quoted := plainJSON(c)
			format := "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%s},\"finish_reason\":%s}]}\n\n"
			if legacy {
				format = "data: {\"choices\":[{\"index\":0,\"text\":%s,\"finish_reason\":%s}]}\n\n"
			}
			event := fmt.Sprintf(format, quoted, finish)
			if len(event) > 1000 {
				_, _ = io.WriteString(w, event)
				continue
			}
			for i := range len(event) {
				_, _ = io.WriteString(w, event[i:i+1])
				w.(http.Flusher).Flush()
			}
		}
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	}
}

// plainJSON is a JSON string that escapes only what it must, so that characters
// are on the wire as they are.
func plainJSON(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s)
	quoted := strings.TrimSuffix(b.String(), "\n")
	return strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029", `\\`, `\\`).Replace(quoted)
}

// keptText is the text of a completion that was kept.
func keptText(t *testing.T, p *e2etest.Program, id string) string {
	t.Helper()
	resp, err := http.Get(p.HTTP + "/v1/completions/" + id)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %v", body, err)
	}
	c := &completionv1.Completion{}
	if err := protojson.Unmarshal(body, c); err != nil {
		t.Fatal(err)
	}
	return c.GetText()
}
