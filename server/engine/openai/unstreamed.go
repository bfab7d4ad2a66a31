package openai

import (
	"bytes"
	"fmt"
	"io"
)

// readUnstreamed reads a success that is not an event stream. It may be an error with a
// status of 200, a page of a proxy, or a whole completion from a server that does not
// stream. The latter has been generated and paid for: it becomes the only event.
func (s *stream) readUnstreamed(requestLine string) error {
	body, err := io.ReadAll(io.LimitReader(s.events.unused(), maxEvent))
	switch {
	case err != nil:
		_, err = s.broken(err)
		return err
	case len(body) == maxEvent:
		_, err = s.broken(errEventTooLong)
		return err
	}
	upstream := &upstreamError{status: 200, body: body}
	if upstream.parse() {
		return s.engine.failureOfUpstream(upstream, s.info)
	}
	body = bytes.TrimPrefix(bytes.TrimSpace(body), []byte(byteOrderMark))
	for i, c := range body { // there is no line end within a JSON string
		if c == '\n' || c == '\r' {
			body[i] = ' '
		}
	}
	if completion, err := decodeChunk(body); err != nil || len(completion.Choices) == 0 {
		// The body is not logged, for it may hold the text of a completion.
		return s.unavailable("the upstream answered without streaming", fmt.Errorf("content type %q to %s", s.contentType, requestLine))
	}
	s.events = eventReader{r: io.MultiReader(bytes.NewReader([]byte("data: ")), bytes.NewReader(body))}
	return nil
}
