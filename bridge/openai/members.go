package openai

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// content is what a message or a delta holds.
type content struct {
	text, reasoning, refusal string
	calls                    []*completionv1.ToolCall
	parts                    []*completionv1.Part
	extra                    *structpb.Struct
}

// members writes the members of an object, with commas between them. Its error is that
// of a value that is no JSON, and stays.
type members struct {
	out  []byte
	some bool
	err  error
	long *longTexts // notes the texts that are left out of out; nil: none are
}

func (m *members) name(name string) {
	if m.some {
		m.out = append(m.out, ',')
	}
	m.some = true
	m.out = append(appendString(m.out, name), ':')
}

func (m *members) raw(name, value string) {
	m.name(name)
	m.out = append(m.out, value...)
}

func (m *members) string(name, value string) {
	m.name(name)
	m.out = appendString(m.out, value)
}

// nullable appends a member that is a string, or null for an empty one.
func (m *members) nullable(name, value string) {
	if value == "" {
		m.raw(name, "null")
		return
	}
	m.string(name, value)
}

// nonEmpty appends a member that is a string, if there is anything in it.
func (m *members) nonEmpty(name, value string) {
	if value != "" {
		m.string(name, value)
	}
}

// message appends what a delta holds, or a message but for its role and content.
func (m *members) message(c *content, isDelta bool) {
	if isDelta {
		m.nonEmpty("content", c.text)
	}
	m.nonEmpty("reasoning_content", c.reasoning)
	if isDelta {
		m.nonEmpty("refusal", c.refusal)
	}
	if len(c.calls) > 0 {
		m.name("tool_calls")
		m.list(len(c.calls), func(i int) { m.call(c.calls[i], isDelta) })
	}
	m.images(c.parts)
	m.extra(c.extra, "role", "content", "reasoning_content", "refusal", "tool_calls", "images")
}

// list appends a list of objects, whose members are what element appends.
func (m *members) list(n int, element func(i int)) {
	m.out = append(m.out, '[')
	for i := range n {
		if i > 0 {
			m.out = append(m.out, ',')
		}
		m.out = append(m.out, '{')
		m.some = false
		element(i)
		m.out = append(m.out, '}')
	}
	m.out = append(m.out, ']')
	m.some = true
}

// call appends the members of a tool call, or of a piece of one.
func (m *members) call(c *completionv1.ToolCall, piece bool) {
	if piece {
		m.raw("index", strconv.Itoa(int(c.GetIndex())))
	}
	if c.GetId() != "" || !piece {
		m.string("id", c.GetId())
		m.raw("type", `"function"`)
	}
	m.name("function")
	m.out = append(m.out, '{')
	m.some = false
	if c.GetName() != "" || !piece {
		m.string("name", c.GetName())
	}
	m.string("arguments", c.GetArguments())
	m.out = append(m.out, '}')
	m.some = true
	m.extra(c.GetExtra(), "index", "id", "type", "function")
}

// images appends the parts of an answer that are images, as OpenRouter has them
// (openrouter.ai/docs: image generation), and others beside them, as they are.
func (m *members) images(parts []*completionv1.Part) {
	if len(parts) == 0 {
		return
	}
	m.name("images")
	m.list(len(parts), func(i int) {
		switch kind := parts[i].GetKind().(type) {
		case *completionv1.Part_ImageUrl:
			m.raw("type", `"image_url"`)
			m.name("image_url")
			m.out = append(m.out, '{')
			m.some = false
			m.string("url", kind.ImageUrl.GetUrl())
			m.nonEmpty("detail", kind.ImageUrl.GetDetail())
			m.out = append(m.out, '}')
			m.some = true
		case *completionv1.Part_Text:
			m.raw("type", `"text"`)
			m.string("text", kind.Text)
		default:
			m.value("part", parts[i])
		}
		m.extra(parts[i].GetExtra())
	})
}

// extra appends the members of an extra but for those that are set beside them. They are
// sorted, as everything in a stream must be the same when it is read again.
func (m *members) extra(s *structpb.Struct, set ...string) {
	names := make([]string, 0, len(s.GetFields()))
	for name := range s.GetFields() {
		if !slices.Contains(set, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		m.value(name, s.GetFields()[name])
	}
}

// value appends a member that is a message.
func (m *members) value(name string, v proto.Message) {
	b, err := protojson.Marshal(v)
	if err == nil {
		m.name(name)
		m.out, err = sse.AppendJSON(m.out, b)
	}
	if err != nil && m.err == nil {
		m.err = err
	}
}

// appendLogprobs appends log probabilities as chats have them.
func appendLogprobs(dst []byte, p *completionv1.Logprobs) []byte {
	if p == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, `{"content":`...)
	dst = appendTokens(dst, p.GetContent(), true)
	dst = append(dst, `,"refusal":`...)
	dst = appendTokens(dst, p.GetRefusal(), true)
	return append(dst, '}')
}

func appendTokens(dst []byte, tokens []*completionv1.TokenLogprob, withTop bool) []byte {
	if tokens == nil && withTop {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i, t := range tokens {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"token":`...)
		dst = appendString(dst, t.GetToken())
		dst = append(dst, `,"logprob":`...)
		dst = appendNumber(dst, t.GetLogprob())
		dst = append(dst, `,"bytes":`...)
		dst = appendBytes(dst, t.Bytes)
		if withTop {
			dst = append(dst, `,"top_logprobs":`...)
			dst = appendTokens(dst, t.GetTopLogprobs(), false)
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// appendNumber appends a number as JavaScript writes it: -9999, not -9999.0.
func appendNumber(dst []byte, f float64) []byte { return strconv.AppendFloat(dst, f, 'g', -1, 64) }

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i, c := range b {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(c), 10)
	}
	return append(dst, ']')
}

// appendLegacyLogprobs appends log probabilities as legacy completions have them. The
// tokens begin at an offset in the text, in characters.
func appendLegacyLogprobs(dst []byte, p *completionv1.Logprobs, offset int) []byte {
	if len(p.GetContent()) == 0 {
		return append(dst, "null"...)
	}
	list := func(name string, appendElement func(dst []byte, t *completionv1.TokenLogprob) []byte) {
		dst = append(dst, name...)
		for i, t := range p.GetContent() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendElement(dst, t)
		}
		dst = append(dst, ']')
	}
	list(`{"tokens":[`, func(dst []byte, t *completionv1.TokenLogprob) []byte { return appendString(dst, t.GetToken()) })
	list(`,"token_logprobs":[`, func(dst []byte, t *completionv1.TokenLogprob) []byte { return appendNumber(dst, t.GetLogprob()) })
	list(`,"top_logprobs":[`, func(dst []byte, t *completionv1.TokenLogprob) []byte {
		if len(t.GetTopLogprobs()) == 0 {
			return append(dst, "null"...)
		}
		m := members{out: append(dst, '{')}
		for _, top := range t.GetTopLogprobs() {
			m.name(top.GetToken())
			m.out = appendNumber(m.out, top.GetLogprob())
		}
		return append(m.out, '}')
	})
	list(`,"text_offset":[`, func(dst []byte, t *completionv1.TokenLogprob) []byte {
		at := offset
		offset += utf8.RuneCountInString(t.GetToken())
		return strconv.AppendInt(dst, int64(at), 10)
	})
	return append(dst, '}')
}
