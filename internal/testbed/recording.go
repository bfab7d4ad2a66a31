package testbed

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
)

// Recordings are the transcripts, from the tests of the engine openai, that are plain
// streams of servers as people have them, each with its own order of keys, padding and
// size of a chunk.
var Recordings = []string{
	"openai-chat", "openai-obfuscation", "openai-tools", "azure-chat", "vllm-chat", "llamacpp-chat", "ollama-chat",
	"mistral-chat", "mistral-thinking", "groq-chat", "deepseek-reasoning", "openrouter-comments", "gemini-chat",
}

// recording is a stream that a server has sent, to be played at any length.
type recording struct {
	passages []passage
	rest     []byte // all that follows the last text
}

// passage is a part of a recording that can be played for as long as one likes: chunks
// with text, of which any may follow any.
type passage struct {
	before []byte     // what the server sends once, before the first
	chunks [][][]byte // each is what stands around its text, which may be there twice
}

// readTranscript returns the body of one.
func readTranscript(name string) ([]byte, error) {
	_, here, _, _ := runtime.Caller(0)
	b, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../server/engine/openai/testdata", name+".http"))
	_, body, _ := bytes.Cut(b, []byte("\n\n"))
	return body, err
}

// readRecording makes a recording of a transcript.
func readRecording(name string) (*recording, error) {
	stream, err := readTranscript(name)
	if err != nil {
		return nil, err
	}
	r := &recording{}
	var p passage
	for block := range bytes.SplitAfterSeq(stream, []byte("\n\n")) {
		if chunk := aroundText(block); chunk != nil {
			p.before = append(p.before, r.rest...)
			r.rest = nil
			p.chunks = append(p.chunks, chunk)
			continue
		}
		if len(p.chunks) > 0 {
			r.passages = append(r.passages, p)
			p = passage{}
		}
		r.rest = append(r.rest, block...)
	}
	if len(r.passages) == 0 {
		return nil, fmt.Errorf("the recording %s has no text before its end", name)
	}
	return r, nil
}

var (
	texts    = regexp.MustCompile(`"(content|reasoning_content|reasoning|text|arguments)":("(?:[^"\\]|\\.)+")`)
	finished = regexp.MustCompile(`"finish_reason":"`)
)

// aroundText returns what stands around the text of a chunk, which includes the quotes,
// or nil if there is none, or a finish reason beside it.
func aroundText(block []byte) (parts [][]byte) {
	if finished.Match(block) {
		return nil
	}
	behind := 0
	var text []byte
	for _, m := range texts.FindAllSubmatchIndex(block, -1) {
		switch key, value := block[m[2]:m[3]], block[m[4]:m[5]]; {
		case text == nil:
			text = value
		case !bytes.Equal(text, value) || string(key) == "text":
			continue // OpenRouter's details of its reasoning are passed on beside the reasoning
		}
		parts = append(parts, block[behind:m[4]])
		behind = m[5]
	}
	if text == nil {
		return nil
	}
	return append(parts, block[behind:])
}

// replay plays a recording to its end, with tokens as its text. It shares them out evenly
// among the passages.
type replay struct {
	*recording
	tokens int
	begun  int // how many passages
}

func (r *replay) appendToken(dst []byte, number int) []byte {
	for ; r.begun <= number*len(r.passages)/(r.tokens+1); r.begun++ {
		dst = append(dst, r.passages[r.begun].before...)
	}
	chunks := r.passages[r.begun-1].chunks
	parts := chunks[number%len(chunks)]
	dst = append(dst, parts[0]...)
	begin := len(dst)
	dst = append(AppendToken(append(dst, `" `...), number), '"')
	text := dst[begin:len(dst):len(dst)]
	for i, part := range parts[1:] {
		if i > 0 {
			dst = append(dst, text...)
		}
		dst = append(dst, part...)
	}
	return dst
}

func (r *replay) end() []byte { return r.rest }
