package descriptors

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Clients name types, too, and as many as they like: the server is asked for few of them,
// and what was found is never made again.
func TestTypesAreLookedUpSeldom(t *testing.T) {
	lookedUp := 0
	r := newResolver(dynamicpb.NewTypes(&protoregistry.Files{}), func(_ context.Context, name protoreflect.FullName) (*dynamicpb.Types, int, error) {
		lookedUp++
		if name.Parent() != "known" {
			return nil, 0, protoregistry.NotFound
		}
		fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("a.proto"), Package: proto.String("known"), MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("A")}, {Name: proto.String("B")},
		}}, nil)
		if err != nil {
			return nil, 0, err
		}
		files := &protoregistry.Files{}
		return dynamicpb.NewTypes(files), 1, files.RegisterFile(fd)
	})
	first, err := r.FindMessageByURL("x/known.A")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.FindMessageByURL("x/known.B"); err != nil || lookedUp != 1 {
		t.Errorf("what came with another was looked up: %v", err)
	}
	if _, err := r.FindMessageByName(protoreflect.FullName(strings.Repeat("a", maxName+1))); err != protoregistry.NotFound || lookedUp != 1 {
		t.Errorf("a very long name was looked up: %v", err)
	}
	for i := range 3 * maxLookedUp {
		if _, err := r.FindMessageByName(protoreflect.FullName(fmt.Sprintf("unknown.A%d", i))); err != protoregistry.NotFound {
			t.Fatal(err)
		}
	}
	if again, err := r.FindMessageByURL("x/known.A"); err != nil || again.Descriptor() != first.Descriptor() {
		t.Errorf("the type was found again: %v", err)
	}
	if lookedUp > 2*lookUpBurst || len(r.missing) > maxLookedUp {
		t.Errorf("%d types were looked up, and %d kept", lookedUp, len(r.missing))
	}
}

// What is kept of types that clients name is bounded in bytes, too: each comes with all that
// its file imports.
func TestLookedUpTypesAreFew(t *testing.T) {
	r := newResolver(dynamicpb.NewTypes(&protoregistry.Files{}), func(_ context.Context, name protoreflect.FullName) (*dynamicpb.Types, int, error) {
		fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("a.proto"), MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String(string(name))}}}, nil)
		if err != nil {
			return nil, 0, err
		}
		files := &protoregistry.Files{}
		return dynamicpb.NewTypes(files), maxLookedUpSize / 10, files.RegisterFile(fd)
	})
	found := 0
	for i := range lookUpBurst {
		if _, err := r.FindMessageByName(protoreflect.FullName(fmt.Sprintf("A%d", i))); err == nil {
			found++
		}
	}
	if found < 10 || found > 12 {
		t.Errorf("%d types are kept, of a tenth of the memory each", found)
	}
	if _, err := r.FindMessageByName("A0"); err != nil {
		t.Errorf("what is kept is not found: %v", err)
	}
}

// endless is a reflection whose file imports many, all of them large.
type endless struct {
	reflectionpb.UnimplementedServerReflectionServer
	sent atomic.Int64
}

func (e *endless) ServerReflectionInfo(stream reflectionpb.ServerReflection_ServerReflectionInfoServer) error {
	padding := protowire.AppendBytes(protowire.AppendTag(nil, 9999, protowire.BytesType), make([]byte, maxSize/8))
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		file := &descriptorpb.FileDescriptorProto{Name: proto.String(request.GetFileByFilename())}
		if request.GetFileContainingSymbol() != "" {
			file.Name, file.Service = proto.String("a.proto"), []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Endless")}}
			for i := range 100 {
				file.Dependency = append(file.Dependency, fmt.Sprintf("%d.proto", i))
			}
		}
		file.ProtoReflect().SetUnknown(padding)
		wire, err := proto.Marshal(file)
		if err != nil {
			return err
		}
		e.sent.Add(int64(len(wire)))
		if err := stream.Send(&reflectionpb.ServerReflectionResponse{MessageResponse: &reflectionpb.ServerReflectionResponse_FileDescriptorResponse{
			FileDescriptorResponse: &reflectionpb.FileDescriptorResponse{FileDescriptorProto: [][]byte{wire}},
		}}); err != nil {
			return err
		}
	}
}

