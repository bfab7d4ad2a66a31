package openai

import (
	"bytes"
	"fmt"
	"io"
)

// noStream is for a success that is not an event stream: an error under a status
// of 200, a whole completion from a server that does not stream, a page of a
// proxy's. A completion has been made and paid for: it is read as the only event of
// a stream.
func (s *stream) noStream(asked string) error {
	body, err := io.ReadAll(io.LimitReader(s.events.rest(), maxEvent))
	switch {
	case err != nil:
		_, err = s.broken(err)
		return err
	case len(body) == maxEvent:
		_, err = s.broken(errEventTooLong)
		return err
	}
	said := &refusal{status: 200, body: body}
	if said.parse() {
		return s.engine.refused(said, s.question)
	}
	body = bytes.TrimPrefix(bytes.TrimSpace(body), []byte(mark))
	for i, c := range body { // no string in JSON has a line end
		if c == '\n' || c == '\r' {
			body[i] = ' '
		}
	}
	completion := new(wireChunk)
	if err := decode(body, completion); err != nil || len(completion.Choices) == 0 {
		// The body may hold the text of a completion, which is not for the log.
		return s.unavailable("the upstream answered without streaming", fmt.Errorf("content type %q to %s", s.contentType, asked))
	}
	s.events = events{r: io.MultiReader(bytes.NewReader([]byte("data: ")), bytes.NewReader(body))}
	return nil
}
