package descriptors

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
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
	r := newResolver(dynamicpb.NewTypes(&protoregistry.Files{}), func(_ context.Context, name protoreflect.FullName) (*dynamicpb.Types, error) {
		lookedUp++
		if name.Parent() != "known" {
			return nil, protoregistry.NotFound
		}
		fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{Name: proto.String("a.proto"), Package: proto.String("known"), MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("A")}, {Name: proto.String("B")},
		}}, nil)
		if err != nil {
			return nil, err
		}
		files := &protoregistry.Files{}
		return dynamicpb.NewTypes(files), files.RegisterFile(fd)
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

// endless is a reflection whose file imports many, all of them large.
type endless struct {
	reflectionpb.UnimplementedServerReflectionServer
	sent int
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
		e.sent += len(wire)
		if err := stream.Send(&reflectionpb.ServerReflectionResponse{MessageResponse: &reflectionpb.ServerReflectionResponse_FileDescriptorResponse{
			FileDescriptorResponse: &reflectionpb.FileDescriptorResponse{FileDescriptorProto: [][]byte{wire}},
		}}); err != nil {
			return err
		}
	}
}

// A server that has no end of descriptors is not listened to for ever.
func TestReflectionIsBounded(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, e := grpc.NewServer(), &endless{}
	reflectionpb.RegisterServerReflectionServer(server, e)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Reflection{conn}.Load(t.Context(), []protoreflect.FullName{"Endless"}, false)
	conn.Close()
	server.Stop()
	<-done
	if err == nil || !strings.Contains(err.Error(), "more than") || e.sent > 2*maxSize {
		t.Errorf("after %d bytes: %v", e.sent, err)
	}
}
