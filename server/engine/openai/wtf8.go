package openai

import (
	"strings"
	"unicode/utf8"
)

// wtf8 is a part of a text, as the model's tokens cut it: UTF-8 that may begin or end
// within a character, and may hold one half of a surrogate pair, in the form that UTF-8
// would give it. Some servers stream each token as it is, though it may be only a part
// of a character: in \u escapes or in bytes (elizaOS/eliza#30904, elie222/rakazo#416).
type wtf8 string

// partialChar is the part of a character that a text has ended with. Its zero value is
// none.
type partialChar wtf8

// join returns the partial character and the text behind it as UTF-8, and keeps the
// partial character that the text ends with. What is no part of a character becomes
// U+FFFD.
func (p *partialChar) join(t wtf8) string {
	if *p == "" && utf8.ValidString(string(t)) {
		return string(t)
	}
	s := string(*p) + string(t)
	*p = ""
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
			*p = partialChar(s[i:])
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

// flush returns U+FFFD for a partial character that nothing follows, or "".
func (p *partialChar) flush() string {
	if *p == "" {
		return ""
	}
	*p = ""
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

// appendSurrogate appends one half of a surrogate pair.
func appendSurrogate(b []byte, surrogate rune) []byte {
	return append(b, 0xED, 0x80|byte(surrogate>>6)&0x3F, 0x80|byte(surrogate)&0x3F)
}
