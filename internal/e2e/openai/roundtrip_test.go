package openai

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// accumulated is what openai-node's accumulator makes of a stream.
type accumulated struct {
	Completion map[string]any
	Error      string
}

// otherwise are the recorded streams that openai-node makes something else of when it
// reads them here than when it reads them directly, and why that is as it must be.
var otherwise = map[string]string{
	"azure-chat": "its first chunk names no model, so that the one is told that was asked for",

	"deepseek-no-resource":         "an answer that is not whole is an error here",
	"finish-abort":                 "an answer that is not whole is an error here",
	"finish-error":                 "an answer that is not whole is an error here",
	"finish-error-upper":           "an answer that is not whole is an error here",
	"finish-gemini-malformed-call": "an answer that is not whole is an error here",
	"openrouter-choice-error":      "an answer that is not whole is an error here",

	"finish-gemini-safety":      "the finish reason is one of OpenAI's here",
	"finish-other":              "the finish reason is one of OpenAI's here, or other",
	"finish-twice":              "the finish reason that says more is told here",
	"mistral-chat":              "the finish reason is one of OpenAI's here",
	"together-text-and-content": "the finish reason is one of OpenAI's here",

	"content-parts":        "read directly, the text is [object Object]",
	"images":               "read directly, the text is [object Object], and one image is left",
	"mistral-thinking":     "read directly, the text is [object Object]",
	"framing-unicode":      "read directly, a choice without an index is lost",
	"workers-ai-numbers":   "read directly, what is no string is lost, or changed",
	"gemini-tools":         "read directly, two calls with one index are one",
	"openai-function-call": "function_call is tool_calls here",
	"tools-ended-twice":    "read directly, calls without an index are lost",
	"tools-no-id":          "read directly, calls without an index are lost",
	"tools-no-index":       "read directly, calls without an index are lost",
	"logprobs":             "each token has all its members here",
}

// TestRoundTrip has openai-node's accumulator read the recorded streams of many servers
// directly, and through the API here: what comes out is the same.
func TestRoundTrip(t *testing.T) {
	node, _ := e2etest.NodeWith(t, programs)
	transcripts := map[string][]byte{}
	files, err := filepath.Glob(e2etest.Root() + "/server/engine/openai/testdata/*.http")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		head, body, _ := bytes.Cut(raw, []byte("\n\n"))
		if bytes.Contains(head, []byte("HTTP/1.1 200")) && bytes.Contains(head, []byte("text/event-stream")) && !bytes.Contains(head, []byte("X-Test")) {
			transcripts[strings.TrimSuffix(filepath.Base(name), ".http")] = body
		}
	}
	u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		stream := transcripts[e2etest.ModelOf(r)]
		if needsRole(stream) {
			_, _ = io.WriteString(w, `data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}`+"\n\n")
		}
		_, _ = w.Write(stream)
	})
	p := e2etest.Start(t, "two processes", u.Env())
	names := slices.Sorted(maps.Keys(transcripts))
	read := func(url string) (all map[string]accumulated) {
		runOpenAINode(t, node, &all, append([]string{"accumulate.js", url}, names...)...)
		return all
	}
	direct, through := read(u.URL+"/v1"), read(p.HTTP+"/openai/v1")
	same := 0
	for _, name := range names {
		want, got := direct[name], through[name]
		if want.Error != "" { // openai-node cannot read it
			continue
		}
		if needsRole(transcripts[name]) { // and so it begins with a chunk that names no model
			delete(want.Completion, "model")
			delete(got.Completion, "model")
		}
		if want.Completion["usage"] == nil { // where this client does not find it
			delete(got.Completion, "usage")
		}
		wanted, gotten := content(want), content(got)
		switch why := otherwise[name]; {
		case wanted == gotten:
			same++
			if why != "" {
				t.Errorf("%s is the same now", name)
			}
		case why == "":
			t.Errorf("%s: got\n%s, and directly\n%s", name, gotten, wanted)
		}
	}
	t.Logf("%d of %d streams are the same, and %d are otherwise", same, len(names), len(otherwise))
	if same < 24 {
		t.Errorf("%d streams are the same", same)
	}
}

// needsRole tells whether a stream lacks a role. This client insists on one.
func needsRole(stream []byte) bool {
	return !bytes.Contains(stream, []byte(`"role":`)) && !bytes.HasPrefix(stream, []byte("\ufeff"))
}

// content is what a stream has come to, as far as it is in the API: servers say more of
// themselves (timings, x_groq, prompt_filter_results). Of reasoning, which is not in it
// either, this client keeps the last piece alone.
func content(a accumulated) string {
	if a.Error != "" {
		return a.Error
	}
	keep(a.Completion, "model", "choices", "usage")
	for _, choice := range list(a.Completion["choices"]) {
		keep(choice, "index", "finish_reason", "logprobs", "message")
		if message, ok := choice["message"].(map[string]any); ok {
			keep(message, "role", "content", "refusal", "tool_calls", "annotations", "audio", "images")
		}
	}
	if usage, ok := a.Completion["usage"].(map[string]any); ok {
		keep(usage, "prompt_tokens", "completion_tokens", "total_tokens", "completion_tokens_details")
		if details, ok := usage["completion_tokens_details"].(map[string]any); ok {
			if keep(details, "reasoning_tokens"); details["reasoning_tokens"] == 0.0 {
				delete(usage, "completion_tokens_details")
			}
		}
	}
	b, _ := json.MarshalIndent(a.Completion, "", " ")
	return string(b)
}

// keep deletes the other members of an object, and those that are null.
func keep(object map[string]any, names ...string) {
	maps.DeleteFunc(object, func(name string, value any) bool { return value == nil || !slices.Contains(names, name) })
}

func list(v any) (objects []map[string]any) {
	elements, _ := v.([]any)
	for _, e := range elements {
		if object, ok := e.(map[string]any); ok {
			objects = append(objects, object)
		}
	}
	return objects
}
