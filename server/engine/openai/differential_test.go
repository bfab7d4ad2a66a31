package openai

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// chunks is the number of chunks of TestDecodersAgree; in .ci/run it is a million.
var chunks = flag.Int("chunks", 50_000, "the number of random chunks with which the decoders are compared")

// randomly returns a maker of chunks, and logs the seed for a test that fails.
func randomly(t *testing.T) *chunkMaker {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return &chunkMaker{Rand: rand.New(rand.NewPCG(seed, 0))}
}

// TestDecodersAgree compares streams with templates with streams without, and
// decodeChunk with encoding/json alone, on random chunks, one after the other.
func TestDecodersAgree(t *testing.T) {
	t.Parallel() // with TestStreamsAgree: a million chunks take a processor a minute
	m, p := randomly(t), newPair(t)
	plain := 0
	start := time.Now()
	for p.chunks < *chunks {
		for _, data := range m.sequence() {
			data = bytes.TrimSpace(data)
			p.next(data)
			if comparePlain(t, data) {
				plain++
			}
			if p.chunks%4 == 0 {
				compareRare(t, data)
			}
		}
	}
	t.Logf("%d chunks in %v: %d by a template, %d with nothing but plain types", p.chunks, time.Since(start).Round(time.Millisecond), p.matched, plain)
	if p.matched < p.chunks/50 || plain < p.chunks/50 {
		t.Errorf("of %d chunks only %d came by a template, and %d are plain", p.chunks, p.matched, plain)
	}
}

// plainChunk is a chunk for encoding/json alone.
type plainChunk struct {
	Object  string        `json:"object"`
	Model   string        `json:"model"`
	Choices []plainChoice `json:"choices"`
}

type plainChoice struct {
	Index        int         `json:"index"`
	Delta        *plainDelta `json:"delta"`
	Message      *plainDelta `json:"message"`
	Text         string      `json:"text"`
	FinishReason string      `json:"finish_reason"`
	FinishCamel  string      `json:"finishReason"`
}

type plainDelta struct {
	Content          string         `json:"content"`
	ReasoningContent string         `json:"reasoning_content"`
	Reasoning        string         `json:"reasoning"`
	Refusal          string         `json:"refusal"`
	ToolCalls        []plainCall    `json:"tool_calls"`
	FunctionCall     *plainFunction `json:"function_call"`
}

type plainCall struct {
	Index    *int          `json:"index"`
	ID       string        `json:"id"`
	Function plainFunction `json:"function"`
}

type plainFunction struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// comparePlain compares decodeChunk with encoding/json alone, and tells whether that can
// be done: not where types are unexpected, or the data is not UTF-8.
func comparePlain(t *testing.T, data []byte) bool {
	t.Helper()
	want := new(plainChunk)
	if !bytes.HasPrefix(data, []byte("{")) || !utf8.Valid(data) || json.Unmarshal(data, want) != nil {
		return false
	}
	c, err := decodeChunk(data)
	if err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	if got := c.plain(); !reflect.DeepEqual(got, want) {
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		t.Fatalf("%q:\ngot  %s\nwant %s", data, a, b)
	}
	return true
}

// compareRare compares decodeChunk with one that always looks for rare members.
func compareRare(t *testing.T, data []byte) {
	t.Helper()
	c, err := decodeChunk(data)
	if err != nil {
		return
	}
	if repaired := replaceNaN(data); repaired != nil {
		data = repaired
	}
	got := c.describeRare()
	c.decodeRare(data, true)
	if want := c.describeRare(); got != want {
		t.Fatalf("%q:\ngot  %s\nwant %s", data, got, want)
	}
}

// describeRare returns all rare members of a chunk.
func (c *wireChunk) describeRare() string {
	var b strings.Builder
	for _, choice := range c.Choices {
		for _, d := range []*wireDelta{choice.Delta, choice.Message} {
			if d == nil {
				continue
			}
			if r := d.rare; r != nil {
				fmt.Fprintf(&b, "%q %q %s", r.thinking, r.reasoning, compact(&completionv1.Delta{Parts: r.parts, Extra: r.extra.toStruct()}))
			}
			for _, call := range d.ToolCalls {
				fmt.Fprint(&b, compact(call.extra.toStruct()))
			}
		}
	}
	return b.String()
}