// partial is a reflection that has five services, and cannot say what three of them are.
type partial struct {
	reflectionpb.UnimplementedServerReflectionServer
	code codes.Code // of that
}

func (p partial) ServerReflectionInfo(stream reflectionpb.ServerReflection_ServerReflectionInfoServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		answer := &reflectionpb.ServerReflectionResponse{}
		switch name := cmp.Or(request.GetFileContainingSymbol(), request.GetFileByFilename()); name {
		case "no.proto":
			answer.MessageResponse = &reflectionpb.ServerReflectionResponse_ErrorResponse{
				ErrorResponse: &reflectionpb.ErrorResponse{ErrorCode: int32(codes.NotFound), ErrorMessage: "no such file"},
			}
		case "":
			list := &reflectionpb.ListServiceResponse{}
			for _, name := range []string{"One", "Broken", "Odd", "Lacks", "Two"} {
				list.Service = append(list.Service, &reflectionpb.ServiceResponse{Name: name})
			}
			answer.MessageResponse = &reflectionpb.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: list}
		case "Broken":
			answer.MessageResponse = &reflectionpb.ServerReflectionResponse_ErrorResponse{
				ErrorResponse: &reflectionpb.ErrorResponse{ErrorCode: int32(p.code), ErrorMessage: "no"},
			}
		default:
			file := &descriptorpb.FileDescriptorProto{Name: proto.String(name + ".proto"), Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String(name)}}}
			if name == "Lacks" { // what it imports, and it is that which is not found
				file.Dependency = []string{"no.proto"}
			}
			if name == "Odd" || name == "Lacks" {
				file.Service[0].Method = []*descriptorpb.MethodDescriptorProto{{Name: proto.String("Call"), InputType: proto.String(".no.Such"), OutputType: proto.String(".no.Such")}}
			}
			wire, err := proto.Marshal(file)
			if err != nil {
				return err
			}
			answer.MessageResponse = &reflectionpb.ServerReflectionResponse_FileDescriptorResponse{
				FileDescriptorResponse: &reflectionpb.FileDescriptorResponse{FileDescriptorProto: [][]byte{wire}},
			}
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

// A service whose descriptors cannot be had takes no others with it, and is told of; but what
// says that the server itself cannot be asked is no answer.
func TestReflectionOfSomeServices(t *testing.T) {
	for code, whole := range map[codes.Code]bool{codes.Internal: false, codes.Unknown: false, codes.InvalidArgument: false, codes.Unavailable: true, codes.PermissionDenied: true} {
		set, err := Reflection{serveReflection(t, partial{code: code})}.Load(t.Context(), nil, true)
		if whole {
			if err == nil {
				t.Errorf("%v: there is a set without the service", code)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", code, err)
			continue
		}
		var names []string
		for _, sd := range set.Services {
			names = append(names, string(sd.FullName()))
		}
		if strings.Join(names, " ") != "One Two" || len(set.Failed) != 3 || set.Failed["Broken"] == nil || set.Failed["Odd"] == nil || set.Failed["Lacks"] == nil {
			t.Errorf("%v: got %v, failed %v", code, names, set.Failed)
		}
	}
	if _, err := (Reflection{serveReflection(t, partial{code: codes.Internal})}).Load(t.Context(), []protoreflect.FullName{"Broken"}, false); err == nil {
		t.Error("there is a set of nothing")
	}
}

// serveReflection serves a reflection until the test ends, and returns a connection to it.
func serveReflection(t *testing.T, r reflectionpb.ServerReflectionServer) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	reflectionpb.RegisterServerReflectionServer(server, r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		server.Stop()
		<-done
	})
	return conn
}

// A server that has no end of descriptors is not listened to for ever.
func TestReflectionIsBounded(t *testing.T) {
	e := &endless{}
	_, err := Reflection{serveReflection(t, e)}.Load(t.Context(), []protoreflect.FullName{"Endless"}, false)
	if err == nil || !strings.Contains(err.Error(), "more than") || e.sent.Load() > 2*maxSize {
		t.Errorf("after %d bytes: %v", e.sent.Load(), err)
	}
}
