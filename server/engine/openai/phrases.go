package openai

import (
	"strings"

	"github.com/sluice-sse/sluice/server/failure"
)

// phrase is a part of a message, in lower case, by which a server says what is wrong
// where neither the status nor the code does. An … stands for anything between.
type phrase struct {
	text   string
	reason failure.Reason
	field  string // of an INVALID_REQUEST: what is wrong
}

// Fields of a phrase that stand for the one that holds the input, prompt or messages:
// the model does not accept it, or a content filter does not let it pass.
const (
	inputField    = "input"
	filteredField = "filtered input"
)

// matches tells whether a message in lower case contains the phrase.
func (p *phrase) matches(message string) bool {
	for part := range strings.SplitSeq(p.text, "…") {
		i := strings.Index(message, part)
		if i < 0 {
			return false
		}
		message = message[i+len(part):]
	}
	return true
}

// parameterPattern is a part of a message, in lower case, by which a server names a
// parameter that it does not accept. {} stands for the name, ^ for the beginning of the
// message.
type parameterPattern struct {
	text    string
	unknown bool // it is the name that is not accepted, whatever the value is
}

// find returns the name in a message in lower case, or "".
func (p *parameterPattern) find(message string) string {
	before, after, _ := strings.Cut(p.text, "{}")
	before, atStart := strings.CutPrefix(before, "^")
	for rest := message; ; {
		i := strings.Index(rest, before)
		if i < 0 || atStart && i > 0 {
			return ""
		}
		rest = rest[i+len(before):]
		end := 0
		for end < len(rest) && isPathByte(rest[end]) {
			end++
		}
		run := end
		for ; end > 0; end-- { // the longest name that after follows, for after may look like one: [top_k]
			if strings.HasPrefix(rest[end:], after) {
				return strings.TrimRight(rest[:end], ".") // the end of a sentence
			}
		}
		if atStart || rest == "" {
			return ""
		}
		// Another match may begin within what was not a name, but not end there. To search
		// all of it again would take quadratic time.
		rest = rest[max(0, run-len(before)):]
	}
}

// isPathByte tells whether a byte may be in the path of a parameter, such as
// messages[0].content.
func isPathByte(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c == '[' || c == ']' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