func (c *wireChunk) plain() *plainChunk {
	p := &plainChunk{Object: c.Object, Model: c.Model}
	if c.Choices != nil {
		p.Choices = make([]plainChoice, len(c.Choices))
	}
	for i, w := range c.Choices {
		p.Choices[i] = plainChoice{int(w.Index), w.Delta.plain(), w.Message.plain(), whole(w.Text.text), w.FinishReason, w.FinishCamel}
	}
	return p
}

func (d *wireDelta) plain() *plainDelta {
	if d == nil {
		return nil
	}
	p := &plainDelta{Content: whole(d.Content.text), ReasoningContent: whole(d.ReasoningContent.text), Reasoning: whole(d.Reasoning.text), Refusal: whole(d.Refusal.text)}
	if d.ToolCalls != nil {
		p.ToolCalls = make([]plainCall, len(d.ToolCalls))
	}
	for i, w := range d.ToolCalls {
		p.ToolCalls[i] = plainCall{ID: w.ID, Function: plainFunction{w.Function.Name, whole(wtf8(w.Function.Arguments))}}
		if w.Index != nil {
			n := int(*w.Index)
			p.ToolCalls[i].Index = &n
		}
	}
	if f := d.FunctionCall; f != nil {
		p.FunctionCall = &plainFunction{f.Name, whole(wtf8(f.Arguments))}
	}
	return p
}

// whole returns a text that nothing follows as UTF-8.
func whole(t wtf8) string {
	var p partialChar
	s := p.join(t)
	return s + p.flush()
}

// TestStreamsAgree reads whole streams of such chunks at once, byte by byte, in random
// pieces, and with a number in each chunk so that no template matches. The result is the
// same.
func TestStreamsAgree(t *testing.T) {
	t.Parallel()
	m := randomly(t)
	e := newEngine(t, Config{BaseURL: "http://localhost", Key: key})
	made := 0
	for start := time.Now(); made < *chunks/4; {
		var same, other []byte
		for range 1 + m.IntN(8) {
			for _, data := range m.sequence() {
				made++
				data = bytes.Trim(bytes.Map(onOneLine, data), " ")
				same = append(append(append(same, "data: "...), data...), "\n\n"...)
				other = append(append(append(other, "data: "...), numbered(data, made)...), "\n\n"...)
			}
		}
		run := func(body []byte, how func(io.Reader) io.Reader) string {
			e := Engine{config: e.config, redactor: e.redactor}
			e.transport = answers{func() io.Reader { return how(bytes.NewReader(body)) }}
			defer e.drains.Wait()
			came, _, _ := strings.Cut(outcome(&e, chat()), "cause: ") // which has what was added
			return came
		}
		want := run(other, func(r io.Reader) io.Reader { return r })
		for name, how := range map[string]func(io.Reader) io.Reader{
			"at once":      func(r io.Reader) io.Reader { return r },
			"byte by byte": iotest.OneByteReader,
			"in pieces":    func(r io.Reader) io.Reader { return pieceReader{r, m.Rand} },
		} {
			if got := run(same, how); got != want {
				t.Fatalf("%s: %q\ngot\n%s\nwant\n%s", name, same, got, want)
			}
		}
		if made >= *chunks/4 {
			t.Logf("%d chunks in %v", made, time.Since(start).Round(time.Millisecond))
		}
	}
}

func onOneLine(r rune) rune {
	if r == '\n' || r == '\r' {
		return ' '
	}
	return r
}

// numbered adds a number to a chunk.
func numbered(data []byte, n int) []byte {
	rest, ok := bytes.CutPrefix(data, []byte("{"))
	switch {
	case !ok:
		return data
	case bytes.HasPrefix(bytes.TrimSpace(rest), []byte("}")):
		return fmt.Appendf(nil, `{"number":%d%s`, n, rest)
	}
	return fmt.Appendf(nil, `{"number":%d,%s`, n, rest)
}

type pieceReader struct {
	r io.Reader
	*rand.Rand
}

func (p pieceReader) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), 1+p.IntN(200))]) }
