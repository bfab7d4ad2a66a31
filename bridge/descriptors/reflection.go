package descriptors

//lint:file-ignore SA1019 v1alpha is what many servers still have.

import (
	"context"
	"fmt"
	"slices"

	"github.com/jhump/protoreflect/v2/grpcreflect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Reflection is the source that is a server's reflection, v1 or v1alpha.
type Reflection struct{ Conn grpc.ClientConnInterface }

// Load implements Source.
func (r Reflection) Load(ctx context.Context, services []protoreflect.FullName, all bool) (*Set, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := r.client(ctx)
	defer client.Reset()
	var listed []protoreflect.FullName
	if all {
		var err error
		if listed, err = client.ListServices(); err != nil {
			return nil, err
		}
	}
	want := wanted(services, all)
	found := newCollection()
	failed := map[protoreflect.FullName]error{}
	for _, name := range slices.Concat(services, listed) {
		if !want(name) {
			continue
		}
		switch fd, err := client.FileContainingSymbol(name); {
		case grpcreflect.IsElementNotFoundError(err) && !slices.Contains(listed, name): // else a file is missing that it needs
		case err != nil && ofServer(err):
			return nil, fmt.Errorf("ask for %s: %w", name, err)
		case err != nil:
			failed[name] = err
		default:
			found.add(fd)
		}
	}
	if len(found.files) == 0 {
		for name, err := range failed {
			return nil, fmt.Errorf("ask for %s: %w", name, err)
		}
	}
	set, err := newSet(found.files, r.lookUp, want)
	if err == nil {
		set.Failed = failed
	}
	return set, err
}

// ofServer tells of an error whether it is likely for all services, and not for one whose
// descriptors the server cannot give, or gives so that nobody can cope with them.
func ofServer(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	switch s.Code() {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.ResourceExhausted:
		return true
	}
	return false
}

// lookUp asks for a message type that no service names.
func (r Reflection) lookUp(ctx context.Context, name protoreflect.FullName) (types *dynamicpb.Types, size int, err error) {
	defer func() {
		if cause := recover(); cause != nil { // of descriptors that nobody can cope with
			err = fmt.Errorf("link the file of %s: %v", name, cause)
		}
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := r.client(ctx)
	defer client.Reset()
	fd, err := client.FileContainingSymbol(name)
	if err != nil {
		return nil, 0, err
	}
	found := newCollection()
	found.add(fd)
	registry, err := link(found.files)
	if err != nil {
		return nil, 0, err
	}
	return dynamicpb.NewTypes(registry), proto.Size(&descriptorpb.FileDescriptorSet{File: found.files}), nil
}

func (r Reflection) client(ctx context.Context) *grpcreflect.Client {
	return grpcreflect.NewClientAuto(ctx, bounded{r.Conn, new(int)}, grpcreflect.WithAllowMissingFileDescriptors())
}

// bounded is a connection that takes messages of descriptors, but no more bytes in all than
// maxSize: a server may have no end of files.
type bounded struct {
	grpc.ClientConnInterface
	size *int // of one goroutine at a time, as the client is
}

// NewStream implements grpc.ClientConnInterface.
func (b bounded) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := b.ClientConnInterface.NewStream(ctx, desc, method, append(opts, grpc.MaxCallRecvMsgSize(maxSize))...)
	if err != nil {
		return nil, err
	}
	return boundedStream{stream, b.size}, nil
}

type boundedStream struct {
	grpc.ClientStream
	size *int
}

// RecvMsg implements grpc.ClientStream.
func (s boundedStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	if answer, ok := m.(proto.Message); ok {
		*s.size += proto.Size(answer)
	}
	if *s.size > maxSize {
		return status.Errorf(codes.ResourceExhausted, "the server's reflection has more than %d bytes", maxSize)
	}
	switch answer := m.(type) {
	case *reflectionv1.ServerReflectionResponse:
		mendFiles(answer.GetFileDescriptorResponse().GetFileDescriptorProto())
	case *reflectionv1alpha.ServerReflectionResponse:
		mendFiles(answer.GetFileDescriptorResponse().GetFileDescriptorProto())
	}
	return nil
}

// collection are files, each one once.
type collection struct {
	files []*descriptorpb.FileDescriptorProto
	seen  map[string]bool
}

func newCollection() *collection { return &collection{seen: map[string]bool{}} }

// add adds a file and what it imports.
func (c *collection) add(fd protoreflect.FileDescriptor) {
	if fd.IsPlaceholder() || c.seen[fd.Path()] {
		return
	}
	c.seen[fd.Path()] = true
	for i := range fd.Imports().Len() {
		c.add(fd.Imports().Get(i).FileDescriptor)
	}
	c.files = append(c.files, protodesc.ToFileDescriptorProto(fd))
}
