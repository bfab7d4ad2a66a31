package openai

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"unicode/utf8"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/bridge/wire"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Done is the block behind the last chunk. A stream that has failed ends without it.
const Done = "data: [DONE]\n\n"

// Encoder makes one response of the events of a completion: the chunks of a chat
// completion, or of a legacy one. It implements bridge.Encoder.
type Encoder struct {
	Legacy       bool          // the chunks are those of POST /completions
	IncludeUsage bool          // the usage is told in a chunk of its own, before the end
	Log          *slog.Logger  // for what clients are not told
	Keyed        bool          // the request has an idempotency key
	Refused      func(Refusal) // is told what the answer was, in place of a stream; nil: nobody is

	id    string // the completion's own, once the server has named it
	form  form
	chars int // of the text so far, for the offsets of a legacy completion's tokens
}

// form is what all chunks of a stream have in common.
type form struct {
	head    []byte // up to the choices, with "data: "
	choices []byte // head, and the choices up to the delta's members
	tail    string // behind those of a delta in the middle of the answer
	end     string // behind the choices
}

// SetHeader implements bridge.Encoder.
func (e *Encoder) SetHeader(h http.Header, md metadata.MD) {
	h.Set("Content-Type", sse.MediaType)
	native.SetLocation(h, native.CompletionID(md))
}

// Heartbeat implements bridge.Encoder.
func (e *Encoder) Heartbeat() string { return sse.Heartbeat }

// Begin implements bridge.Encoder.
func (e *Encoder) Begin(md metadata.MD) (id string) {
	e.id = native.CompletionID(md)
	return e.id
}

var (
	errNoCreated = errors.New("the server sent an event before the first")
	errNoEvent   = errors.New("event of no known kind")
)

// AppendMessage implements bridge.Encoder: it appends the chunks of an event.
func (e *Encoder) AppendMessage(dst, event []byte) (out []byte, terminal bool, err error) {
	if _, delta, ok := wire.SplitDelta(event); ok && e.form.choices != nil {
		if out, ok := e.appendUsual(dst, delta); ok {
			return out, false, nil
		}
	}
	m := &completionv1.CompletionEvent{}
	if err := proto.Unmarshal(event, m); err != nil {
		return dst, false, fmt.Errorf("decode event: %w", err)
	}
	return e.appendEvent(dst, m)
}

// appendUsual appends the chunk of a delta that has only what most have. Like
// package wire, it may decline.
func (e *Encoder) appendUsual(dst, delta []byte) (out []byte, ok bool) {
	out = append(dst, e.form.choices...)
	start := len(out)
	if e.Legacy {
		out, e.chars, ok = appendUsualText(out, delta, e.chars)
	} else {
		out, ok = appendUsualDelta(out, delta)
	}
	if !ok {
		return dst, false
	}
	if len(out) > start {
		out = out[:len(out)-1] // a comma
	}
	return append(out, e.form.tail...), true
}

// appendUsualText does so for a legacy completion, which has text alone, and counts its
// characters.
func appendUsualText(dst, delta []byte, chars int) (out []byte, sum int, ok bool) {
	s := wire.Scanner{Rest: delta}
	if !s.Next() || s.Tag != wire.DeltaText || len(s.Rest) > 0 || !utf8.Valid(s.Bytes) {
		return dst, chars, false
	}
	return append(sse.AppendQuoted(dst, s.Bytes), ','), chars + utf8.RuneCount(s.Bytes), true
}

// appendUsualDelta appends the members of a delta, each with a comma behind it.
func appendUsualDelta(dst, delta []byte) (out []byte, ok bool) {
	s := wire.Scanner{Rest: delta}
	for s.Next() {
		switch s.Tag {
		case wire.DeltaText:
			dst, ok = sse.AppendMember(dst, `"content":`, s.Bytes)
		case wire.DeltaReasoning:
			dst, ok = sse.AppendMember(dst, `"reasoning_content":`, s.Bytes)
		case wire.DeltaRefusal:
			dst, ok = sse.AppendMember(dst, `"refusal":`, s.Bytes)
		case wire.DeltaToolCalls:
			dst = append(dst, `"tool_calls":[`...)
			dst, ok = appendUsualCall(dst, s.Bytes)
			for ok && s.NextSame() {
				dst = append(dst, ',')
				dst, ok = appendUsualCall(dst, s.Bytes)
			}
			dst = append(dst, "],"...)
		default:
			return dst, false
		}
		if !ok {
			return dst, false
		}
	}
	return dst, !s.Unusual
}

// appendUsualCall appends a piece of a tool call.
func appendUsualCall(dst, piece []byte) (out []byte, ok bool) {
	var index int32
	var id, name, arguments []byte
	s := wire.Scanner{Rest: piece}
	for s.Next() {
		switch s.Tag {
		case wire.ToolCallIndex:
			index = int32(s.Number)
		case wire.ToolCallID:
			id = s.Bytes
		case wire.ToolCallName:
			name = s.Bytes
		case wire.ToolCallArguments:
			arguments = s.Bytes
		default:
			return dst, false
		}
	}
	if s.Unusual || !utf8.Valid(id) || !utf8.Valid(name) || !utf8.Valid(arguments) {
		return dst, false
	}
	return append(appendCall(dst, index, id, name, arguments), '}'), true
}

// appendCall appends a piece of a tool call but for its closing brace. The first piece of
// a call is the one with an id, and says the type.
func appendCall(dst []byte, index int32, id, name, arguments []byte) []byte {
	dst = append(dst, `{"index":`...)
	dst = strconv.AppendInt(dst, int64(index), 10)
	if len(id) > 0 {
		dst = append(dst, `,"id":`...)
		dst = sse.AppendQuoted(dst, id)
		dst = append(dst, `,"type":"function"`...)
	}
	dst = append(dst, `,"function":{`...)
	if len(name) > 0 {
		dst = append(dst, `"name":`...)
		dst = sse.AppendQuoted(dst, name)
		dst = append(dst, ',')
	}
	dst = append(dst, `"arguments":`...)
	dst = sse.AppendQuoted(dst, arguments)
	return append(dst, '}')
}

// AppendEnd implements bridge.Encoder. The failure of a completion is an error in the
// stream.
func (e *Encoder) AppendEnd(dst []byte, err error, _ metadata.MD, begun bool) (out []byte, ok bool) {
	if !begun { // a true status
		return dst, false
	}
	return appendErrorBlock(dst, newRefusal(e.Log, err, e.id != "", e.Keyed)), true
}

func appendErrorBlock(dst []byte, r Refusal) []byte {
	dst = append(dst, "data: "...)
	dst = append(dst, r.JSON()...)
	return append(dst, "\n\n"...)
}

var errNothing = errors.New("the server ended a stream with nothing in it")

// Refuse implements bridge.Encoder.
func (e *Encoder) Refuse(w http.ResponseWriter, err error) {
	if err == io.EOF {
		err = errNothing
	}
	native.SetLocation(w.Header(), e.id)
	r := newRefusal(e.Log, err, e.id != "", e.Keyed)
	if e.Refused != nil {
		e.Refused(r)
	}
	r.Write(w)
}
