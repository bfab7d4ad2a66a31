package openai

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// chunkMaker makes random chunks: what servers send, in any order, with values of any
// type, members twice, escapes, padding, and malformed.
type chunkMaker struct {
	*rand.Rand
	b     []byte
	depth int
	odd   int  // 0: well-formed; else unexpected things are written, the higher the less often
	rare  bool // there are members that few chunks have
}

// oddly tells, once in n times, whether to write something unexpected.
func (m *chunkMaker) oddly(n int) bool { return m.odd > 0 && m.IntN(n*m.odd) == 0 }

// sequence returns chunks that could follow each other in a stream: most differ from the
// one before only in a text, in padding, or in a byte.
func (m *chunkMaker) sequence() (chunks [][]byte) {
	m.b, m.depth, m.odd, m.rare = nil, 0, []int{0, 1, 8, 8}[m.IntN(4)], m.IntN(3) == 0
	m.chunk()
	form := m.settle(bytes.Clone(m.b))
	for range 1 + m.IntN(6) {
		chunk := m.fill(form)
		if m.oddly(4) {
			chunk = m.mutate(chunk)
		}
		chunks = append(chunks, chunk)
	}
	return chunks
}

// place stands in a form for a text that differs from chunk to chunk.
const place = "\x01"

// settle fills all places but one of a form, in three of four cases.
func (m *chunkMaker) settle(form []byte) []byte {
	n := bytes.Count(form, []byte(place))
	if n < 2 || m.IntN(4) == 0 {
		return form
	}
	parts := bytes.Split(form, []byte(place))
	varies := m.IntN(n)
	form = parts[0]
	for i, part := range parts[1:] {
		m.b = []byte(place)
		if i != varies {
			m.b = nil
			m.text()
		}
		form = append(append(form, m.b...), part...)
	}
	return form
}

// fill fills the places with texts, or all with the same one.
func (m *chunkMaker) fill(form []byte) []byte {
	n := 1
	if m.IntN(2) == 0 {
		n = -1
	}
	for bytes.Contains(form, []byte(place)) {
		m.b = nil
		m.text()
		form = bytes.Replace(form, []byte(place), m.b, n)
	}
	return bytes.Clone(form)
}

// mutate changes, removes or repeats some bytes.
func (m *chunkMaker) mutate(chunk []byte) []byte {
	if len(chunk) == 0 {
		return chunk
	}
	i := m.IntN(len(chunk))
	j := min(len(chunk), i+1+m.IntN(1+m.IntN(20)))
	switch m.IntN(5) {
	case 0:
		chunk[i] = byte(m.IntN(256))
	case 1:
		chunk[i] = `"\{}[]:,0 eu.-nN`[m.IntN(16)]
	case 2:
		return append(chunk[:i:i], chunk[j:]...)
	case 3:
		return append(chunk[:j:j], chunk[i:]...)
	default:
		return chunk[:i]
	}
	return chunk
}

type maker struct {
	key  string
	make func()
}

// object writes an object with some of the members, in any order.
func (m *chunkMaker) object(members ...maker) {
	m.depth++
	defer func() { m.depth-- }()
	m.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	m.put("{")
	first := true
	for _, member := range members {
		times := 1
		switch {
		case m.oddly(5):
			times = 2
		case m.IntN(4) == 0 && member.key != "choices" && member.key != "delta":
			times = 0
		}
		for time := range times {
			if !first {
				m.put(",")
			}
			first = false
			m.space()
			m.key(member.key)
			m.space()
			m.put(":")
			m.space()
			if time > 0 && m.IntN(2) == 0 {
				m.put("null") // which changes nothing
			} else {
				member.make()
			}
			m.space()
		}
	}
	m.put("}")
}

func (m *chunkMaker) key(key string) {
	switch {
	case m.oddly(20):
		key = []string{strings.ToUpper(key), strings.ToLower(key)}[m.IntN(2)]
	case m.oddly(20):
		i := m.IntN(len(key))
		key = fmt.Sprintf(`%s\u%04x%s`, key[:i], key[i], key[i+1:])
	}
	m.put(`"` + key + `"`)
}

func (m *chunkMaker) chunk() {
	m.object(
		maker{"id", m.value(m.word)},
		maker{"object", m.value(m.oneOf(`"chat.completion.chunk"`, `"text_completion"`))},
		maker{"model", m.value(m.oneOf(`"m"`, `"n"`))},
		maker{"choices", m.value(m.list(m.choice))},
		maker{"usage", m.rarely(m.value(m.usage))},
		maker{"error", m.value(m.oneOf("null"))},
		maker{"x_groq", m.rarely(func() { m.object(maker{"usage", m.usage}, maker{"id", m.word}) })},
		maker{"obfuscation", m.varying},
		maker{"p", m.rarely(m.varying)},
		maker{"extra", m.any},
	)
}

func (m *chunkMaker) choice() {
	members := []maker{
		{"index", m.value(m.oneOf("0"))},
		{"delta", m.value(m.delta)},
		{"text", m.rarely(m.value(m.varying))},
		{"message", m.rarely(m.value(m.delta))},
		{"finish_reason", m.value(m.oneOf("null", "null", "null", "null", `""`, `"stop"`, `"length"`, `"tool_calls"`))},
		{"usage", m.rarely(m.usage)},
		{"error", m.value(m.oneOf("null"))},
		{"logprobs", m.rarely(func() {
			m.object(maker{"content", m.list(func() { m.object(maker{"token", m.text}, maker{"logprob", m.number}) })})
		})},
		{"extra", m.rarely(m.any)},
	}
	if m.rare || m.odd > 1 {
		members = append(members, maker{"finishReason", m.oneOf("null", `"stop"`)})
	}
	m.object(members...)
}

