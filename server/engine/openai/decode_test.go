package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/server/engine"
)

// Chunks that must not take the long way, for they come in thousands.
var plainChunks = []string{
	`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1694268190,"model":"gpt-4o-mini","system_fingerprint":"fp_44709d6fcb","service_tier":"default","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"xYz"}`,
	`{"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":" world"},"finish_reason":null}]}`,
	`{"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00\ud83d \udc00é😀"},"finish_reason":null}]}`,
	`{"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"reasoning_content":"hm","content":null},"x":{"content":[{"token":"a","logprob":-1.5e-3,"bytes":[1]}]},"finish_reason":null}]}`,
	`{"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
	`{"id":"1","object":"text_completion","model":"m","choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":"length"}],"error":null}`,
	` { "model" : "m" , "choices" : [ { "delta" : { "content" : "x" , "refusal" : null, "tool_calls" : null } } ] } `,
	`{"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}`,
}

// What only encoding/json may judge.
var oddChunks = []string{
	`{"choices":[{"delta":{"content":"x","Content":"y"}}]}`,
	`{"choices":[{"delta":{"content":"x","content":"y"}}]}`,
	`{"choices":[{"delta":{"content":"x"},"delta":{"refusal":"y"}}]}`,
	`{"choices":[{"delta":{"c\u006fntent":"x"}}]}`,
	"{\"choices\":[{\"delta\":{\"content\":\"\xff\"}}]}",
	"{\"choices\":[{\"delta\":{\"content\":\"\n\"}}]}",
	`{"choices":[{"delta":{"content":"\x"}}]}`,
	`{"choices":[{"delta":{"content":"\u12g4"}}]}`,
	`{"choices":[{"delta":{"content":1}}]}`,
	`{"choices":[{"delta":{"content":"x"}},{"delta":{"content":"y"}}]}`,
	`{"choices":[{"index":1.0}]}`, `{"choices":[{"index":-1}]}`, `{"choices":[{"index":01}]}`, `{"choices":[{"index":9999999999}]}`,
	`{"choices":[null]}`, `{"choices":null}`, `{"choices":{}}`, `{"model":"m"}`, `{}`, `[]`, `null`, ``,
	`{"choices":[],"a":01}`, `{"choices":[],"a":1.}`, `{"choices":[],"a":1e}`, `{"choices":[],"a":-}`, `{"choices":[],"a":nul}`, `{"choices":[],"a":truee}`,
	`{"choices":[],}`, `{"choices":[]}}`, `{"choices":[]} x`, `{"choices":[}`, `{"choices":[{"delta":{"content":"x"}]}`, `{"choices":[{"delta":{"content":"x`, `{"choices":[{"delta":{"content":"x\`,
	`{"choices":[],"usage":{"total_tokens":1}}`, `{"choices":[],"error":{"message":"x"}}`, `{"choices":[],"object":"error"}`,
	`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a"}]}}]}`,
	`{"choices":[{"message":{"content":"x"}}]}`,
	`{"choices":[{"delta":{"content":"x"},"logprobs":{"content":[{"token":"a","logprob":-1.5e-3,"bytes":[1]}]}}]}`,
	`{"choices":[{"delta":{"content":"x"},"finishReason":"stop"}]}`, `{"choices":[{"finishreason":"stop"}]}`,
	`{"choices":[{"text":"x","usage":{"total_tokens":1}}]}`, `{"choices":[{"error":{"message":"x"}}]}`,
	`{"choices":[],"x_groq":{"usage":{"total_tokens":1}}}`,
	`{"choices":[{"delta":{"reasoning_details":[{"text":"x"}]}}]}`, `{"choices":[{"delta":{"images":[{"image_url":"x"}]}}]}`,
	`{"choices":[{"delta":{"extra_content":{"a":1}}}]}`, `{"choices":[{"delta":{"reasoning_text":"x"}}]}`,
	`{"choices":[{"delta":{"content":[]}}]}`, `{"choices":[{"delta":{"content":true}}]}`, `{"choices":[{"text":1}]}`, `{"choices":[{"delta":"x"}]}`,
}

func TestDecodeFast(t *testing.T) {
	c := new(wireChunk)
	for _, chunk := range plainChunks {
		if !decodeFast([]byte(chunk), c) {
			t.Errorf("not decoded fast: %s", chunk)
		}
	}
	for _, chunk := range oddChunks {
		if decodeFast([]byte(chunk), c) {
			t.Errorf("decoded fast: %s", chunk)
		}
	}
}

// same holds the fast way against the slow one, and c against what an earlier
// chunk left in it.
func same(t *testing.T, data []byte, c *wireChunk) {
	t.Helper()
	if !c.decodeLike(data) && !decodeFast(data, c) {
		return
	}
	want := new(wireChunk)
	if err := decodeSlowly(bytes.TrimSpace(data), want); err != nil {
		t.Fatalf("%q: decoded fast, but %v", data, err)
	}
	got := *c
	got.delta, got.last = nil, template{}
	if !reflect.DeepEqual(&got, want) {
		t.Fatalf("%q:\nfast %s\nslow %s", data, show(&got), show(want))
	}
}

func show(c *wireChunk) []byte {
	b, _ := json.Marshal(c)
	return b
}

