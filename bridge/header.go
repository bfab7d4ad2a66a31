package bridge

import (
	"net/http"
	"strings"
)

// A request's header may be as large as that of a call, and what of it goes on to the server
// takes more there (RFC 9113 section 6.5.2 counts 32 bytes for each field): a server
// elsewhere would break off the call, and the caller be told that it cannot be reached. So
// what goes on is bounded here, by far more than anybody needs.

// maxAuthorization is how many bytes of credentials go on: more than there are of any that
// a server takes.
const maxAuthorization = 17 << 10

// wrongAuthorization is credentials that are wrong for certain: no key or token has the
// character. Only the server knows whether there are any.
const wrongAuthorization = "Bearer ?"

// maxHandedOn is how many bytes of a field go on, fieldOverhead beside each value included.
// Of a field that has more, nothing does: it is for traces and logs.
var maxHandedOn = map[string]int{
	"Traceparent":      256,
	"Tracestate":       4 << 10,
	"Baggage":          8<<10 + 32, // https://www.w3.org/TR/baggage/#limits
	"X-Forwarded-For":  4 << 10,
	"X-Forwarded-Host": 1 << 10,
}

const fieldOverhead = 32

// maxHost is the longest Host: a name, which has at most 253 characters, and a port.
const maxHost = 260

// boundHeader bounds what of a request's header goes on to the server.
func boundHeader(h http.Header) {
	if values := h["Authorization"]; len(values) > 0 {
		h["Authorization"] = []string{handedOnAuthorization(values)}
	}
	for name, most := range maxHandedOn {
		size := 0
		for _, value := range h[name] {
			size += len(value) + fieldOverhead
		}
		if size > most {
			h.Del(name)
		}
	}
}

// handedOnAuthorization makes one value of credentials. Of those that no metadata can have,
// it makes some that are wrong: the gateway would leave them out, and the server take the
// caller for one who has sent none.
func handedOnAuthorization(values []string) string {
	if len(values) > 1 || len(values[0]) > maxAuthorization {
		return wrongAuthorization
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, values[0])
}
