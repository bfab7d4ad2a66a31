package transcode

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// ForwardedHeaders returns the names of the headers that go to the server as metadata, in
// their canonical form. It returns an error for those that are gRPC's own, or HTTP's.
func ForwardedHeaders(names []string) ([]string, error) {
	var canonical []string
	for _, name := range names {
		key := textproto.CanonicalMIMEHeaderKey(name)
		switch {
		case key == "" || strings.ContainsFunc(key, func(c rune) bool {
			return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.", c))
		}):
			return nil, fmt.Errorf("forward the header %q: it is not a header's name", name)
		case reserved[key] || strings.HasPrefix(key, "Grpc-") && !strings.HasPrefix(key, runtime.MetadataHeaderPrefix):
			return nil, fmt.Errorf("forward the header %q: it is for HTTP or gRPC itself", name)
		}
		canonical = append(canonical, key)
	}
	return canonical, nil
}

// reserved are the headers that say nothing about a call, or that the bridge sees to.
var reserved = map[string]bool{
	"Authorization": true, "Connection": true, "Content-Encoding": true, "Content-Length": true, "Content-Type": true, "Expect": true,
	"Host": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	"User-Agent": true, "X-Forwarded-For": true, "X-Forwarded-Host": true,
}

// setMetadata sets the headers of a response that stand for metadata, as the gateway does,
// but for that of gRPC itself. Binary values are in base64, as gRPC has them.
func setMetadata(h http.Header, prefix string, md metadata.MD) {
	for key, values := range md {
		if ofGRPC(key) {
			continue
		}
		for _, value := range values {
			h.Add(prefix+key, text(key, value))
		}
	}
}

func ofGRPC(key string) bool {
	return key == "content-type" || strings.HasPrefix(key, "grpc-") || strings.HasPrefix(key, ":")
}

// text returns a value of metadata as text.
func text(key, value string) string {
	if strings.HasSuffix(key, "-bin") {
		return base64.RawStdEncoding.EncodeToString([]byte(value))
	}
	return value
}

// trailers returns the trailers that a client is told of, by their names.
func trailers(md metadata.MD) map[string][]string {
	all := map[string][]string{}
	for key, values := range md {
		if ofGRPC(key) {
			continue
		}
		for _, value := range values {
			all[key] = append(all[key], text(key, value))
		}
	}
	return all
}

// Timeout returns how long a call may take, by the header grpc-timeout; 0: for ever
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
func Timeout(value string) (time.Duration, error) {
	if value == "" {
		return 0, nil
	}
	unit, ok := units[value[len(value)-1]]
	n, err := strconv.ParseUint(value[:len(value)-1], 10, 63)
	if !ok || err != nil || len(value) > 9 {
		return 0, failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "grpc-timeout", "%q is not a timeout such as 10S or 500m", failure.Clip(value))
	}
	// Of a deadline that has passed, gRPC says so; and what overflows is for ever.
	return max(min(time.Duration(n), maxTimeout/unit)*unit, 1), nil
}

const maxTimeout = time.Duration(1<<63 - 1)

var units = map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}
