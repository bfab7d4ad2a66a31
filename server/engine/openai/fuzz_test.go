package openai

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

// answers is a transport that responds with 200 and a body.
type answers struct{ body func() io.Reader }

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Body: io.NopCloser(a.body())}, nil
}

// maxFuzzed limits the bodies of FuzzGenerate: the fuzzer takes a minute to minimize an
// input of twelve kilobytes.
const maxFuzzed = 2 << 10

// FuzzGenerate reads random bodies of a success. Whatever they are:
//
//   - the outcome is the same in one piece and byte by byte;
//   - an error is a *failure.Error;
//   - all chunks can be marshalled;
//   - there is no finish reason, and so no success, unless the body has finish_reason in
//     it.
func FuzzGenerate(f *testing.F) {
	names, _ := filepath.Glob("testdata/*.http")
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if _, body, _ := bytes.Cut(raw, []byte("\n\n")); len(body) <= maxFuzzed {
			f.Add(body)
		}
	}
	e := newEngine(f, Config{BaseURL: "http://localhost", Key: key})
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > maxFuzzed {
			return
		}
		e := Engine{config: e.config, redactor: e.redactor}
		e.transport = answers{func() io.Reader { return bytes.NewReader(body) }}
		whole := outcome(&e, chat())
		e.transport = answers{func() io.Reader { return iotest.OneByteReader(bytes.NewReader(body)) }}
		if got := outcome(&e, chat()); got != whole {
			t.Errorf("byte by byte\n%s\nwhole\n%s", got, whole)
		}
		finished := false
		err := generate(context.Background(), &e, chat(), func(c *engine.Chunk) error {
			finished = finished || c.FinishReason != 0
			if _, err := proto.Marshal(c.Delta); err != nil && c.Delta != nil {
				t.Error(err)
			}
			if !utf8.ValidString(c.Model) {
				t.Errorf("model %q", c.Model)
			}
			return nil
		})
		var failed *failure.Error
		if err != nil && !errors.As(err, &failed) {
			t.Errorf("got %v, want a *failure.Error", err)
		}
		if finished && !canFinish(string(body)) {
			t.Errorf("a finish reason from %q", body)
		}
		e.drains.Wait()
	})
}

// canFinish tells whether the body may have a finish reason: encoding/json accepts the key
// in any case and with escapes.
func canFinish(body string) bool {
	body = strings.ToLower(strings.ReplaceAll(body, "ſ", "s"))
	return strings.Contains(body, "finish_reason") || strings.Contains(body, "finishreason") || strings.Contains(body, `\u`)
}
