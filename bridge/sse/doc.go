// Package sse writes the events of a completion as server-sent events, and reads
// event streams the way that browsers do.
//
// AppendEvent is the bridge's hot path: it turns an event in protobuf wire form
// into one whole block, without decoding it into a message and without
// allocating. It understands the encoding that Go's protobuf writes; whatever
// is unusual goes the long way, through proto and protojson, which also decide
// what is an error. Both ways give the same JSON value, but not the same bytes:
// the order of members and the escapes may differ.
//
// Reader is a parser that follows WHATWG HTML section 9.2.6, "Interpreting an
// event stream", to the letter. The tests hold the encoder, and the bridge,
// against it.
//
// A block is
//
//	event: delta
//	data: {"sequence":7,"delta":{"text":" world"}}
//	id: cmpl_01JB2QK4W6_7
//
// and a blank line. The id is the last line because
// @microsoft/fetch-event-source takes it when it reads the line, and not with
// the block as the standard says: with the id first, a connection cut inside a
// block loses the event.
//
// Caveats: the completion id and the body of an error go into the stream as they
// are, so a line end in one would be a line end of the stream. Their callers
// make sure that there is none.
package sse
