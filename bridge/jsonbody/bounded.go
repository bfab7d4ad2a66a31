package jsonbody

import (
	"context"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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
