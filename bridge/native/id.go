package native

import (
	"errors"
	"strconv"
	"strings"
)

// maxID bounds an event id in bytes, so that nothing endless is looked up or
// logged. Ours have at most 42.
const maxID = 128

var errID = errors.New("event id is not a completion's id, an underscore and a sequence")

// FormatID returns the id of an event, which is also the cursor to resume after
// it: the completion's id, an underscore, and the event's sequence. Sequence 0 is
// the cursor of the start.
func FormatID(id string, sequence int32) string {
	return string(appendID(make([]byte, 0, len(id)+len("_2147483647")), id, sequence))
}

// ParseID takes an event id apart. It takes only what FormatID makes of the id
// of a completion and a sequence that is not negative, up to 128 bytes in all.
func ParseID(s string) (id string, sequence int32, err error) {
	if len(s) > maxID {
		return "", 0, errID
	}
	// A completion's id may hold underscores itself.
	i := strings.LastIndexByte(s, '_')
	if i < 0 || !isCompletionID(s[:i]) {
		return "", 0, errID
	}
	digits := s[i+1:]
	// One event has one id: no sign, no leading zero.
	if digits == "" || digits[0] < '0' || digits[0] > '9' || digits[0] == '0' && digits != "0" {
		return "", 0, errID
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil {
		return "", 0, errID
	}
	return s[:i], int32(n), nil
}

func isCompletionID(s string) bool {
	rest, ok := strings.CutPrefix(s, "cmpl_")
	if !ok || rest == "" {
		return false
	}
	for _, c := range []byte(rest) {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

func appendID(dst []byte, id string, sequence int32) []byte {
	dst = append(dst, id...)
	dst = append(dst, '_')
	return strconv.AppendInt(dst, int64(sequence), 10)
}
