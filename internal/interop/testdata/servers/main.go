// Program sluice-strangers runs servers that none of us wrote, for the tests of package interop:
//
//   - showcase: that of googleapis/gapic-showcase, by which Google tests its own generators
//     of clients, and its REST face;
//   - gateway: that by which grpc-gateway tests itself, and grpc-gateway in front of it, of
//     code that it has generated;
//   - bin: that of moul/grpcbin, one service of which is proto2.
//
// It is a module of its own, so that none of them is a dependency of ours. Its name is one
// below grpc-gateway's examples, for those are internal to them.
//
// All of it listens on loopback, on free ports. What is where it prints as one line of JSON;
// the descriptors of all services it writes to the file that is its argument. It ends with
// its standard input.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/googleapis/gapic-showcase/server"
	showcasepb "github.com/googleapis/gapic-showcase/server/genproto"
	"github.com/googleapis/gapic-showcase/server/genrest"
	"github.com/googleapis/gapic-showcase/server/services"
	"github.com/gorilla/mux"
	examples "github.com/grpc-ecosystem/grpc-gateway/v2/examples/internal/proto/examplepb"
	gateway "github.com/grpc-ecosystem/grpc-gateway/v2/examples/internal/server"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	binpb "github.com/moul/pb/grpcbin/go-grpc"
	hellopb "github.com/moul/pb/hello/go-grpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	binhandler "moul.io/grpcbin/handler/grpcbin"
	hellohandler "moul.io/grpcbin/handler/hello"
)

// Addresses is what is printed: those of gRPC, and of HTTP for what has both.
type Addresses struct {
	Showcase, ShowcaseHTTP string
	Gateway, GatewayHTTP   string
	Bin                    string
	Suite                  json.RawMessage // the showcase's: messages that are to come through whole
}

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(descriptors string) error {
	if err := writeDescriptors(descriptors); err != nil {
		return err
	}
	var at Addresses
	for _, start := range []func(*Addresses) error{startShowcase, startGateway, startBin} {
		if err := start(&at); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(at); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// listen has a server serve on a free port, and returns where.
func listen(serve func(net.Listener) error) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { log.Fatal(serve(l)) }()
	return l.Addr().String(), nil
}

// startShowcase does what cmd/gapic-showcase does, which listens on all interfaces.
func startShowcase(at *Addresses) error {
	identity := services.NewIdentityServer()
	messaging := services.NewMessagingServer(identity)
	quiet := log.New(io.Discard, "", 0)
	observers := server.ShowcaseObserverRegistry()
	backend := &services.Backend{
		EchoServer:            services.NewEchoServer(),
		SequenceServiceServer: services.NewSequenceServer(),
		IdentityServer:        identity,
		MessagingServer:       messaging,
		ComplianceServer:      services.NewComplianceServer(),
		TestingServer:         services.NewTestingServer(observers),
		OperationsServer:      services.NewOperationsServer(messaging),
		LocationsServer:       services.NewLocationsServer(),
		IAMPolicyServer:       services.NewIAMPolicyServer(),
		StdLog:                quiet,
		ErrLog:                quiet,
		ObserverRegistry:      observers,
	}
	s := grpc.NewServer() // without what observes calls for its TestingServer
	showcasepb.RegisterEchoServer(s, backend.EchoServer)
	showcasepb.RegisterSequenceServiceServer(s, backend.SequenceServiceServer)
	showcasepb.RegisterIdentityServer(s, backend.IdentityServer)
	showcasepb.RegisterMessagingServer(s, backend.MessagingServer)
	showcasepb.RegisterComplianceServer(s, backend.ComplianceServer)
	reflection.Register(s)
	router := mux.NewRouter()
	genrest.RegisterHandlers(router, backend)
	var err error
	if at.Suite, err = protojson.Marshal(services.ComplianceSuite); err != nil {
		return err
	}
	if at.Showcase, err = listen(s.Serve); err != nil {
		return err
	}
	at.ShowcaseHTTP, err = listen((&http.Server{Handler: router}).Serve)
	return err
}

// startGateway does what cmd/example-grpc-server and cmd/example-gateway-server do.
func startGateway(at *Addresses) error {
	ctx := context.Background()
	var err error
	if at.Gateway, err = listen(func(l net.Listener) error { return gateway.ServeGRPC(ctx, l) }); err != nil {
		return err
	}
	conn, err := grpc.NewClient(at.Gateway, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	front := runtime.NewServeMux()
	for _, register := range []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
		examples.RegisterEchoServiceHandler, examples.RegisterStreamServiceHandler, examples.RegisterABitOfEverythingServiceHandler,
		examples.RegisterFlowCombinationHandler, examples.RegisterNonStandardServiceHandler, examples.RegisterResponseBodyServiceHandler,
	} {
		if err := register(ctx, front, conn); err != nil {
			return err
		}
	}
	at.GatewayHTTP, err = listen((&http.Server{Handler: front}).Serve)
	return err
}

// startBin does what grpcbin does.
func startBin(at *Addresses) error {
	s := grpc.NewServer()
	binpb.RegisterGRPCBinServer(s, &binhandler.Handler{})
	hellopb.RegisterHelloServiceServer(s, &hellohandler.Handler{})
	reflection.Register(s)
	var err error
	at.Bin, err = listen(s.Serve)
	return err
}

// writeDescriptors writes those of all that is linked in: the examples' server has no
// reflection.
func writeDescriptors(name string) error {
	set := &descriptorpb.FileDescriptorSet{}
	protoregistry.GlobalFiles.RangeFiles(func(fd protoreflect.FileDescriptor) bool {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
		return true
	})
	wire, err := proto.Marshal(set)
	if err != nil {
		return err
	}
	return os.WriteFile(name, wire, 0o600)
}
