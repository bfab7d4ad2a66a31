package sse

import (
	"encoding/binary"
	"unicode/utf8"
)

// AppendQuoted appends valid UTF-8 as a JSON string. Beside what JSON needs it
// escapes U+0085, U+2028 and U+2029: clients that split the stream with Python's
// splitlines take them for line ends (httpx-sse#34, langgenius/dify#39008).
func AppendQuoted(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0 // of what is not copied yet
	for i := plainPrefix(text); i < len(text); i++ {
		c := text[i]
		if !special[c] {
			continue
		}
		if c == 0xC2 {
			if text[i+1] != 0x85 {
				continue
			}
			dst = append(dst, text[start:i]...)
			dst = append(dst, `\u0085`...)
			i++
			start = i + 1
			continue
		}
		if c == 0xE2 {
			// U+2028 is E2 80 A8, U+2029 is E2 80 A9. In valid UTF-8 two bytes follow.
			if text[i+1] != 0x80 || text[i+2]&^1 != 0xA8 {
				continue
			}
			dst = append(dst, text[start:i]...)
			dst = append(dst, `\u202`...)
			dst = append(dst, hex[text[i+2]&0xF])
			i += 2
			start = i + 1
			continue
		}
		dst = append(dst, text[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hex[c>>4], hex[c&0xF])
		}
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}

// AppendMember appends a member of a JSON object that is a string, and a comma, or nothing
// for an empty one. The name is as it stands in the object, with its colon. It returns
// false if the text is not UTF-8.
func AppendMember(dst []byte, name string, text []byte) (out []byte, ok bool) {
	if len(text) == 0 {
		return dst, true
	}
	if !utf8.Valid(text) {
		return dst, false
	}
	dst = append(dst, name...)
	dst = AppendQuoted(dst, text)
	return append(dst, ','), true
}

// plainPrefix returns how much of text, in eights of bytes, is ASCII that stands for
// itself in a JSON string. What is not has its high bit set in one of the three terms:
// a byte below 0x20, or the first of a character of several; a quote; a backslash.
// Others may have it set, too, and are looked at one by one.
func plainPrefix(text []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(text)-i >= 8; i += 8 {
		w := binary.LittleEndian.Uint64(text[i:])
		quote, backslash := w^('"'*ones), w^('\\'*ones)
		if ((w-' '*ones)|(quote-ones)|(backslash-ones))&highs != 0 {
			break
		}
	}
	return i
}

// special has the bytes at which AppendQuoted must look twice.
var special = func() (t [256]bool) {
	for c := range 0x20 {
		t[c] = true
	}
	t['"'], t['\\'], t[0xC2], t[0xE2] = true, true, true, true
	return t
}()
