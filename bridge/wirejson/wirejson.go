// Package wirejson writes messages in protobuf wire form as proto3 JSON, given their
// descriptors, without decoding them: for the streams of methods that this program has no
// generated code for.
//
// A message type is compiled once into a table of its fields. Writer.Append goes through
// the bytes of a message with that table, and appends the JSON as it goes: about a
// twentieth of the time that dynamicpb and protojson take, and no allocation
// (BenchmarkAppend). What the table does not answer goes the long way, through those two,
// which also decide what is an error: fields that come twice, and would be merged or
// replaced, lists in several pieces, wrong wire types, extensions, field masks, text that
// is not UTF-8, truncated input. Both ways give the same JSON value, but not the same
// bytes: members come in the order of the input here, and of the declaration there.
//
// It differs from protojson in two things. A field that proto2 requires may be absent: that
// is for those who send it to see to. And an Any whose type cannot be found is shown as its
// "@type" and, in base64, its "@value", as grpcurl does: one that nobody knows does not end a
// stream. And what would become very
// much is refused, whichever way it would go (bounds.go).
package wirejson

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// Resolver finds the types of Any, and extensions. It is called by many goroutines at once.
type Resolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// Types are the message types of one set of descriptors, compiled as they are needed. They
// are for many goroutines at once.
type Types struct {
	resolver Resolver
	bounds   bounds
	mu       sync.Mutex // guards all below, and the tables that are being compiled
	compiled map[protoreflect.MessageDescriptor]*table
	found    []*table // of compiled, those that are not yet
}

// NewTypes returns types whose Any and extensions a resolver knows.
func NewTypes(resolver Resolver) *Types {
	return &Types{resolver: resolver, bounds: usual, compiled: map[protoreflect.MessageDescriptor]*table{}}
}

// Writer writes messages of one type. It is for one goroutine at a time.
type Writer struct {
	// Unknown tells, after Append, that the message had fields, or values of enums, that
	// its descriptor does not have.
	Unknown bool

	types   *Types
	table   *table
	depth   int
	anys    int     // of depth, those that are in an Any
	most    int     // how long what is written to may become
	entries []entry // of the maps that are being written, the inner ones last
	part    []byte  // of a message, for AppendField
}

// Writer returns one for a message type.
func (t *Types) Writer(md protoreflect.MessageDescriptor) *Writer {
	return &Writer{types: t, table: t.table(md)}
}

// errUnusual says that a message has to go the long way.
var errUnusual = errors.New("unusual")

// Append appends the JSON of a message. It is on one line, and has all escaped that
// sse.AppendQuoted escapes. With an error, out is dst.
func (w *Writer) Append(dst, wire []byte) (out []byte, err error) {
	w.begin(dst)
	switch out, err = w.appendMessage(dst, w.table, wire); err {
	case nil:
		return out, nil
	case errUnusual:
		return w.appendSlowly(dst, wire)
	}
	return dst, fmt.Errorf("write %s as JSON: %w", w.table.md.FullName(), err)
}

// begin begins a message.
func (w *Writer) begin(dst []byte) {
	w.Unknown, w.depth, w.anys, w.most = false, 0, 0, len(dst)+w.types.bounds.json
	if w.entries = w.entries[:0]; cap(w.entries) > maxKept {
		w.entries = nil
	}
}

// appendSlowly appends the JSON of a message by way of dynamicpb and protojson.
func (w *Writer) appendSlowly(dst, wire []byte) (out []byte, err error) {
	defer func() {
		// Descriptors come from elsewhere: google.protobuf.Timestamp may be anything.
		if cause := recover(); cause != nil {
			out, err = dst, fmt.Errorf("write %s as JSON: %v", w.table.md.FullName(), cause)
		}
	}()
	if len(wire) > maxSlow {
		return dst, fmt.Errorf("read %s: it is unusual, and has more than %d bytes", w.table.md.FullName(), maxSlow)
	}
	m := dynamicpb.NewMessage(w.table.md)
	if err := (proto.UnmarshalOptions{AllowPartial: true, Resolver: w.types.resolver}).Unmarshal(wire, m); err != nil {
		return dst, fmt.Errorf("read %s: %w", w.table.md.FullName(), err)
	}
	if err := (&usage{w.types.resolver, w.types.bounds.json}).message(m, 1, 0); err != nil {
		return dst, fmt.Errorf("write %s as JSON: %w", w.table.md.FullName(), err)
	}
	text, err := protojson.MarshalOptions{AllowPartial: true, Resolver: resolveAll{w.types.resolver}}.Marshal(m)
	if err != nil {
		return dst, fmt.Errorf("write %s as JSON: %w", w.table.md.FullName(), err)
	}
	// protojson puts in spaces at random, lest anyone rely on its bytes.
	return sse.AppendJSON(dst, text)
}

// AppendAny appends the JSON of an Any, by a writer of those.
func (w *Writer) AppendAny(dst []byte, a *anypb.Any) ([]byte, error) {
	wire, err := proto.Marshal(a)
	if err != nil {
		return dst, err
	}
	return w.Append(dst, wire)
}
