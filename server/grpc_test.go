package server

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

// listen serves a fixture's server on a socket and returns a connection to it, and
// what stops it.
func (f *fixture) listen(t *testing.T, writeTimeout time.Duration, opts ...grpc.ServerOption) (*grpc.ClientConn, func(context.Context)) {
	t.Helper()
	g, _ := NewGRPCServer(f.server, writeTimeout, opts...)
	return dial(t, g), func(ctx context.Context) {
		f.server.Drain(ctx)
		g.GracefulStop()
	}
}

// dial serves g on a socket for the test and returns a connection to it.
func dial(t *testing.T, g *grpc.Server) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		g.Stop()
		<-served
	})
	return conn
}

// A reader that takes nothing is let go, holds up nobody, and can resume where it
// stopped.
func TestSlowReader(t *testing.T) {
	const events = 2000
	kilobyte := strings.Repeat("x", 1024)
	f := newFixture(t, script(func(_ context.Context, emit func(...*engine.Chunk) error) error {
		for range events {
			if err := emit(text(kilobyte)); err != nil {
				return err
			}
		}
		return emit(stopped)
	}), func(c *Config) { c.MaxDisconnectGrace = time.Minute })
	handled := make(chan error, 1) // what interceptors see
	conn, _ := f.listen(t, 100*time.Millisecond, grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		err := handler(srv, ss)
		handled <- err
		return err
	}))
	client := completionv1.NewCompletionServiceClient(conn)
	req := prompt("x")
	req.DisconnectGrace = durationpb.New(time.Minute) // it may be let go before the other reader comes
	s, err := client.StreamCompletion(t.Context(), req)
	id := header(t, s, err)

	// The completion ends, and another reader has all of it, meanwhile.
	if got := count(t, f.resume(t, t.Context(), id, 0)); got != events+2 {
		t.Errorf("another reader got %d events", got)
	}
	// The slow one is let go, though it still takes nothing.
	if err := <-handled; reason(err) != failure.SlowReader {
		t.Errorf("the handler returned %v", err)
	}
	var last int32
	for err == nil {
		var e *completionv1.CompletionEvent
		if e, err = s.Recv(); err == nil {
			last = e.GetSequence()
		}
	}
	if reason(err) != failure.SlowReader || status.Code(err) != codes.ResourceExhausted || last == 0 || last > events {
		t.Fatalf("after event %d: %v", last, err)
	}
	if got := count(t, f.resume(t, t.Context(), id, last)); got != events+2-int(last) {
		t.Errorf("%d events after %d", got, last)
	}
}

func (f *fixture) streamFrom(t *testing.T, client completionv1.CompletionServiceClient) (string, eventStream) {
	t.Helper()
	s, err := client.StreamCompletion(t.Context(), prompt("x"))
	return header(t, s, err), s
}

func count(t *testing.T, s eventStream) (n int) {
	t.Helper()
	for {
		_, err := s.Recv()
		if err == io.EOF {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
}

func TestHealth(t *testing.T) {
	f := newFixture(t, silent())
	conn, _ := f.listen(t, time.Minute)
	for _, name := range []string{"", "completion.v1.CompletionService"} {
		resp, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		if err != nil || resp.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", name, resp, err)
		}
	}
}

// The end of a drain is the end of the running completions, which their readers
// get before the server goes.
func TestStop(t *testing.T) {
	f := newFixture(t, silent(begun, text("a")))
	conn, stop := f.listen(t, time.Minute)
	_, s := f.streamFrom(t, completionv1.NewCompletionServiceClient(conn))
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stop(ctx)
	}()
	for range 2 {
		if _, err := s.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if got, err := read(s); got != "" || reason(err) != failure.Draining {
		t.Errorf("got %q, %v", got, err)
	}
	<-stopped
}

// TestRefusedUnreceived checks that an interceptor refuses a call before its request has
// come, of whichever kind of method, and that one may look at the request after.
func TestRefusedUnreceived(t *testing.T) {
	f := newFixture(t, play(nil, begun, stopped))
	refused := failure.New(failure.Unauthenticated, "no")
	conn, _ := f.listen(t, time.Minute,
		grpc.ChainUnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, refused
		}),
		grpc.ChainStreamInterceptor(func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error { return refused }))
	for _, method := range []string{
		completionv1.CompletionService_CreateCompletion_FullMethodName, completionv1.CompletionService_StreamCompletion_FullMethodName,
		completionv1.CompletionService_GetCompletion_FullMethodName, completionv1.CompletionService_ResumeCompletion_FullMethodName,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(&completionv1.Completion{}); status.Code(err) != codes.Unauthenticated {
			t.Errorf("%s: got %v", method, err)
		}
	}
}

// TestUnaryRequest checks that an interceptor has the request when the handler has run, and
// the handler what came.
func TestUnaryRequest(t *testing.T) {
	f := newFixture(t, play(nil, begun, stopped))
	var before, after string
	conn, _ := f.listen(t, time.Minute, grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		before = req.(*completionv1.CompletionRequest).GetPrompt()
		resp, err := handler(ctx, req)
		after = req.(*completionv1.CompletionRequest).GetPrompt()
		return resp, err
	}))
	_, err := completionv1.NewCompletionServiceClient(conn).CreateCompletion(t.Context(), prompt("x"))
	if err != nil || before != "" || after != "x" {
		t.Errorf("got %q before and %q after, %v", before, after, err)
	}
}

// TestOpenRequests checks that strangers have the server wait for few requests that never
// come, though these need no credentials, and do not keep others from being answered.
func TestOpenRequests(t *testing.T) {
	f := newFixture(t, play(nil, begun, stopped))
	conn, _ := f.listen(t, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	given := make(chan error, 48)
	for i := range cap(given) {
		desc, method := &grpc.StreamDesc{ClientStreams: true}, healthpb.Health_Check_FullMethodName
		if i%2 == 0 {
			desc.ServerStreams, method = true, healthpb.Health_Watch_FullMethodName
		}
		s, err := conn.NewStream(ctx, desc, method)
		if err != nil {
			t.Fatal(err)
		}
		go func() { given <- s.RecvMsg(&healthpb.HealthCheckResponse{}) }()
	}
	for range cap(given) - newOpenReceives().most {
		if err := <-given; reason(err) != failure.Overloaded {
			t.Errorf("got %v", err)
		}
	}
	for range 3 {
		if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
			t.Error(err)
		}
	}
}

// TestWatches checks that a connection has few watches of the health, that each leaves room
// when it ends, and that others have theirs.
func TestWatches(t *testing.T) {
	f := newFixture(t, play(nil, begun, stopped))
	conn, _ := f.listen(t, time.Minute)
	other, err := grpc.NewClient(conn.Target(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	watch := func(ctx context.Context, conn *grpc.ClientConn) error {
		s, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
		if err == nil {
			_, err = s.Recv()
		}
		return err
	}
	first, leave := context.WithCancel(ctx)
	for range maxWatchesOfPeer {
		if err := watch(first, conn); err != nil {
			t.Fatal(err)
		}
	}
	if err := watch(ctx, conn); reason(err) != failure.Overloaded {
		t.Errorf("one more: got %v", err)
	}
	if err := watch(ctx, other); err != nil {
		t.Errorf("another's: %v", err)
	}
	leave()
	for watch(ctx, conn) != nil {
		if ctx.Err() != nil {
			t.Fatal("nothing is free again")
		}
		time.Sleep(time.Millisecond)
	}
}
