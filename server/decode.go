package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/server/failure"
)

// A small request can be decoded into very much: an empty message is two bytes on
// the wire and two hundred in memory. So requests are decoded here, not by
// grpc-go: their parts are counted, and refused before anything is made of them; and
// only so many bytes are decoded at a time. Here a refusal also has a true status:
// all that fails in a codec is INTERNAL to grpc-go.
//
// grpc-go itself has only a bound of bytes, past which its own status goes out,
// without our details. So that one is generous.

const (
	// bytesPerPart is how many bytes of a request as JSON there are for each part of
	// it in protobuf, at least; minParts is what is allowed of parts in any case.
	bytesPerPart = 32
	minParts     = 16 << 10

	// partOverhead is how many bytes a part takes in protobuf beyond what it does in
	// JSON, at most: a number, and the tags and lengths around it.
	partOverhead = 32

	// maxNesting is how deep messages may be nested: twice or thrice what a request
	// may, since one JSON value may be several messages.
	maxNesting = 400

	// maxOpenRequest is the most bytes of a request for which nobody needs credentials: that
	// has the name of a service. It is not to have others wait until it is decoded.
	maxOpenRequest = 4 << 10
)

// decoder makes messages of requests, within bounds.
type decoder struct {
	bytes int // of a request, as protobuf
	parts int // of a request: messages and elements of lists and maps
	limit func(ctx context.Context, bytes int) (release func(), err error)

	known, open *receives // of callers who are known, and of others
}

// newDecoder returns a decoder of requests that have at most so many bytes as JSON.
func newDecoder(maxBody int64, limit func(context.Context, int) (func(), error)) *decoder {
	parts := max(maxBody/bytesPerPart, minParts)
	return &decoder{bytes: int(maxBody + parts*partOverhead), parts: int(parts), limit: limit,
		known: newReceives(), open: newOpenReceives()}
}

// rawRequest is a request as it has come.
type rawRequest struct{ data mem.BufferSlice }

// decode makes a message of the bytes that receive has got.
func (d *decoder) decode(ctx context.Context, m any, receive func(any) error) error {
	var raw rawRequest
	bound, most := d.known, d.bytes
	if _, open := m.(*healthpb.HealthCheckRequest); open { // for which nobody needs credentials
		bound, most = d.open, min(d.bytes, maxOpenRequest)
	}
	_, host := peerOf(ctx)
	if err := bound.receive(host, func() error { return receive(&raw) }); err != nil {
		return err
	}
	if raw.data.Len() > most { // which is not to wait until it is refused
		raw.data.Free()
		return tooLarge(most)
	}
	b, release, err := d.unpack(ctx, raw.data, most)
	raw.data.Free()
	if err != nil {
		return err
	}
	defer release()
	message := m.(proto.Message)
	parts, err := countParts(message.ProtoReflect().Descriptor(), b, d.parts, maxNesting)
	switch {
	case errors.Is(err, errNested):
		return failure.Invalid("body", "the request is nested too deep")
	case err == nil && parts > d.parts:
		return failure.Invalid("body", "the request is made of too many parts: send at most %d messages, elements and members", d.parts)
	case err == nil:
		err = proto.Unmarshal(b, message)
	}
	if err != nil {
		return failure.Invalid("body", "the request is not a %s in protobuf", message.ProtoReflect().Descriptor().FullName()).WithCause(err)
	}
	return nil
}

// maxRatio is how many times smaller deflate makes anything, at most
// (https://zlib.net/zlib_tech.html).
const maxRatio = 1032

