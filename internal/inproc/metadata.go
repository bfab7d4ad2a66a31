package inproc

import (
	"context"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// outgoing returns the metadata of a client's context, without what gRPC sends itself.
func outgoing(ctx context.Context) (metadata.MD, error) {
	md, _ := metadata.FromOutgoingContext(ctx)
	for key, values := range md {
		if err := validatePair(key, values); err != nil {
			return nil, err
		}
		switch key {
		case "content-type", "user-agent", "te", "grpc-message-type", "grpc-encoding", "grpc-message", "grpc-status", "grpc-timeout":
			delete(md, key)
		}
	}
	return md, nil
}

// validate returns the error that gRPC has for metadata which HTTP/2 cannot carry.
func validate(md metadata.MD) error {
	for key, values := range md {
		if err := validatePair(key, values); err != nil {
			return err
		}
	}
	return nil
}

func validatePair(key string, values []string) error {
	valid := key != ""
	for i := range len(key) {
		c := key[i]
		valid = valid && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.')
	}
	if !valid {
		return status.Errorf(codes.Internal, "header key %q is not of [0-9a-z-_.]", key)
	}
	if strings.HasSuffix(key, "-bin") {
		return nil
	}
	for _, v := range values {
		for i := range len(v) {
			if v[i] < ' ' || v[i] > '~' {
				return status.Errorf(codes.Internal, "header key %q has a value that is not of printable ASCII", key)
			}
		}
	}
	return nil
}
