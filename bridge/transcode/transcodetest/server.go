// Package transcodetest is a gRPC server of any methods, for tests: of .proto text and
// functions, with nothing generated. It can be replaced by another on the same address.
package transcodetest

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	_ "google.golang.org/genproto/googleapis/api/annotations" // for protos that import it
	_ "google.golang.org/genproto/googleapis/api/httpbody"
)

// Call is one that a method has got.
type Call struct {
	grpc.ServerStream
	Request *dynamicpb.Message // the first one
	types   *dynamicpb.Types
	output  protoreflect.MessageDescriptor
}

// JSON returns the request as JSON.
func (c *Call) JSON() string {
	text, err := protojson.MarshalOptions{Resolver: c.types}.Marshal(c.Request)
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(text), `": `, `":`)
}

// Send sends a message that is given as JSON.
func (c *Call) Send(text string) error {
	m := dynamicpb.NewMessage(c.output)
	if err := (protojson.UnmarshalOptions{Resolver: c.types, AllowPartial: true}).Unmarshal([]byte(text), m); err != nil {
		return status.Error(codes.Internal, "the test sends what is no message: "+err.Error())
	}
	wire, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(m)
	if err != nil {
		return err
	}
	return c.SendWire(wire)
}

// SendWire sends bytes, whether they are a message or not.
func (c *Call) SendWire(wire []byte) error {
	m := dynamicpb.NewMessage(c.output)
	m.SetUnknown(wire)
	return c.SendMsg(m)
}

// Server is one of a test.
type Server struct {
	Proto      string                       // its only file, which may import google's
	Methods    map[string]func(*Call) error // by their names; one that is not there is UNIMPLEMENTED
	Reflection string                       // v1, v1alpha; "": both; none
	Options    []grpc.ServerOption
	Register   func(*grpc.Server) // other services; nil: none
}

// Compile returns a file's descriptors, and those of what it imports.
func Compile(tb testing.TB, text string) (*protoregistry.Files, *descriptorpb.FileDescriptorSet) {
	tb.Helper()
	sources := protocompile.ResolverFunc(func(path string) (protocompile.SearchResult, error) {
		if path == "test.proto" {
			return protocompile.SearchResult{Source: strings.NewReader(text)}, nil
		}
		fd, err := protoregistry.GlobalFiles.FindFileByPath(path)
		return protocompile.SearchResult{Desc: fd}, err
	})
	linked, err := (&protocompile.Compiler{Resolver: sources}).Compile(context.Background(), "test.proto")
	if err != nil {
		tb.Fatal(err)
	}
	set := FileSet(linked[0])
	// As they come over the network: options that are not linked in are unknown fields.
	wire, err := proto.Marshal(set)
	if err != nil {
		tb.Fatal(err)
	}
	if err := proto.Unmarshal(wire, set); err != nil {
		tb.Fatal(err)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		tb.Fatal(err)
	}
	return files, set
}

// FileSet returns a file's descriptor behind those of all that it imports.
func FileSet(file protoreflect.FileDescriptor) *descriptorpb.FileDescriptorSet {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(fd protoreflect.FileDescriptor)
	add = func(fd protoreflect.FileDescriptor) {
		if seen[fd.Path()] {
			return
		}
		seen[fd.Path()] = true
		for i := range fd.Imports().Len() {
			add(fd.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	add(file)
	return set
}

// Serve serves on an address, or a free one for "", until the test ends or stop is called,
// which waits for nothing.
func (s *Server) Serve(tb testing.TB, addr string) (at string, stop func()) {
	tb.Helper()
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	g := grpc.NewServer(s.Options...)
	if s.Proto != "" {
		s.register(tb, g)
	}
	if s.Register != nil {
		s.Register(g)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = g.Serve(l)
	}()
	stop = func() {
		g.Stop()
		<-done
	}
	tb.Cleanup(stop)
	return l.Addr().String(), stop
}

func (s *Server) register(tb testing.TB, g *grpc.Server) {
	tb.Helper()
	files, _ := Compile(tb, s.Proto)
	types := dynamicpb.NewTypes(files)
	fd, err := files.FindFileByPath("test.proto")
	if err != nil {
		tb.Fatal(err)
	}
	for i := range fd.Services().Len() {
		sd := fd.Services().Get(i)
		desc := &grpc.ServiceDesc{ServiceName: string(sd.FullName()), HandlerType: (*any)(nil)}
		for j := range sd.Methods().Len() {
			md := sd.Methods().Get(j)
			play, ok := s.Methods[string(md.Name())]
			if !ok {
				continue
			}
			desc.Streams = append(desc.Streams, grpc.StreamDesc{
				StreamName: string(md.Name()), ServerStreams: md.IsStreamingServer(), ClientStreams: md.IsStreamingClient(),
				Handler: func(_ any, stream grpc.ServerStream) error {
					c := &Call{ServerStream: stream, Request: dynamicpb.NewMessage(md.Input()), types: types, output: md.Output()}
					if err := stream.RecvMsg(c.Request); err != nil {
						return err
					}
					return play(c)
				},
			})
		}
		g.RegisterService(desc, struct{}{})
	}
	options := reflection.ServerOptions{Services: g, DescriptorResolver: resolver{files}}
	if s.Reflection == "" || s.Reflection == "v1" {
		reflectionv1.RegisterServerReflectionServer(g, reflection.NewServerV1(options))
	}
	if s.Reflection == "" || s.Reflection == "v1alpha" {
		reflectionv1alpha.RegisterServerReflectionServer(g, reflection.NewServer(options))
	}
}

// resolver also has what is linked in: the descriptors of other services.
type resolver struct{ *protoregistry.Files }

func (r resolver) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if fd, err := r.Files.FindFileByPath(path); err == nil {
		return fd, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

func (r resolver) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if d, err := r.Files.FindDescriptorByName(name); err == nil {
		return d, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}
