package jsonbody

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// Bounded has decode decode a body that is not a message of ours, within the same bounds:
// it must be a JSON object, and have no more names and values than may become
// something. isText tells of which of its members most stays text. decode must not
// change the body.
func (d Decoder) Bounded(ctx context.Context, body []byte, isText func(member string) bool, decode func() error) error {
	release, err := d.Acquire(ctx, len(body))
	if err != nil {
		return status.FromContextError(err).Err()
	}
	defer release()
	s := newScanner(body, max(int(d.MaxBody/bytesPerToken), minTokens))
	if err := s.scan(func() error { return s.object(isText) }); err != nil {
		return failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "body", "the body is not a request in JSON: %v", err)
	}
	return decode()
}

// DecodeForeign makes a message of a body, within the same bounds. The message is none of
// ours: it may be of any type, and the resolver knows those that an Any may hold. at is how
// the field is called that takes the value; "": the message itself is the value.
func (d Decoder) DecodeForeign(ctx context.Context, body []byte, m proto.Message, at string, resolver Resolver) error {
	release, err := d.Acquire(ctx, len(body))
	if err != nil {
		return status.FromContextError(err).Err()
	}
	defer release()
	s := newScanner(body, max(int(d.MaxBody/bytesPerToken), minTokens))
	s.anys = &anys{}
	var failed error
	if wrong := s.scan(func() error { return s.value(&s.left) }); wrong != nil {
		failed = wrong
	} else {
		size := len(body)
		if at != "" {
			name, _ := json.Marshal(at) // a text
			body = slices.Concat([]byte("{"), name, []byte(":"), body, []byte("}"))
		}
		if failed = unmarshalForeign(body, m, resolver); failed == nil {
			return nil
		}
		failed = errors.New(plain(failed, size))
	}
	return failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "body", "the body is not a %s in JSON: %v", m.ProtoReflect().Descriptor().FullName(), failed)
}

// unmarshalForeign makes a message of a type that comes from elsewhere: protojson panics at a
// field of which nobody knows what it is, as its type is in a file that is missing.
func unmarshalForeign(body []byte, m proto.Message, resolver Resolver) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = errors.New("a field in it has a type that is not known here")
		}
	}()
	return protojson.UnmarshalOptions{Resolver: resolver, RecursionLimit: maxRecursion}.Unmarshal(body, m)
}

// Resolver finds the types of Any, and extensions.
type Resolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// object scans a value that must be an object.
func (s *scanner) object(isText func(member string) bool) error {
	if kind := s.tokens.PeekKind(); kind != '{' && kind != 0 {
		return s.mistake(int(s.tokens.InputOffset()), "it is not an object")
	}
	if err := s.read(&s.left); err != nil {
		return err
	}
	for s.tokens.PeekKind() != '}' {
		name, err := s.tokens.ReadToken()
		if err != nil {
			return err
		}
		left := &s.left
		if isText(name.String()) {
			left = &s.text
		}
		*left--
		if err := s.value(left); err != nil {
			return err
		}
	}
	return s.read(&s.left)
}
