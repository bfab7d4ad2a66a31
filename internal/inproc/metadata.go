package inproc

import (
	"context"
	"maps"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// outgoing returns the metadata of a client's context, without what gRPC sends itself.
func outgoing(ctx context.Context) (metadata.MD, error) {
	md, _ := metadata.FromOutgoingContext(ctx)
	if err := validate(md); err != nil {
		return nil, err
	}
	maps.DeleteFunc(md, func(key string, _ []string) bool {
		switch key {
		case "content-type", "user-agent", "te", "grpc-message-type", "grpc-encoding", "grpc-message", "grpc-status", "grpc-timeout":
			return true
		}
		return key[0] == ':'
	})
	return md, nil
}

// keyChars are what keys are made of.
const keyChars = "0123456789abcdefghijklmnopqrstuvwxyz-_."

// validate returns the error that gRPC has for metadata which HTTP/2 cannot carry.
func validate(md metadata.MD) error {
	for key, values := range md {
		if key == "" || key[0] != ':' && strings.Trim(key, keyChars) != "" {
			return status.Errorf(codes.Internal, "header key %q has other characters than %s", key, keyChars)
		}
		for _, v := range values {
			if !strings.HasSuffix(key, "-bin") && strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) {
				return status.Errorf(codes.Internal, "header key %q has a value that is not of printable ASCII", key)
			}
		}
	}
	return nil
}
