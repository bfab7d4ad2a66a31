// Package jsonbody makes messages of the JSON in request bodies: strictly, and within
// bounds of memory.
package jsonbody

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/failure"
)

const (
	// maxRecursion is maxDepth as protojson counts it, for which one JSON value may be
	// several messages.
	maxRecursion = 2 * maxDepth

	// bytesPerToken is how many bytes of the largest body there are for each name and
	// value in it, at least; minTokens is how many of those are taken in any case.
	bytesPerToken = 32
	minTokens     = 16 << 10
)

// Decoder makes messages of bodies. It is for many goroutines at once.
type Decoder struct {
	Acquire func(ctx context.Context, bytes int) (release func(), err error) // waits for the memory that a body may need
	MaxBody int64                                                            // the largest body, in bytes
}

// Decode makes a message of a body, which is changed. what says what the body is to be.
//
// A small body can become very much: an empty message is three bytes in it and two
// hundred in memory. So the body is scanned before anything is made of it, and only so
// many bytes are decoded at a time. The scan also finds the JSON objects that the
// message has a twin for, such as parameters and parameters_json. Their text goes into
// that as it is written: a Struct keeps neither the order of keys nor large integers,
// and takes a hundred times the memory. protojson then decodes the rest, in which
// those objects are empty, and says what is wrong with it, and where.
func (d Decoder) Decode(ctx context.Context, body []byte, m proto.Message, what string) error {
	release, err := d.Acquire(ctx, len(body))
	if err != nil {
		return status.FromContextError(err).Err()
	}
	defer release()
	s := newScanner(body, max(int(d.MaxBody/bytesPerToken), minTokens))
	err = s.scan(func() error { return s.message(m.ProtoReflect().Descriptor()) })
	switch {
	case s.misfit != nil:
		err = s.misfit
	case err == nil:
		if err = unmarshal(s.blank(len(body)), m); err == nil {
			err = s.set(m.ProtoReflect())
		}
	default:
		err = s.earlier(err.(*mistake), m)
	}
	if err == nil {
		return nil
	}
	return failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "body", "the body is not %s: %s", what, plain(err, len(body)))
}

func unmarshal(body []byte, m proto.Message) error {
	return protojson.UnmarshalOptions{RecursionLimit: maxRecursion}.Unmarshal(body, m)
}

// earlier returns what protojson has to say against a body before the mistake that the
// scan ended with, or else the mistake. It decodes nothing behind it.
func (s *scanner) earlier(found *mistake, m proto.Message) error {
	if found.inText {
		return found
	}
	end := found.offset
	if found.syntax {
		end = len(s.body)
	}
	err := unmarshal(s.blank(end), m)
	if err == nil || !found.syntax && strings.Contains(err.Error(), "unexpected EOF") {
		return found
	}
	return err
}
