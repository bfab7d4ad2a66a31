package jsonbody

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// mistake is what a scan finds wrong with a body.
type mistake struct {
	offset int
	where  string // the offset as protojson has it
	what   string
	syntax bool // protojson finds it, too, and has better words
	inText bool // protojson does not see it
}

// Error implements error.
func (m *mistake) Error() string { return fmt.Sprintf("(line %s): %s", m.where, m.what) }

// position is the line and the column, in characters, of an offset.
func position(body []byte, offset int) string {
	before := body[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return fmt.Sprintf("%d:%d", bytes.Count(before, []byte("\n"))+1, utf8.RuneCount(before[start:])+1)
}

// plain is a decoding error in words that say what to mend, and without protojson's
// prefix, which varies on purpose.
func plain(err error, size int) string {
	s := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
	s = strings.Replace(s, "exceeded max recursion depth", "it is nested too deep", 1)
	return strings.Replace(s, "unexpected EOF", fmt.Sprintf("it breaks off after %d bytes", size), 1)
}
