package e2etest

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	"github.com/sluice-sse/sluice/bridge/sse"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/app"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// TwoServers is another layout: two servers that share a journal, and a bridge that uses
// them in turn, so that nobody comes back to where he was.
const TwoServers = "two servers"

// Program is a running program, or two that work together.
type Program struct {
	HTTP string // the URL of the HTTP face
	GRPC string // the address of the gRPC face
	Log  *LockedBuffer
	TLS  *Secured // nil: it speaks none

	Printed *LockedBuffer // at the start; nil: nobody looks

	stops []func()        // tells each process to stop
	ended []chan struct{} // closed when each has
}

// Stop tells the program to stop, and returns what is closed when it has.
func (p *Program) Stop() <-chan struct{} { return p.stopFirst(len(p.stops)) }

// StopServer does so with the server alone, where that is a process of its own.
func (p *Program) StopServer() <-chan struct{} { return p.stopFirst(1) }

func (p *Program) stopFirst(n int) <-chan struct{} {
	for _, stop := range p.stops[:n] {
		stop()
	}
	all := make(chan struct{})
	go func() {
		defer close(all)
		for _, ended := range p.ended[:n] {
			<-ended
		}
	}()
	return all
}

// Processes is how many there are.
func (p *Program) Processes() int { return len(p.stops) }

// Start runs the program in a layout. Of args, a half gets those that it knows.
// The program stops, and must stop well, when the test ends.
func Start(t testing.TB, layout string, env map[string]string, args ...string) *Program {
	t.Helper()
	p := &Program{Log: &LockedBuffer{}, Printed: &LockedBuffer{}}
	layout, overTLS := strings.CutSuffix(layout, " over TLS")
	if overTLS {
		p.TLS = NewSecured(t)
		args = append(p.TLS.Args(), args...)
	}
	if layout == "one process" {
		out := StartOne(t, p, env, append([]string{"--http=127.0.0.1:0", "--grpc=127.0.0.1:0"}, args...)...)
		p.HTTP, p.GRPC = out[0], out[1]
		return p
	}
	forServer, forBridge := halves(t, args)
	server := append([]string{"server", "--grpc=127.0.0.1:0"}, forServer...)
	if layout == TwoServers {
		server = append(server, "--journal="+testbed.StartRedis(t).URL)
		p.GRPC = StartOne(t, p, env, server...)[0]
		other := StartOne(t, p, env, server...)[0]
		forBridge = append(forBridge, "--shared-journal", "--server="+listScheme+":///"+p.GRPC+","+other)
	} else {
		p.GRPC = StartOne(t, p, env, server...)[0]
		forBridge = append(forBridge, "--server="+p.GRPC)
	}
	if overTLS {
		forBridge = append(forBridge, "--server-ca="+p.TLS.Files.CA)
	}
	p.HTTP = StartOne(t, p, env, append([]string{"bridge", "--http=127.0.0.1:0"}, forBridge...)...)[0]
	return p
}

// halves parts arguments into those of a server and those of a bridge: what both know goes
// to both, and what none knows to the server, which says so.
func halves(t testing.TB, args []string) (forServer, forBridge []string) {
	t.Helper()
	ofServer, ofBridge := flagsOf(t, "server"), flagsOf(t, "bridge")
	delete(ofBridge, "--tls-client-ca") // which it knows, and refuses
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if ofBridge[name] {
			forBridge = append(forBridge, arg)
		}
		if ofServer[name] || !ofBridge[name] {
			forServer = append(forServer, arg)
		}
	}
	return forServer, forBridge
}

var flagOfHelp = regexp.MustCompile(`(?m)^ *(--[a-z0-9-]+)`)

// flagsOf returns the flags that a command has, by its help.
func flagsOf(t testing.TB, command string) map[string]bool {
	t.Helper()
	var help strings.Builder
	if err := app.Run(t.Context(), []string{command, "--help"}, func(string) string { return "" }, &help, io.Discard); err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{}
	for _, m := range flagOfHelp.FindAllStringSubmatch(help.String(), -1) {
		flags[m[1]] = true
	}
	return flags
}

// listScheme is that of a target which lists addresses, as a name does that has several.
const listScheme = "list"

func init() { resolver.Register(listResolver{}) }

type listResolver struct{}

func (listResolver) Scheme() string { return listScheme }

func (listResolver) Build(target resolver.Target, conn resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	var all []resolver.Endpoint
	for addr := range strings.SplitSeq(target.Endpoint(), ",") {
		all = append(all, resolver.Endpoint{Addresses: []resolver.Address{{Addr: addr}}})
	}
	return listResolver{}, conn.UpdateState(resolver.State{Endpoints: all})
}

func (listResolver) ResolveNow(resolver.ResolveNowOptions) {}
func (listResolver) Close()                                {}

// Address is what an address of the program looks like in what it prints.
var Address = regexp.MustCompile(`(https?://)?127\.0\.0\.1:\d+`)

// StartOne runs the program once and returns the addresses in its first line.
func StartOne(t testing.TB, p *Program, env map[string]string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stdout, write := io.Pipe()
	ended, over := make(chan error, 1), make(chan struct{})
	p.stops, p.ended = append(p.stops, cancel), append(p.ended, over)
	go func() {
		defer close(over)
		err := app.Run(ctx, args, func(name string) string { return env[name] }, write, p.Log)
		_ = write.CloseWithError(io.EOF)
		ended <- err
	}()
	r := bufio.NewReader(stdout)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("sluice %s: %v", strings.Join(args, " "), <-ended)
	}
	rest := io.Discard
	if p.Printed != nil {
		rest = p.Printed
	}
	_, _ = io.WriteString(rest, line)
	go func() { _, _ = io.Copy(rest, r) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("sluice %s: %v", strings.Join(args, " "), err)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("sluice %s did not stop", strings.Join(args, " "))
		}
		if t.Failed() {
			t.Logf("log:\n%s", p.Log.String())
		}
	})
	return Address.FindAllString(line, -1)
}

// Conn returns a connection to the gRPC face.
func (p *Program) Conn(t testing.TB) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(p.GRPC, p.Credentials())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Client returns a client of the gRPC face.
func (p *Program) Client(t testing.TB) completionv1.CompletionServiceClient {
	t.Helper()
	return completionv1.NewCompletionServiceClient(p.Conn(t))
}

// Post posts a completion request.
func (p *Program) Post(t testing.TB, body string, header ...string) *http.Response {
	t.Helper()
	return p.Send(t.Context(), t, "POST", "/v1/completions", body, header...)
}

// Send makes a request of the HTTP face.
func (p *Program) Send(ctx context.Context, t testing.TB, method, path, body string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, p.HTTP+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := p.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// Messages reads a stream to its end. The error is nil only for a stream that
// the server ended, not one that was cut.
func Messages(r io.Reader) ([]sse.Message, error) {
	reader := sse.NewReader(r, 8<<20)
	var all []sse.Message
	for {
		m, err := reader.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
}

// Eventually waits for a condition that other goroutines bring about.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// LockedBuffer is a log that many goroutines write.
type LockedBuffer struct {
	mu sync.Mutex // guards all below
	b  strings.Builder
}

func (l *LockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *LockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// ClosedPort is an address where nobody listens.
func ClosedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return l.Addr().String()
}

// DeafPort is an address that takes connections and answers none.
func DeafPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// StatusOf is the HTTP status of an answer to GET.
func StatusOf(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// ShortContext returns a context for what takes no time unless something is wrong.
func ShortContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}