func (m *chunkMaker) delta() {
	members := []maker{
		{"role", m.oneOf(`"assistant"`, `null`)},
		{"content", m.value(m.varying)},
		{"reasoning_content", m.rarely(m.value(m.varying))},
		{"reasoning", m.rarely(m.value(m.varying))},
		{"refusal", m.rarely(m.value(m.varying))},
		{"tool_calls", m.rarely(m.value(m.list(m.call)))},
		{"function_call", m.rarely(m.value(m.function))},
		{"extra", m.rarely(m.any)},
	}
	for _, row := range deltaMembers {
		if m.IntN(40) == 0 {
			members = append(members, maker{row.name, m.rarely(m.any)})
		}
	}
	m.object(members...)
}

func (m *chunkMaker) call() {
	m.object(maker{"index", m.oneOf("0", "0", "1", "2", "null", `"0"`)}, maker{"id", m.oneOf(`"a"`, `"b"`, `""`, "null")},
		maker{"type", m.word}, maker{"function", m.function}, maker{"extra_content", m.rarely(m.any)})
}

func (m *chunkMaker) function() {
	m.object(maker{"name", m.oneOf(`"f"`, `"g"`, `""`, "null")}, maker{"arguments", m.value(m.oneOf(`"{}"`, `"{"`, `"}"`, `"\"x"`, `""`, `"\ud83d"`, `"\ude00"`, "{}"))})
}

func (m *chunkMaker) usage() {
	m.object(maker{"prompt_tokens", m.number}, maker{"completion_tokens", m.number}, maker{"total_tokens", m.oneOf("0", "7", "7.0", `"7"`, "null")})
}

// value writes a usual value, or rarely any other.
func (m *chunkMaker) value(usual func()) func() {
	return func() {
		switch {
		case m.oddly(15):
			m.any()
		case m.oddly(15):
			m.oneOf("1", "-1", "00", "0.0", `"0"`, "1e0", "4294967296", "9999999999999999999", `"st\u006fp"`, `"error"`, `"\ud800"`)()
		default:
			usual()
		}
	}
}

// rarely writes null, or if m.rare sometimes a value.
func (m *chunkMaker) rarely(f func()) func() {
	return func() {
		if !m.rare || m.IntN(6) > 0 {
			m.put("null")
			return
		}
		f()
	}
}

func (m *chunkMaker) oneOf(values ...string) func() {
	return func() { m.put(values[m.IntN(len(values))]) }
}

func (m *chunkMaker) list(element func()) func() {
	return func() {
		m.put("[")
		n := 1
		if m.oddly(5) {
			n = m.IntN(4)
		}
		for i := range n {
			if i > 0 {
				m.put(",")
			}
			m.space()
			element()
			m.space()
		}
		m.put("]")
	}
}

// varying writes a text that is most often different in the next chunk.
func (m *chunkMaker) varying() {
	if m.IntN(8) > 0 {
		m.put(place)
		return
	}
	m.text()
}

func (m *chunkMaker) word() { m.oneOf(`"a"`, `"b"`, `""`, "null", "7")() }

func (m *chunkMaker) number() {
	if m.oddly(10) {
		m.oneOf("01", "1.", "NaN", "-Infinity", `"2"`, "1e999")()
		return
	}
	m.oneOf("0", "1", "-1", "1.5", "1e3", "-0")()
}

// text writes a string of anything that strings can hold, or must not.
func (m *chunkMaker) text() {
	m.put(`"`)
	for range m.IntN(4) {
		switch {
		case m.oddly(100):
			m.put("\xff")
		case m.oddly(100):
			m.put("\xe2\x82")
		case m.oddly(100):
			m.put("\t")
		case m.oddly(100):
			m.put(`\x`)
		case m.oddly(100):
			m.put(`\u12`)
		case m.IntN(300) == 0:
			m.put(strings.Repeat("long ", m.IntN(600)))
		default:
			m.oneOf("a", " word", "é", "日本", "😀", `\n`, `\"`, `\\`, `\/`, `\u00e9`, `\u0041`, `\u0000`, `\ud83d\ude00`,
				`\ud83d`, `\ude00`, `\uD83D`, `\uDE00`, `\ud83d\u0041`, "\u2028", "\x7f", "{", "]", ",")()
		}
	}
	m.put(`"`)
}

// any writes a value of any type.
func (m *chunkMaker) any() {
	m.depth++
	defer func() { m.depth-- }()
	kinds := 9
	if m.depth > 5 {
		kinds = 4 // nothing nested
	}
	switch m.IntN(kinds) {
	case 0:
		m.put("null")
	case 1:
		m.number()
	case 2:
		m.oneOf("true", "false", "{}", "[]", "[ ]", `""`)()
		if m.oddly(10) {
			m.put("nul")
		}
	case 3:
		m.text()
	case 4:
		m.list(m.any)()
	case 5:
		m.object(maker{"type", m.oneOf(`"text"`, `"thinking"`, `"image_url"`, `"x"`)}, maker{"text", m.any}, maker{"image_url", m.any}, maker{"thinking", m.any})
	case 6:
		m.object(maker{"message", m.text}, maker{"code", m.number})
	case 7:
		n := m.IntN(80)
		m.put(strings.Repeat("[", n) + "1" + strings.Repeat("]", n))
	default:
		m.put(strconv.Itoa(m.IntN(1 << 30)))
	}
}

func (m *chunkMaker) space() {
	if m.IntN(30) == 0 {
		m.oneOf(" ", "  ", "\t", " \t ")()
	}
}

func (m *chunkMaker) put(s string) { m.b = append(m.b, s...) }
