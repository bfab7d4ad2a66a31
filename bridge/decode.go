package bridge

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/failure"
)

const (
	// maxDepth bounds how deep a body may be nested: more than the server takes, which
	// names the field that is nested too deep.
	maxDepth = 200

	// maxRecursion is the same as protojson counts it, for which one JSON value may
	// be several messages.
	maxRecursion = 2 * maxDepth

	// byteTokens is how many bytes of the largest body there are for each name and
	// value in it, at least; smallest is how many of those are taken in any case.
	byteTokens = 32
	smallest   = 16 << 10

	// textTokens is how many of them a text may have in place of each that becomes a
	// message. Tools have many: a schema is made of short words.
	textTokens = 3
)

// decoder makes messages of bodies.
type decoder struct {
	acquire func(ctx context.Context, bytes int) (release func(), err error) // waits for the memory that a body may need
	maxBody int64                                                            // the largest body, in bytes
}

// decode makes a message of a body, which is changed. what says what the body is to be.
//
// A small body can become very much: an empty message is three bytes in it and two
// hundred in memory. So the body is scanned before anything is made of it, and only so
// many bytes are decoded at a time. The scan also finds the JSON objects that the
// message has a twin for, such as parameters and parameters_json. Their text goes into
// that as it is written: a Struct keeps neither the order of keys nor large integers,
// and takes a hundred times the memory. protojson then decodes the rest, in which
// those objects are empty, and says what is wrong with it, and where.
func (d decoder) decode(ctx context.Context, body []byte, m proto.Message, what string) error {
	release, err := d.acquire(ctx, len(body))
	if err != nil {
		return status.FromContextError(err).Err()
	}
	defer release()
	s := newScanner(body, max(int(d.maxBody/byteTokens), smallest))
	err = s.scan(m.ProtoReflect().Descriptor())
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

// mistake is what a scan finds wrong with a body.
type mistake struct {
	offset int
	where  string // the offset as protojson has it
	what   string
	syntax bool // protojson finds it, too, and has better words
	inText bool // protojson does not see it
}

// Error implements error.
func (m *mistake) Error() string { return fmt.Sprintf("(line %s): %s", m.where, m.what) }

// position is the line and the column, in characters, of an offset.
func position(body []byte, offset int) string {
	before := body[:offset]
	start := bytes.LastIndexByte(before, '\n') + 1
	return fmt.Sprintf("%d:%d", bytes.Count(before, []byte("\n"))+1, utf8.RuneCount(before[start:])+1)
}

// plain is a decoding error in words that say what to mend, and without protojson's
// prefix, which varies on purpose.
func plain(err error, size int) string {
	s := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
	s = strings.Replace(s, "exceeded max recursion depth", "it is nested too deep", 1)
	return strings.Replace(s, "unexpected EOF", fmt.Sprintf("it breaks off after %d bytes", size), 1)
}
