package openai

import (
	"strings"

	"github.com/sluice-sse/sluice/server/failure"
)

// wording is how some server says what happened, where neither the status nor the
// code does: in lower case, … standing for anything between.
type wording struct {
	words  string
	reason failure.Reason
	field  string // of an INVALID_REQUEST: what is wrong
}

// Fields of a wording that stand for the one that holds the input, prompt or
// messages: the model does not take it, or a filter does not let it pass.
const (
	input    = "input"
	filtered = "filtered input"
)

// fits tells whether words in lower case hold all that stands between the … of a
// form, in this order.
func fits(form, words string) bool {
	for piece := range strings.SplitSeq(form, "…") {
		i := strings.Index(words, piece)
		if i < 0 {
			return false
		}
		words = words[i+len(piece):]
	}
	return true
}

// nameIn returns the name that stands in a message in lower case where a form has
// {}, or "". A form that begins with ^ is at the message's start.
func nameIn(form, message string) string {
	before, after, _ := strings.Cut(form, "{}")
	before, atStart := strings.CutPrefix(before, "^")
	for rest := message; ; {
		i := strings.Index(rest, before)
		if i < 0 || atStart && i > 0 {
			return ""
		}
		rest = rest[i+len(before):]
		end := 0
		for end < len(rest) && isName(rest[end]) {
			end++
		}
		run := end
		for ; end > 0; end-- { // the longest that after follows: [top_k]
			if strings.HasPrefix(rest[end:], after) {
				return strings.TrimRight(rest[:end], ".") // of a sentence
			}
		}
		if atStart || rest == "" {
			return ""
		}
		// The form may begin again within what was no name, but not end there: to look
		// through all of that once more is quadratic where a form begins as names may.
		rest = rest[max(0, run-len(before)):]
	}
}

// isName tells whether a byte may be in a parameter's path: messages[0].content.
func isName(c byte) bool {
	return c == '_' || c == '-' || c == '.' || c == '[' || c == ']' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}
