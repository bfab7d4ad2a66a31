package openai

import (
	"strings"
	"unicode/utf8"
)

// half is what a text ended with that is only the first part of a character: of a
// surrogate pair in two \u escapes, in the form that UTF-8 would give it, or of a
// character's bytes. Servers cut so that stream token by token, for a token may be
// part of a character (elizaOS/eliza#30904, elie222/rakazo#416).
type half string

// join returns a text, with the half before it in front and without the one that it
// ends with. What is no part of a character is U+FFFD.
func (h *half) join(t text) string {
	if *h == "" && utf8.ValidString(string(t)) {
		return string(t)
	}
	s := string(*h) + string(t)
	*h = ""
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r != utf8.RuneError || size > 1 {
			b.WriteString(s[i : i+size])
			i += size
			continue
		}
		surrogate := surrogateIn(s[i:])
		switch low := surrogateIn(s[min(i+3, len(s)):]); {
		case isHigh(surrogate) && i+3 == len(s), surrogate == 0 && !utf8.FullRuneInString(s[i:]):
			*h = half(s[i:])
			return b.String()
		case isHigh(surrogate) && low != 0 && !isHigh(low):
			b.WriteRune((surrogate-0xD800)<<10 | (low - 0xDC00) + 0x10000)
			i += 6
		case surrogate != 0:
			b.WriteRune(utf8.RuneError)
			i += 3
		default:
			b.WriteRune(utf8.RuneError)
			i++
		}
	}
	return b.String()
}

// end returns what has to stand for a half that nothing follows.
func (h *half) end() string {
	if *h == "" {
		return ""
	}
	*h = ""
	return "\uFFFD"
}

// surrogateIn returns the surrogate that s begins with, or 0.
func surrogateIn(s string) rune {
	if len(s) < 3 || s[0] != 0xED || s[1]&0xE0 != 0xA0 || s[2]&0xC0 != 0x80 {
		return 0
	}
	return 0xD000 | rune(s[1]&0x3F)<<6 | rune(s[2]&0x3F)
}

func isHigh(surrogate rune) bool { return surrogate >= 0xD800 && surrogate < 0xDC00 }

// appendSurrogate appends half a pair in the form that join knows.
func appendSurrogate(b []byte, surrogate rune) []byte {
	return append(b, 0xED, 0x80|byte(surrogate>>6)&0x3F, 0x80|byte(surrogate)&0x3F)
}
