package openai

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/server/engine"
)

// plainChunks are forms of chunks of which a stream has hundreds.
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

// oddChunks are chunks that are unusual or malformed.
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

// TestTemplate checks that the forms of chunks that are frequent become templates.
func TestTemplate(t *testing.T) {
	for _, chunk := range plainChunks {
		p := newPair(t)
		p.next([]byte(chunk))
		_, matches := p.with.template.match([]byte(chunk))
		if want := p.with.chunk.Delta != nil && !strings.Contains(chunk, `\ud83d `); matches != want {
			t.Errorf("it matches: %v, want %v: %s", matches, want, chunk)
		}
	}
}

// pair is two streams of the same chunks, one with templates and one without.
type pair struct {
	t               *testing.T
	with, without   *stream
	chunks, matched int
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t}
	p.restart(newEngine(t, Config{BaseURL: "http://localhost", Key: key}))
	return p
}

func (p *pair) restart(e *Engine) {
	p.with, p.without = &stream{engine: e, ctx: p.t.Context()}, &stream{engine: e, ctx: p.t.Context()}
}

// next compares what the two streams make of a chunk. It restarts them when they have
// come to an end.
func (p *pair) next(data []byte) {
	p.t.Helper()
	p.chunks++
	_, matches := p.with.template.match(data)
	if matches {
		p.matched++
	}
	c, err := p.with.next(data)
	p.without.template.field = nil
	d, wantErr := p.without.next(data)
	if c == nil || d == nil || c.Model != d.Model || c.FinishReason != d.FinishReason || !proto.Equal(c.Delta, d.Delta) || !proto.Equal(c.Usage, d.Usage) {
		if got, want := describe(c, err), describe(d, wantErr); got != want { // ids may differ
			p.t.Fatalf("%q, matching the template: %v\ngot  %s\nwant %s", data, matches, got, want)
		}
	}
	if err != nil || p.with.failure != nil {
		p.restart(p.with.engine)
	}
}

// describe returns all that is in a chunk, or the error in its place.
func describe(c *engine.Chunk, err error) string {
	if c == nil {
		return fmt.Sprint(err)
	}
	delta := "none"
	if c.Delta != nil {
		delta = compact(c.Delta)
	}
	return ownIDs.ReplaceAllString(fmt.Sprintf("%q %v %s %v", c.Model, c.FinishReason, delta, c.Usage), "call_*")
}

// TestTemplateMutations compares chunks that are cut, or lack a byte.
func TestTemplateMutations(t *testing.T) {
	p := newPair(t)
	for range 2 {
		for _, chunk := range append(plainChunks, oddChunks...) {
			p.next([]byte(chunk))
			for i := range len(chunk) {
				p.next([]byte(chunk[:i]))
				p.next([]byte(chunk))
				p.next([]byte(chunk[:i] + chunk[i+1:]))
			}
		}
	}
}

// TestTemplateTexts compares chunks that differ only in their texts and their padding.
func TestTemplateTexts(t *testing.T) {
	texts := []string{`"a"`, `""`, `" b"`, `"é😀"`, `"\n\"\u00e9\ud83d\ude00"`, `null`, ` "c"`, `"\x"`, "\"\n\"", `"`, `1`, `{}`, `"a","b":"c"`, "\"\xff\"", `"\ud83d"`, `"\ude00"`}
	for _, form := range []string{
		`{"id":"1","model":"m","choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}`,
		`{"choices":[{"delta":{"role":"assistant","content":%s,"refusal":null}}],"usage":null,"obfuscation":"%d"}`,
		`{"choices":[{"delta":{"content":"a","reasoning":%s}}],"obfuscation":"%d","x":[1]}`,
		`{"obfuscation":"%[2]d","choices":[{"index":0,"text":%[1]s,"finish_reason":null}]}`,
		`{"choices":[{"delta":{"content":%s},"finish_reason":"stop"}],"p":"\n%d"} `,
		`{"choices":[{"delta":{"content":%s}}],"p":"%d"}`,
		`{"choices":[{"delta":{"reasoning":%[1]s,"reasoning_content":%[1]s}}],"p":"%[2]d"}`,
		`{"choices":[{"text":%[1]s,"delta":{"content":%[1]s}}]}`,
		`{"choices":[{"delta":{"content":%s}}, {"index":1,"text":"x"}]}`,
		`{"choices":[{"delta":{"content":%s,"content":null}}]}`,
		`{"choices":[{"delta":{"Content":%s}}],"content":"a"}`,
		`{"choices":[{"index":1,"delta":{"content":%s}}]}`,
		`{"a":%s,"choices":[]}`,
	} {
		p := newPair(t)
		for i, first := range texts {
			for j, text := range texts {
				for k, text := range []string{first, text} {
					data := fmt.Appendf(nil, form, text, 7*i+100*j+k)
					if n := strings.Count(form, "%"); n == 1 {
						data = fmt.Appendf(nil, form, text)
					}
					p.next(data)
				}
			}
		}
	}
	// Such chunks do match.
	for i, form := range []string{plainChunks[1], plainChunks[0]} {
		p := newPair(t)
		p.next([]byte(strings.Replace(form, `"content":""`, `"content":"x"`, 1)))
		other := strings.Replace(strings.Replace(form, `"content":"`, `"content":"more \u00e9`, 1), "xYz", "x", 1)
		if text, ok := p.with.template.match([]byte(other)); !ok || !strings.HasPrefix(text, "more é") {
			t.Errorf("%d: it does not match: %s", i, other)
		}
	}
}

// FuzzDecode compares a stream of a chunk, and another one, in turn.
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
		p := newPair(t)
		for _, chunk := range [][]byte{before, data, before, data, data} {
			p.next(bytes.TrimSpace(chunk))
		}
	})
}

// TestStreamLike checks that a stream makes the same of a chunk, whatever came before it.
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
