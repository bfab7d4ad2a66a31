// Package openai is what a completion looks like over HTTP in OpenAI's words: requests
// that become completion requests, and events, completions, errors and models as that
// API has them.
//
// All of it is a translation, and knows no state but a stream's own: whatever is said of
// a completion is made of its events alone, with the id and the time that the first of
// them has. So a stream that is read again is the same, byte for byte.
//
// Decode functions (request.go) make a request of a body, strictly: what would change the
// answer and cannot be had is refused, by the name of the parameter. parameters.go has
// the table of them. Encoder (encoder.go) is the hot path: as the native one, it makes
// blocks of events in wire form without allocating.
package openai

import "strings"

// Path is where the API is, as base URL for its clients.
const Path = "/openai/v1"

// The prefixes of ids: of one of ours, without its own.
const (
	nativePrefix = "cmpl_"
	chatPrefix   = "chatcmpl-"
	textPrefix   = "cmpl-"

	responsePrefix = "resp_"
)

// foreignID returns a completion's id as this API has it.
func foreignID(prefix, id string) string { return prefix + strings.TrimPrefix(id, nativePrefix) }

// RequestHeaders are what the official clients send, besides what others do, and
// ResponseHeaders what they read: for pages of other origins.
var (
	RequestHeaders = []string{
		"OpenAI-Beta", "OpenAI-Organization", "OpenAI-Project",
		"X-Stainless-Arch", "X-Stainless-Async", "X-Stainless-Custom-Poll-Interval", "X-Stainless-Helper-Method", "X-Stainless-Lang", "X-Stainless-OS",
		"X-Stainless-Package-Version", "X-Stainless-Poll-Helper", "X-Stainless-Read-Timeout", "X-Stainless-Retry-Count", "X-Stainless-Runtime",
		"X-Stainless-Runtime-Version", "X-Stainless-Timeout",
	}
	ResponseHeaders = []string{"Retry-After-Ms", "X-Should-Retry"}
)
