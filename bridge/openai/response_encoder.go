package openai

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/native"
	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/bridge/wire"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// ResponseEncoder makes the events of a response of those of a completion, from its
// first one on. It implements bridge.Continued.
type ResponseEncoder struct {
	From    int           // the number of the first event that is wanted
	Log     *slog.Logger  // for what clients are not told
	Keyed   bool          // the request has an idempotency key
	Resumes bool          // the request begins nothing
	Refused func(Refusal) // is told what the answer was, in place of a stream; nil: nobody is
	Texts   *Texts        // keep what the response has said

	id       string // the completion's own, once the server has named it
	response response
	rest     rest  // of the event that was appended last
	own      error // why this stream cannot go on, whatever becomes of the response; nil: it can
}

// Close gives back what Texts keep. Nothing else may be called any more.
func (e *ResponseEncoder) Close() { e.response.reader.close() }

// SetHeader implements bridge.Encoder.
func (e *ResponseEncoder) SetHeader(h http.Header, md metadata.MD) {
	h.Set("Content-Type", sse.MediaType)
	native.SetLocation(h, native.CompletionID(md))
}

// Heartbeat implements bridge.Encoder.
func (e *ResponseEncoder) Heartbeat() string { return sse.Heartbeat }

// Begin implements bridge.Encoder.
func (e *ResponseEncoder) Begin(md metadata.MD) (id string) {
	e.id = native.CompletionID(md)
	e.response.from, e.response.reader.texts = e.From, e.Texts
	return e.id
}

// AppendMessage implements bridge.Encoder: it appends the events of an event.
func (e *ResponseEncoder) AppendMessage(dst, event []byte) (out []byte, terminal bool, err error) {
	number := e.response.sequence
	if out, terminal, err = e.appendEvents(dst, event); err != nil {
		e.response.long, e.response.sequence = e.response.long[:0], number
		if e.own = e.response.err; e.own != nil {
			err = e.own
		}
		return dst, false, err
	}
	out = e.leaveOut(out)
	if terminal && e.From > e.response.sequence {
		return dst, false, e.isAhead()
	}
	return out, terminal, nil
}

// appendEvents appends the events of an event, in the shortest way.
func (e *ResponseEncoder) appendEvents(dst, event []byte) (out []byte, terminal bool, err error) {
	if _, delta, ok := wire.SplitDelta(event); ok && e.response.id != "" {
		if p, text, ok := e.response.goesOn(delta); ok {
			dst = e.response.pieceOf(dst, p, text, p.kind.tail)
			return dst, false, e.response.err
		}
		if out, ok := e.response.appendUsual(dst, delta); ok {
			return out, false, e.response.err
		}
	}
	m := &completionv1.CompletionEvent{}
	if err := proto.Unmarshal(event, m); err != nil {
		return dst, false, fmt.Errorf("decode event: %w", err)
	}
	return e.response.append(dst, m)
}

// leaveOut keeps what is long of events that were appended for AppendMore.
func (e *ResponseEncoder) leaveOut(dst []byte) []byte {
	if len(e.response.long) == 0 {
		return dst
	}
	dst = e.rest.take(dst, e.response.long)
	e.response.long = e.response.long[:0]
	return dst
}

// HasMore implements bridge.Continued.
func (e *ResponseEncoder) HasMore() bool { return !e.rest.empty() }

// AppendMore implements bridge.Continued.
func (e *ResponseEncoder) AppendMore(dst []byte) []byte { return e.rest.append(dst) }

// isAhead takes note that the response has ended before the event that is wanted, and
// returns the error that says so.
func (e *ResponseEncoder) isAhead() error {
	e.own = failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "starting_after",
		"starting_after: the response has ended with the event %d", e.response.sequence-1)
	return e.own
}

// goesOn returns the text of a delta that is nothing but another piece of a part that has
// begun, as nearly all are, and the part.
func (r *response) goesOn(delta []byte) (p *outputPart, text []byte, ok bool) {
	s := wire.Scanner{Rest: delta}
	if !s.Next() || len(s.Rest) > 0 {
		return nil, nil, false
	}
	if p, text = r.open, s.Bytes; s.Tag == wire.DeltaToolCalls {
		p, text = r.callGoesOn(s.Bytes)
	}
	return p, text, p != nil && s.Tag == p.kind.field && len(text) > 0 && utf8.Valid(text)
}

// callGoesOn returns what goesOn does for a piece of a call; no part if it has more than that.
func (r *response) callGoesOn(piece []byte) (p *outputPart, arguments []byte) {
	var number int32
	s := wire.Scanner{Rest: piece}
	for s.Next() {
		switch s.Tag {
		case wire.ToolCallIndex:
			number = int32(s.Number)
		case wire.ToolCallArguments:
			arguments = s.Bytes
		default:
			return nil, nil
		}
	}
	it := r.find(number)
	if s.Unusual || it == nil || it == r.waiting {
		return nil, nil
	}
	return it.parts[0], arguments
}

