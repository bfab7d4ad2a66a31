package bridge

import (
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// The two forms that a completion can be answered in.
const (
	eventStream = sse.MediaType
	jsonType    = "application/json"
)

// negotiate returns the form that a request for a completion wants, or "" when
// it takes neither (RFC 9110, section 12.5.1). A stream is the default, and what
// a client gets that names it anywhere, since clients of streams often list JSON
// first, for the errors. JSON is for clients that name it and, at best, allow for
// a stream with a wildcard.
func negotiate(h http.Header) string {
	accept := strings.Join(h.Values("Accept"), ",")
	if strings.TrimSpace(accept) == "" {
		return eventStream
	}
	stream, json := quality(accept, eventStream), quality(accept, jsonType)
	switch {
	case stream.q > 0 && (stream.specificity == named || stream.q > json.q || stream.q == json.q && stream.specificity >= json.specificity):
		return eventStream
	case json.q > 0:
		return jsonType
	}
	return ""
}

// preference is how much a client wants a media type.
type preference struct {
	q           float64
	specificity int // of the range that says so: 0 */*, 1 type/*, or named
}

// named is the specificity of the media type itself.
const named = 2

// quality returns how much the list of an Accept header wants a media type. The
// most specific range that matches it counts.
func quality(accept, mediaType string) preference {
	p := preference{specificity: -1}
	family, _, _ := strings.Cut(mediaType, "/")
	for element := range strings.SplitSeq(accept, ",") {
		name, params, err := mime.ParseMediaType(element)
		if err != nil {
			continue
		}
		specificity := -1
		switch name {
		case mediaType:
			specificity = named
		case family + "/*":
			specificity = 1
		case "*/*":
			specificity = 0
		}
		if specificity < 0 || specificity < p.specificity {
			continue
		}
		q := 1.0
		if s, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(s, 64); err != nil || !(q >= 0 && q <= 1) {
				q = 0
			}
		}
		p = preference{q: q, specificity: specificity}
	}
	return p
}
