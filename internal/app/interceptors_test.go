package app

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// recorder makes interceptors that note what goes through them, and refuse who asks
// for it.
type recorder struct {
	mu    sync.Mutex // guards all below
	notes []string
}

func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// reset returns the notes about methods of completions, and forgets all.
func (r *recorder) reset() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	notes := slices.DeleteFunc(r.notes, func(note string) bool { return !strings.Contains(note, "CompletionService") })
	r.notes = nil
	return notes
}

func (r *recorder) intercept(ctx context.Context, name, method string, call func() error) error {
	r.note("%s before %s", name, method)
	defer r.note("%s after %s", name, method)
	if p, ok := peer.FromContext(ctx); !ok || p.Addr == nil {
		return status.Error(codes.Internal, "the caller has no address")
	}
	if md, _ := metadata.FromIncomingContext(ctx); slices.Contains(md.Get("authorization"), "Bearer refused") {
		return failure.New(failure.Unauthenticated, "who are you?")
	}
	return call()
}

func (r *recorder) interceptors(names ...string) (i interceptors) {
	for _, name := range names {
		i.unary = append(i.unary, func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
			err = r.intercept(ctx, name, info.FullMethod, func() error {
				resp, err = handler(ctx, req)
				return err
			})
			return resp, err
		})
		i.stream = append(i.stream, func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return r.intercept(ss.Context(), name, info.FullMethod, func() error { return handler(srv, ss) })
		})
	}
	return i
}

// serveWith runs the program with interceptors until the test ends, and returns the
// addresses where it listens.
func serveWith(t *testing.T, i interceptors, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stdout, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, args, func(string) string { return "" }, w, t.Output(), i)
		w.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	r := bufio.NewReader(stdout)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	return regexp.MustCompile(`127\.0\.0\.1:\d+`).FindAllString(line, -1)
}

// TestInterceptors checks that each call runs in the interceptors once and in their
// order, over gRPC, over HTTP in one process and over HTTP in two, and that what they
// refuse is refused.
func TestInterceptors(t *testing.T) {
	r := &recorder{}
	one := serveWith(t, r.interceptors("outer", "inner"), "--http=127.0.0.1:0", "--grpc=127.0.0.1:0", "--echo-interval=0s")
	server := serveWith(t, r.interceptors("outer", "inner"), "server", "--grpc=127.0.0.1:0", "--echo-interval=0s")
	bridge := serveWith(t, interceptors{}, "bridge", "--http=127.0.0.1:0", "--server="+server[0])
	for _, tt := range []struct {
		name string
		call func(t *testing.T, addr string, stream bool, authorization string) codes.Code
		addr string
	}{
		{"gRPC", callGRPC, one[1]},
		{"HTTP in one process", callHTTP, one[0]},
		{"HTTP in two processes", callHTTP, bridge[0]},
	} {
		for stream, method := range map[bool]string{
			true:  completionv1.CompletionService_StreamCompletion_FullMethodName,
			false: completionv1.CompletionService_CreateCompletion_FullMethodName,
		} {
			if code := tt.call(t, tt.addr, stream, "Bearer welcome"); code != codes.OK {
				t.Errorf("%s: %s: got %v", tt.name, method, code)
			}
			want := []string{"outer before " + method, "inner before " + method, "inner after " + method, "outer after " + method}
			if got := r.reset(); !slices.Equal(got, want) {
				t.Errorf("%s: got %q, want %q", tt.name, got, want)
			}
			if code := tt.call(t, tt.addr, stream, "Bearer refused"); code != codes.Unauthenticated {
				t.Errorf("%s: %s, refused: got %v", tt.name, method, code)
			}
			if got, want := r.reset(), []string{want[0], want[3]}; !slices.Equal(got, want) {
				t.Errorf("%s, refused: got %q, want %q", tt.name, got, want)
			}
		}
	}
}

// TestPanic checks that a call which panics is answered for, and the next one is as ever,
// over gRPC, over HTTP in one process and over HTTP in two.
func TestPanic(t *testing.T) {
	var faulty interceptors
	fault := func(ctx context.Context) {
		if slices.Contains(metadata.ValueFromIncomingContext(ctx, "authorization"), "Bearer fault") {
			panic("a fault")
		}
	}
	faulty.unary = append(faulty.unary, func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		fault(ctx)
		return handler(ctx, req)
	})
	faulty.stream = append(faulty.stream, func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		fault(ss.Context())
		return handler(srv, ss)
	})
	one := serveWith(t, faulty, "--http=127.0.0.1:0", "--grpc=127.0.0.1:0", "--echo-interval=0s")
	bridge := serveWith(t, interceptors{}, "bridge", "--http=127.0.0.1:0", "--server="+one[1])
	for _, stream := range []bool{true, false} {
		for authorization, want := range map[string]codes.Code{"Bearer fault": codes.Internal, "Bearer good": codes.OK} {
			for name, got := range map[string]codes.Code{
				"gRPC": callGRPC(t, one[1], stream, authorization), "HTTP in one process": callHTTP(t, one[0], stream, authorization),
				"HTTP in two processes": callHTTP(t, bridge[0], stream, authorization),
			} {
				if got != want {
					t.Errorf("%s, %s, a stream: %v: got %v", name, authorization, stream, got)
				}
			}
		}
	}
}

func callGRPC(t *testing.T, addr string, stream bool, authorization string) codes.Code {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", authorization)
	prompt := "Hi"
	req := &completionv1.CompletionRequest{Prompt: &prompt}
	client := completionv1.NewCompletionServiceClient(conn)
	if !stream {
		_, err := client.CreateCompletion(ctx, req)
		return status.Code(err)
	}
	events, err := client.StreamCompletion(ctx, req)
	for err == nil {
		_, err = events.Recv()
	}
	if err == io.EOF {
		return codes.OK
	}
	return status.Code(err)
}

func callHTTP(t *testing.T, addr string, stream bool, authorization string) codes.Code {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+addr+"/v1/completions", strings.NewReader(`{"prompt":"Hi"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", authorization)
	if !stream {
		req.Header.Set("Accept", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case resp.StatusCode == 401 && strings.Contains(string(body), `"UNAUTHENTICATED"`):
		return codes.Unauthenticated
	case resp.StatusCode == 500 && strings.Contains(string(body), `"INTERNAL"`):
		return codes.Internal
	case resp.StatusCode == 200 && strings.Contains(string(body), `"STOP"`):
		return codes.OK
	}
	t.Errorf("got %s: %s", resp.Status, body)
	return codes.Unknown
}