func TestDecodeFastIsTheSame(t *testing.T) {
	c := new(wireChunk)
	for range 2 {
		for _, chunk := range append(plainChunks, oddChunks...) {
			same(t, []byte(chunk), c)
			for i := range len(chunk) { // cut, and with a byte missing
				same(t, []byte(chunk[:i]), c)
				same(t, []byte(chunk[:i]+chunk[i+1:]), c)
			}
		}
	}
}

// Chunks that differ from the one before only in their text, and in padding.
func TestDecodeLike(t *testing.T) {
	texts := []string{`"a"`, `""`, `" b"`, `"é😀"`, `"\n\"\u00e9\ud83d\ude00"`, `null`, ` "c"`, `"\x"`, "\"\n\"", `"`, `1`, `{}`, `"a","b":"c"`, "\"\xff\""}
	for _, form := range []string{
		`{"id":"1","model":"m","choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}`,
		`{"choices":[{"delta":{"role":"assistant","content":%s,"refusal":null}}],"usage":null,"obfuscation":"%d"}`,
		`{"choices":[{"delta":{"content":"a","reasoning":%s}}],"obfuscation":"%d","x":[1]}`,
		`{"obfuscation":"%[2]d","choices":[{"index":0,"text":%[1]s,"finish_reason":null}]}`,
		`{"choices":[{"delta":{"content":%s},"finish_reason":"stop"}],"x":"\n%d"} `,
		`{"choices":[{"delta":{"content":%s}}, {"index":1,"text":"x"}]}`,
		`{"a":%s,"choices":[]}`,
	} {
		c := new(wireChunk)
		for i, first := range texts {
			for j, text := range texts {
				for k, text := range []string{first, text} {
					data := fmt.Appendf(nil, form, text, 7*i+100*j+k)
					if n := strings.Count(form, "%"); n == 1 {
						data = fmt.Appendf(nil, form, text)
					}
					same(t, data, c)
				}
			}
		}
	}
	// And it is the short way that they take.
	c := new(wireChunk)
	for i, form := range []string{plainChunks[1], plainChunks[0]} {
		decodeFast([]byte(form), c)
		other := strings.Replace(strings.Replace(form, `"content":"`, `"content":"more \u00e9`, 1), "xYz", "x", 1)
		if !c.decodeLike([]byte(other)) || !strings.HasPrefix(string(c.Choices[0].Delta.Content), "more é") {
			t.Errorf("%d: not like the one before: %s", i, other)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, chunk := range append(plainChunks, oddChunks...) {
		f.Add([]byte(chunk), []byte(plainChunks[0]))
	}
	names, err := filepath.Glob("testdata/*.http")
	if err != nil || len(names) == 0 {
		f.Fatalf("no transcripts: %v", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
				f.Add(bytes.TrimSpace(data), []byte(plainChunks[1]))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data, before []byte) {
		c := new(wireChunk)
		decodeFast(before, c)
		same(t, data, c)
		same(t, data, c)
	})
}

// A stream makes of a chunk the same, whatever came before it.
func TestStreamLike(t *testing.T) {
	forms := []string{
		`{"model":"m","choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"content":"x","refusal":%q}}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"reasoning_content":%q}}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"reasoning":%q}}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"x","reasoning":%q}}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"reasoning":"x","reasoning_content":%q}}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"","reasoning":%q,"content":"x"}}]}`,
		`{"model":"m","choices":[{"index":0,"text":%q}]}`,
		`{"model":"m","choices":[{"index":0,"text":%q,"delta":{"content":"x"}}]}`,
		`{"model":"m","choices":[{"index":0,"text":"x","delta":{"content":%q}}]}`,
		`{"model":"n","choices":[{"index":1,"delta":{"content":%q}}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"content":%q},"finish_reason":"length"}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"content":%q,"tool_calls":[{"index":0,"id":"a","function":{"arguments":"1"}}]}}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"content":%q}}],"usage":{"total_tokens":1}}`,
		`{"model":"m","choices":[],"x":%q}`,
		`{"model":"m","choices":[{"index":0,"text":%q},{"index":1}]}`,
		`{"model":"m","choices":[{"index":0,"delta":{"content":%q}},{"index":1},{"index":2}]}`,
	}
	show := func(c *engine.Chunk) string {
		if d := c.Delta; d != nil && d.Text == "" && d.Reasoning == "" && d.Refusal == "" && len(d.ToolCalls) == 0 {
			t.Error("an empty delta")
		}
		for _, call := range c.Delta.GetToolCalls() {
			call.Id = "" // only the first piece has it
		}
		return fmt.Sprint(c.Model, " ", c.FinishReason, " ", c.Delta, " ", c.Usage)
	}
	e := newEngine(t, Config{BaseURL: "http://localhost"})
	next := func(s *stream, data string) string {
		t.Helper()
		s.events.r = strings.NewReader("data: " + data + "\n\n")
		c, err := s.Next(true)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		return show(c)
	}
	long := &stream{engine: e, ctx: t.Context()}
	for range 2 { // so that the index of a choice does not count chunks
		next(long, fmt.Sprintf(forms[0], "a"))
	}
	for range 20_000 {
		data := fmt.Sprintf(forms[rand.IntN(len(forms))], []string{"", "a", "x", "b\n"}[rand.IntN(4)])
		for range 1 + rand.IntN(2) {
			want := next(&stream{engine: e, ctx: t.Context()}, data)
			if got := next(long, data); got != want {
				t.Fatalf("%s:\ngot  %s\nwant %s", data, got, want)
			}
		}
	}
}
