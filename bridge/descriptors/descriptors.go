// Package descriptors fetches what a gRPC server's services look like: from its reflection,
// or from a file of protoc's or buf's (a FileDescriptorSet).
//
// A Source loads a Set. A Set does not change: when a server is replaced by another, another
// Set is loaded. It is also the resolver of the types in it, and of those that an Any may
// hold and no service names, for which it asks the server when they turn up.
//
// Caveats: descriptors come from elsewhere, so nothing in them is to be relied on but what
// protodesc checks. The well-known types are always the ones that are linked in.
package descriptors

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	// Linked in, so that what a descriptor says of its HTTP routes is understood, and the
	// details that errors usually have are known.
	_ "google.golang.org/genproto/googleapis/api/annotations"
	_ "google.golang.org/genproto/googleapis/api/httpbody"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	_ "google.golang.org/protobuf/types/known/anypb"
	_ "google.golang.org/protobuf/types/known/durationpb"
	_ "google.golang.org/protobuf/types/known/emptypb"
	_ "google.golang.org/protobuf/types/known/fieldmaskpb"
	_ "google.golang.org/protobuf/types/known/structpb"
	_ "google.golang.org/protobuf/types/known/timestamppb"
	_ "google.golang.org/protobuf/types/known/wrapperspb"
)

// Source is where descriptors come from.
type Source interface {
	// Load loads those of services by their names, and of all others, too, if it is asked
	// for all, but for those of Internal. A service that does not exist is left out, and so
	// is one of several whose descriptors alone cannot be had: see Set.Failed. The outgoing
	// metadata of ctx goes along.
	Load(ctx context.Context, services []protoreflect.FullName, all bool) (*Set, error)
}

// Set are the descriptors of some services. It is for many goroutines at once.
type Set struct {
	Services []protoreflect.ServiceDescriptor // each one once, in the order of their names
	Failed   map[protoreflect.FullName]error  // the services that are there, and whose descriptors cannot be had
	Sum      [sha256.Size]byte                // of the files: two sets with the same one are the same
	*resolver
}

// Internal tells of a service that it is about the server, not what the server is for:
// reflection, health, or what gRPC shows of its connections to operators.
func Internal(service protoreflect.FullName) bool {
	for _, prefix := range []string{"grpc.reflection.", "grpc.health.", "grpc.channelz."} {
		if strings.HasPrefix(string(service), prefix) {
			return true
		}
	}
	return false
}

// newSet returns a set of those services that wanted tells of.
func newSet(files []*descriptorpb.FileDescriptorProto, lookUp lookUp, wanted func(protoreflect.FullName) bool) (*Set, error) {
	registry, err := link(files)
	if err != nil {
		return nil, err
	}
	s := &Set{resolver: newResolver(dynamicpb.NewTypes(registry), lookUp), Sum: sum(files)}
	registry.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		for i := range fd.Services().Len() {
			if sd := fd.Services().Get(i); wanted(sd.FullName()) {
				s.Services = append(s.Services, sd)
			}
		}
		return true
	})
	slices.SortFunc(s.Services, func(a, b protoreflect.ServiceDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return s, nil
}

// sum returns a digest of files, in whatever order they come.
func sum(files []*descriptorpb.FileDescriptorProto) [sha256.Size]byte {
	files = slices.SortedFunc(slices.Values(files), func(a, b *descriptorpb.FileDescriptorProto) int {
		return strings.Compare(a.GetName(), b.GetName())
	})
	h := sha256.New()
	for _, file := range files {
		wire, _ := proto.MarshalOptions{Deterministic: true, AllowPartial: true}.Marshal(file)
		_ = binary.Write(h, binary.LittleEndian, int64(len(wire)))
		h.Write(wire)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// link makes descriptors of files, some of whose imports may be missing: that of gogo.proto
// often is, and only options need it.
func link(files []*descriptorpb.FileDescriptorProto) (*protoregistry.Files, error) {
	set := &descriptorpb.FileDescriptorSet{}
	for _, path := range wellKnown {
		fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			return nil, err
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	for _, file := range files {
		if !slices.Contains(wellKnown, file.GetName()) {
			set.File = append(set.File, withoutWellKnown(file))
		}
	}
	registry, err := protodesc.FileOptions{AllowUnresolvable: true}.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("link the descriptors: %w", err)
	}
	return registry, nil
}

// wanted tells of the services that Load is asked for.
func wanted(services []protoreflect.FullName, all bool) func(protoreflect.FullName) bool {
	return func(name protoreflect.FullName) bool {
		return all && !Internal(name) || slices.Contains(services, name)
	}
}
