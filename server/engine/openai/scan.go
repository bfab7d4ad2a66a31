package openai

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// A scanner reads one JSON value in place, for decodeFast. It knows all of JSON
// (RFC 8259) as encoding/json does; where it would have to do more than look, as
// for text that is not UTF-8, it gives up, which is no error: encoding/json then
// has the word.
//
// After a method has reported false the scanner is of no more use.
type scanner struct {
	b []byte
	i int
}

// maxNesting is far more than a chunk has, and bounds the recursion of skip.
const maxNesting = 64

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// take takes c, after any white space.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.i < len(s.b) && s.b[s.i] == c {
		s.i++
		return true
	}
	return false
}

// end tells whether nothing but white space is left.
func (s *scanner) end() bool {
	s.space()
	return s.i == len(s.b)
}

// literal takes a word such as null.
func (s *scanner) literal(word string) bool {
	s.space()
	if len(s.b)-s.i < len(word) || string(s.b[s.i:s.i+len(word)]) != word {
		return false
	}
	s.i += len(word)
	return true
}

// raw takes a string and returns what stands between its quotes, and whether that
// has escapes in it.
func (s *scanner) raw() (text []byte, escaped, ok bool) {
	if !s.take('"') {
		return nil, false, false
	}
	rest, ascii := s.b[s.i:], true
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		if plain[c] {
			continue
		}
		switch {
		case c == '"':
			s.i += i + 1
			text = rest[:i]
			return text, escaped, ascii || utf8.Valid(text)
		case c == '\\':
			escaped = true
			i++ // what it escapes is looked at by unescape
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

// key takes the key of a member, and the colon. Keys with escapes or upper case
// are left to encoding/json, which takes "Model" for "model".
func (s *scanner) key() ([]byte, bool) {
	key, escaped, ok := s.raw()
	if !ok || escaped {
		return nil, false
	}
	for _, c := range key {
		if !lower[c] {
			return nil, false
		}
	}
	return key, s.take(':')
}

// lower has the bytes of keys that equal no other key when case is folded.
var lower = func() (t [256]bool) {
	for c := range t {
		t[c] = c < utf8.RuneSelf && (c < 'A' || c > 'Z')
	}
	return t
}()

// word takes a string without escapes, or null for the empty one.
func (s *scanner) word() (string, bool) {
	if s.literal("null") {
		return "", true
	}
	return s.textLike("")
}

// nothing takes null, or a string, list or object in which there is nothing.
func (s *scanner) nothing() bool {
	return s.literal("null") || s.literal(`""`) || s.take('[') && s.take(']') || s.take('{') && s.take('}')
}

// fleeting takes a string, or null for the empty one, and tells whether it has escapes.
// Without them it is where it was read, and changes when that does.
func (s *scanner) fleeting() (words string, escaped, ok bool) {
	if s.literal("null") {
		return "", false, true
	}
	text, escaped, ok := s.raw()
	if !ok {
		return "", false, false
	}
	if escaped {
		words, ok = unescape(text)
		return words, true, ok
	}
	return unsafe.String(unsafe.SliceData(text), len(text)), false, true
}

// textLike takes a string without escapes that is most often the one before: then it
// returns that one and makes no new one.
func (s *scanner) textLike(before string) (string, bool) {
	text, escaped, ok := s.raw()
	if !ok || escaped {
		return "", false
	}
	if string(text) == before {
		return before, true
	}
	return string(text), true
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
		i++ // there is one more: raw saw to that
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

// number takes a number and returns it if it is a small integer.
func (s *scanner) number() (n int32, small, ok bool) {
	s.space()
	start := s.i
	negative := s.i < len(s.b) && s.b[s.i] == '-'
	if negative {
		s.i++
	}
	digits := s.digits()
	if digits == 0 || digits > 1 && s.b[s.i-digits] == '0' {
		return 0, false, false
	}
	small = !negative && digits <= 9
	if small {
		for _, c := range s.b[start:s.i] {
			n = 10*n + int32(c-'0')
		}
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		small = false
		if s.digits() == 0 {
			return 0, false, false
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		small = false
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if s.digits() == 0 {
			return 0, false, false
		}
	}
	return n, small, true
}

func (s *scanner) digits() int {
	start := s.i
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i - start
}

// skip takes a value of any kind.
func (s *scanner) skip(depth int) bool {
	s.space()
	if s.i == len(s.b) || depth > maxNesting {
		return false
	}
	switch s.b[s.i] {
	case '"':
		text, escaped, ok := s.raw()
		if ok && escaped {
			_, ok = unescape(text)
		}
		return ok
	case '{':
		return s.object(func([]byte) bool { return s.skip(depth + 1) })
	case '[':
		return s.array(func() bool { return s.skip(depth + 1) })
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	}
	_, _, ok := s.number()
	return ok
}

// object takes an object: member is called at each value, to take it.
func (s *scanner) object(member func(key []byte) bool) bool {
	if !s.take('{') {
		return false
	}
	if s.take('}') {
		return true
	}
	for {
		key, ok := s.key()
		if !ok || !member(key) {
			return false
		}
		if s.take(',') {
			continue
		}
		return s.take('}')
	}
}

// array takes an array: element is called at each value, to take it.
func (s *scanner) array(element func() bool) bool {
	if !s.take('[') {
		return false
	}
	if s.take(']') {
		return true
	}
	for {
		if !element() {
			return false
		}
		if s.take(',') {
			continue
		}
		return s.take(']')
	}
}
