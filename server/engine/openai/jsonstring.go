package openai

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// scanString returns the JSON string at the start of b, with its quotes, and whether
// there are escapes in it, which only unescape checks. ok is false if there is no string,
// or if it is not UTF-8.
func scanString(b []byte) (token []byte, escaped, ok bool) {
	if len(b) == 0 || b[0] != '"' {
		return nil, false, false
	}
	ascii := true
	for i := 1; i < len(b); i++ {
		c := b[i]
		if isPlainASCII[c] {
			continue
		}
		switch {
		case c == '"':
			token = b[:i+1]
			return token, escaped, ascii || utf8.Valid(token)
		case c == '\\':
			escaped = true
			i++
		case c < ' ':
			return nil, false, false
		default:
			ascii = false
		}
	}
	return nil, false, false
}

// isPlainASCII tells which bytes are ASCII and stand for themselves in a JSON string.
var isPlainASCII = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// unquote returns the value of a well-formed JSON string, as unescape does.
func unquote(token []byte) string {
	inner := token[1 : len(token)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	s, _ := unescape(inner)
	return s
}

// unescape returns the value of what stands between the quotes of a JSON string. One
// half of a surrogate pair, which encoding/json replaces by U+FFFD, is kept: see wtf8.
// ok is false if an escape is malformed.
func unescape(inner []byte) (s string, ok bool) {
	b := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		if inner[i] != '\\' {
			b = append(b, inner[i])
			continue
		}
		i++ // not the end: the quote behind it would be escaped
		switch c := inner[i]; c {
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
			r, ok := parseHex4(inner[i+1:])
			if !ok {
				return "", false
			}
			i += 4
			if !utf16.IsSurrogate(r) {
				b = utf8.AppendRune(b, r)
			} else if low, ok := parseUnicodeEscape(inner[i+1:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
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

// parseHex4 parses the four digits of a \u escape.
func parseHex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(n), err == nil
}

// parseUnicodeEscape parses a \u escape.
func parseUnicodeEscape(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	return parseHex4(b[2:])
}
