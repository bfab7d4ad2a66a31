package server_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server"
	"github.com/sluice-sse/sluice/server/engine/echo"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// A server has an engine and a journal, and is served by a gRPC server. It stops in
// order: first it says that it is not ready, then the completions end, then their
// readers, and last what they were made of.
func Example() {
	kept := memory.New(memory.Config{})
	s := server.New(server.Config{Echo: &echo.Engine{}, Journal: kept})
	g, health := server.NewGRPCServer(s, 30*time.Second)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()

	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	stream, err := completionv1.NewCompletionServiceClient(conn).StreamCompletion(context.Background(),
		&completionv1.CompletionRequest{Prompt: proto.String("Hello from the other side")})
	for err == nil {
		var event *completionv1.CompletionEvent
		if event, err = stream.Recv(); err == nil {
			fmt.Print(event.GetDelta().GetText())
		}
	}
	if err != io.EOF {
		log.Fatal(err)
	}
	conn.Close()

	health.Shutdown()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.Drain(ctx)
	g.GracefulStop()
	s.Close()
	kept.Close()
	if err := <-served; err != nil {
		log.Fatal(err)
	}
	// Output: Hello from the other side
}
