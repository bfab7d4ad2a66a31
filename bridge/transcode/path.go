package transcode

import (
	"net/http"
	"strconv"
	"strings"
)

// Path returns a request's path as templates are matched with it: what means nothing to them
// is decoded; a slash, a colon and the percent sign itself are as they came. Escaped, the
// first two are part of a value, and neither end a segment nor begin a verb.
//
// The gateway's mux would decode all before it matches: what one request names, others could
// name by other segments.
func Path(r *http.Request) string { return unescape(r.URL.EscapedPath(), "/:%") }

// unescape decodes what is escaped, but for the bytes in keep.
func unescape(s, keep string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil && strings.IndexByte(keep, byte(c)) < 0 {
				b = append(b, byte(c))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

// variable is what a path template binds to a field.
type variable struct {
	field string
	deep  bool // it has several segments: an escaped slash in it stays escaped (google/api/http.proto)
}

// variables lists those of a path template.
func variables(pattern string) []variable {
	var all []variable
	for _, part := range strings.Split(pattern, "{")[1:] {
		inside, _, _ := strings.Cut(part, "}")
		field, segments, _ := strings.Cut(inside, "=")
		all = append(all, variable{
			field: strings.TrimSpace(field),
			deep:  strings.Contains(segments, "/") || strings.TrimSpace(segments) == "**",
		})
	}
	return all
}

// value decodes what a path has for the variable.
func (v variable) value(escaped string) string {
	if v.deep {
		return unescape(escaped, "/")
	}
	return unescape(escaped, "")
}