// unpack returns a request's bytes in one piece, without compression, when there is room for
// them; release is to be called when they are decoded. One that is compressed says at its
// end what it will take, besides what it has, of which much may come to nothing. If it takes more, it waits again, for room for all that it could:
// else small ones that are compressed would always wait for those that are large.
func (d *decoder) unpack(ctx context.Context, data mem.BufferSlice, most int) (b []byte, release func(), err error) {
	sizes := []int{data.Len()}
	if isGzip(data) {
		sizes[0] = int(min(int64(data.Len())*maxRatio, int64(most)))
		if said := max(sizeSaid(data), int64(data.Len())); said < int64(sizes[0]) {
			sizes = []int{int(said), sizes[0]}
		}
	}
	for _, size := range sizes {
		if release, err = d.limit(ctx, size); err != nil {
			return nil, nil, err
		}
		if b, err = uncompressed(data, size); err == nil && len(b) <= size {
			return b, release, nil
		}
		release()
		if err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, tooLarge(most)
}

// sizeSaid is how many bytes a request will have that is compressed, as it says in its last
// four (RFC 1952 section 2.3.1). That may not be true, and is not if it is in several parts.
func sizeSaid(data mem.BufferSlice) int64 {
	r := data.Reader()
	defer r.Close()
	var last [4]byte
	_, _ = r.Discard(max(0, data.Len()-len(last)))
	_, _ = io.ReadFull(r, last[:])
	return int64(binary.LittleEndian.Uint32(last[:]))
}

// uncompressed returns a request's bytes in one piece, without compression. If there are
// more than so many, it returns one more.
func uncompressed(data mem.BufferSlice, most int) ([]byte, error) {
	if !isGzip(data) {
		return data.Materialize(), nil
	}
	from := data.Reader()
	defer from.Close()
	r, err := gzip.NewReader(from)
	if err != nil {
		return nil, failure.Invalid("body", "the request is not what gzip makes").WithCause(err)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(most)+1))
	if err != nil {
		return nil, failure.Invalid("body", "the request is not what gzip makes").WithCause(err)
	}
	return b, nil
}

func tooLarge(most int) error {
	return failure.Invalid("body", "the request must have at most %d bytes in protobuf", most)
}

// isGzip tells a request that is compressed from one that is not: these two bytes
// would be the tag of a field of a wire type that there is not.
func isGzip(data mem.BufferSlice) bool {
	r := data.Reader()
	defer r.Close()
	var magic [2]byte
	n, _ := io.ReadFull(r, magic[:])
	return n == 2 && bytes.Equal(magic[:], []byte{0x1f, 0x8b})
}

// compressed is a grpc.Decompressor that leaves it to the decoder to decompress,
// within the limit.
type compressed struct{}

// Do implements grpc.Decompressor.
func (compressed) Do(r io.Reader) ([]byte, error) { return io.ReadAll(r) }

// Type implements grpc.Decompressor.
func (compressed) Type() string { return "gzip" }

var errNested = errors.New("nested too deep")

// countParts counts the parts of a message in protobuf's wire form, without decoding it,
// until there are more than most.
func countParts(md protoreflect.MessageDescriptor, b []byte, most, nesting int) (parts int, err error) {
	if nesting == 0 {
		return 0, errNested
	}
	fields := md.Fields()
	for len(b) > 0 && parts <= most {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(number, kind, b)
		if n < 0 {
			return 0, protowire.ParseError(n)
		}
		value := b[:n]
		b = b[n:]
		field := fields.ByNumber(number)
		switch {
		case field == nil:
		case field.Message() != nil && kind == protowire.BytesType:
			content, _ := protowire.ConsumeBytes(value)
			within, err := countParts(field.Message(), content, most-parts, nesting-1)
			if err != nil {
				return 0, err
			}
			parts += 1 + within
		case field.IsList() && kind == protowire.BytesType && field.Kind() != protoreflect.StringKind && field.Kind() != protoreflect.BytesKind:
			parts += n // packed: no element takes less than a byte
		case field.IsList():
			parts++
		}
	}
	return parts, nil
}

// registrar registers services whose unary requests the decoder makes, within the
// interceptors: so a caller without credentials is refused before anything of a request is
// received but what a stream's window lets through. Those of streams are decoded by
// decodingStream.
type registrar struct {
	*grpc.Server
	decoder *decoder
}

// RegisterService implements grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	bounded := *desc
	bounded.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		bounded.Methods[i] = grpc.MethodDesc{MethodName: m.MethodName, Handler: func(srv any, ctx context.Context, receive func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			return m.Handler(srv, ctx, func(any) error { return nil }, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				within := func(ctx context.Context, req any) (any, error) {
					if err := r.decoder.decode(ctx, req, receive); err != nil {
						return nil, err
					}
					return handler(ctx, req)
				}
				if interceptor == nil {
					return within(ctx, req)
				}
				return interceptor(ctx, req, info, within)
			})
		}}
	}
	r.Server.RegisterService(&bounded, impl)
}

// decodingStream is a stream whose requests the decoder makes.
type decodingStream struct {
	grpc.ServerStream
	decoder *decoder
}

// RecvMsg implements grpc.ServerStream.
func (s *decodingStream) RecvMsg(m any) error {
	return s.decoder.decode(s.Context(), m, s.ServerStream.RecvMsg)
}