// appendUsual appends the events of a delta that has only what most have. Like package
// wire, it may decline, and has then done nothing.
func (r *response) appendUsual(dst, delta []byte) (out []byte, ok bool) {
	var text, reasoning, refusal, calls []byte
	for s := (wire.Scanner{Rest: delta}); ; {
		before := s.Rest
		if !s.Next() {
			if s.Unusual {
				return dst, false
			}
			break
		}
		if s.Tag != wire.DeltaToolCalls && !utf8.Valid(s.Bytes) {
			return dst, false
		}
		switch s.Tag {
		case wire.DeltaText:
			text = s.Bytes
		case wire.DeltaReasoning:
			reasoning = s.Bytes
		case wire.DeltaRefusal:
			refusal = s.Bytes
		case wire.DeltaToolCalls:
			calls = before
			for again := true; again; again = s.NextSame() {
				if !isUsualCall(s.Bytes) {
					return dst, false
				}
			}
		default:
			return dst, false
		}
	}
	if len(reasoning) > 0 {
		dst = r.piece(dst, summaryPart, reasoning)
	}
	if len(text) > 0 {
		dst = r.piece(dst, textPart, text)
	}
	if len(refusal) > 0 {
		dst = r.piece(dst, refusalPart, refusal)
	}
	if calls == nil {
		return dst, true
	}
	s := wire.Scanner{Rest: calls}
	for more := s.Next(); more; more = s.NextSame() {
		dst = r.usualCall(dst, s.Bytes)
	}
	return dst, true
}

// isUsualCall tells whether a piece of a call has only what most have.
func isUsualCall(piece []byte) bool {
	s := wire.Scanner{Rest: piece}
	for s.Next() {
		switch s.Tag {
		case wire.ToolCallIndex:
		case wire.ToolCallID, wire.ToolCallName, wire.ToolCallArguments:
			if !utf8.Valid(s.Bytes) {
				return false
			}
		default:
			return false
		}
	}
	return !s.Unusual
}

// usualCall appends the events of such a piece.
func (r *response) usualCall(dst, piece []byte) []byte {
	var number int32
	var id, name, arguments []byte
	for s := (wire.Scanner{Rest: piece}); s.Next(); {
		switch s.Tag {
		case wire.ToolCallIndex:
			number = int32(s.Number)
		case wire.ToolCallID:
			id = s.Bytes
		case wire.ToolCallName:
			name = s.Bytes
		case wire.ToolCallArguments:
			arguments = s.Bytes
		}
	}
	it, dst := r.call(dst, number, string(id), string(name))
	return r.arguments(dst, it, arguments)
}

// valid returns a text that is UTF-8.
func valid(s string) []byte { return []byte(strings.ToValidUTF8(s, "\uFFFD")) }

// AppendEnd implements bridge.Encoder. The failure of a completion is an event of its
// response, the first one or not that this stream has of it, or an error if the response has
// not begun.
func (e *ResponseEncoder) AppendEnd(dst []byte, err error, _ metadata.MD, begun bool) (out []byte, ok bool) {
	if e.response.id != "" && e.own == nil {
		out = e.response.fail(dst, ResponseRefusal(e.Log, err, e.id != "", e.Keyed))
		if out = e.leaveOut(out); e.From <= e.response.sequence {
			return out, true
		}
		err = e.isAhead()
	}
	if !begun { // a true status
		return dst, false
	}
	why := ResponseRefusal(e.Log, err, e.id != "", e.Keyed)
	// The number is that of the event before, if there is one: this is none of the response's,
	// and who goes on after it is to miss none.
	e.response.from, e.response.sequence = 0, max(e.response.sequence, e.From, 1)-1
	return e.response.event(dst, "error", func(m *members) {
		m.string("code", why.Code)
		m.string("message", why.Message)
		m.nullable("param", why.Param)
		m.name("error")
		m.object(func() { why.members(m) })
	}), true
}

// Refuse implements bridge.Encoder.
func (e *ResponseEncoder) Refuse(w http.ResponseWriter, err error) {
	if err == io.EOF {
		err = errNothing
	}
	began := e.id != ""
	if e.own != nil {
		err, began = e.own, began && !e.Resumes
	}
	native.SetLocation(w.Header(), e.id)
	r := ResponseRefusal(e.Log, err, began, e.Keyed)
	if e.Resumes {
		r = r.ofRepeatable(err)
	}
	if e.Refused != nil {
		e.Refused(r)
	}
	r.Write(w)
}
