package openai

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanString returns the JSON string that b begins with, its quotes included, and
// whether there are escapes in it: unescape tells whether those are well-formed. It is
// false for what is no string, or not UTF-8.
func scanString(b []byte) (token []byte, escaped, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, false, false
	}
	ascii := true
	for i := 1; i < len(b); i++ {
		c := b[i]
		if plain[c] {
			continue
		}
		switch {
		case c == '"':
			token = b[:i+1]
			return token, escaped, ascii || utf8.Valid(token)
		case c == '\\':
			escaped = true
			i++ // what it escapes is for unescape
		case c < ' ':
			return nil, false, false
		default:
			ascii = false
		}
	}
	return nil, false, false
}

// plain has the bytes that stand for themselves in a string, in ASCII.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// unquote returns what a well-formed JSON string stands for.
func unquote(token []byte) string {
	inner := token[1 : len(token)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	s, _ := unescape(inner)
	return s
}

// unescape returns what a string with escapes stands for. Half of a surrogate pair,
// which is U+FFFD to encoding/json, is as half has it.
func unescape(text []byte) (string, bool) {
	b := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			b = append(b, text[i])
			continue
		}
		i++ // there is one more: scanString saw to that
		switch c := text[i]; c {
		case '"', '\\', '/':
			b = append(b, c)
		case 'b':
			b = append(b, '\b')
		case 'f':
			b = append(b, '\f')
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, ok := hex4(text[i+1:])
			if !ok {
				return "", false
			}
			i += 4
			if !utf16.IsSurrogate(r) {
				b = utf8.AppendRune(b, r)
			} else if low, ok := escapedHex4(text[i+1:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
				b = utf8.AppendRune(b, utf16.DecodeRune(r, low))
				i += 6
			} else {
				b = appendSurrogate(b, r)
			}
		default:
			return "", false
		}
	}
	return string(b), true
}

// hex4 reads the four digits of a \u escape.
func hex4(text []byte) (rune, bool) {
	if len(text) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[:4]), 16, 16)
	return rune(n), err == nil
}

// escapedHex4 reads a \u escape.
func escapedHex4(text []byte) (rune, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	return hex4(text[2:])
}
