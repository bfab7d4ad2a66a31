package bridge_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/sluice-sse/sluice/bridge"
)

// A bridge is served by an http.Server that tells it of its connections. It stops in
// order: first it says that it is not ready, then it waits for its streams.
func Example() {
	conn, err := grpc.NewClient("127.0.0.1:9090", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	b, err := bridge.New(conn, bridge.Config{CORSOrigins: []string{"https://example.com"}})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()

	server := &http.Server{Handler: b} // without a WriteTimeout, which would cut streams
	b.Configure(server)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(b.Listener(l)) }()

	resp, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)

	b.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		b.Close() // cuts the streams
	}
	b.Wait()
	fmt.Println(<-served)
	// Output:
	// 200 OK
	// http: Server closed
}
