// Package sse frames server-sent events, and reads event streams the way that
// browsers do. It knows nothing of what the events say.
//
// A block is one event: lines that each are a field, and a blank line.
//
//	event: delta
//	data: {"text":" world"}
//	id: 7
//
// An event that has an id should have it in its last line:
// @microsoft/fetch-event-source takes the id when it reads the line, and not with
// the block as the standard says. With the id first, a connection cut inside a
// block loses the event.
//
// Reader is a parser that follows WHATWG HTML section 9.2.6, "Interpreting an
// event stream", to the letter. The tests hold what writes blocks against it.
package sse

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// MediaType is that of an event stream.
const MediaType = "text/event-stream"

// Heartbeat keeps a silent stream alive. It may stand only between blocks.
//
// It is a comment with no blank line after it. The standard dispatches nothing
// at a blank line with no data before it, but clients do: an empty event in
// fetch-event-source, a JSON error in openai-python before 2.38
// (openai-python#2722). Without the blank line the comment is just the first
// line of the next block.
const Heartbeat = ": hb\n"

// AppendField appends a line of a block, such as "event: delta". Neither the name
// nor the value may hold a line end: it would be one of the stream.
func AppendField[T string | []byte](dst []byte, name string, value T) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, '\n')
}

// AppendRetry appends the line that says how long the client shall wait before it
// reconnects, in whole milliseconds, or nothing for less than one.
func AppendRetry(dst []byte, retry time.Duration) []byte {
	ms := retry.Milliseconds()
	if ms <= 0 {
		return dst
	}
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, ms, 10)
	return append(dst, '\n')
}

// AppendJSON appends a JSON value so that it can stand in a data line: without
// spaces, on one line, and with all that AppendQuoted escapes. It is an error when
// the value is not JSON; dst is then returned as it was.
func AppendJSON(dst, value []byte) ([]byte, error) {
	value, err := json.Marshal(json.RawMessage(value)) // which leaves U+0085 alone
	if err != nil {
		return dst, err
	}
	return append(dst, bytes.ReplaceAll(value, []byte("\u0085"), []byte(`\u0085`))...), nil
}
