// Package e2e tests the whole over real sockets: the program as it is, on free ports of
// the loopback interface, with a scripted upstream where one is needed, with browsers,
// clients and attackers in front of it. What the README and the documents show is run here, too.
package e2e

import (
	"bufio"
	"context"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
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

// root is the repository's, from where the tests run.
const root = "../.."

// roles are what a process of the tests can be.
var roles = map[string]testbed.Role{
	"upstream": testbed.ServeUpstream,
	"attacker": attackConnections,
	"sluice": func(_ *testbed.Gate, args []string) error { // with nothing from the environment
		return app.Run(context.Background(), args, func(string) string { return "" }, os.Stdout, os.Stderr)
	},
	"main": func(_ *testbed.Gate, args []string) error { // signals and all
		os.Exit(app.Main(args))
		return nil
	},
}

func TestMain(m *testing.M) {
	testbed.Perform(roles, nil)
	flag.Parse()
	if *shared {
		layouts = []string{twoServers}
	}
	os.Exit(checkStatuses(m.Run))
}

// layouts are the ways to run both faces.
var layouts = []string{"one process", "two processes"}

// twoServers is another layout: two servers that share a journal, and a bridge that uses
// them in turn, so that nobody comes back to where he was.
const twoServers = "two servers"

var shared = flag.Bool("shared", false, "have all tests run in the layout of two servers and redis-server")

// program is a running program, or two that work together.
type program struct {
	http string // the URL of the HTTP face
	grpc string // the address of the gRPC face
	log  *lockedBuffer
	tls  *secured // nil: it speaks none

	printed *lockedBuffer // at the start; nil: nobody looks

	stops []func()        // tells each process to stop
	ended []chan struct{} // closed when each has
}

// stop tells the program to stop, and returns what is closed when it has.
func (p *program) stop() <-chan struct{} {
	for _, stop := range p.stops {
		stop()
	}
	all := make(chan struct{})
	go func() {
		defer close(all)
		for _, ended := range p.ended {
			<-ended
		}
	}()
	return all
}

// start runs the program in a layout. Of args, a half gets those that it knows.
// The program stops, and must stop well, when the test ends.
func start(t testing.TB, layout string, env map[string]string, args ...string) *program {
	t.Helper()
	p := &program{log: &lockedBuffer{}, printed: &lockedBuffer{}}
	layout, overTLS := strings.CutSuffix(layout, " over TLS")
	if overTLS {
		p.tls = newSecured(t)
		args = append(p.tls.args(), args...)
	}
	if layout == "one process" {
		out := startOne(t, p, env, append([]string{"--http=127.0.0.1:0", "--grpc=127.0.0.1:0"}, args...)...)
		p.http, p.grpc = out[0], out[1]
		return p
	}
	forServer, forBridge := halves(t, args)
	server := append([]string{"server", "--grpc=127.0.0.1:0"}, forServer...)
	if layout == twoServers {
		server = append(server, "--journal="+testbed.StartRedis(t).URL)
		p.grpc = startOne(t, p, env, server...)[0]
		other := startOne(t, p, env, server...)[0]
		forBridge = append(forBridge, "--shared-journal", "--server="+listScheme+":///"+p.grpc+","+other)
	} else {
		p.grpc = startOne(t, p, env, server...)[0]
		forBridge = append(forBridge, "--server="+p.grpc)
	}
	if overTLS {
		forBridge = append(forBridge, "--server-ca="+p.tls.files.CA)
	}
	p.http = startOne(t, p, env, append([]string{"bridge", "--http=127.0.0.1:0"}, forBridge...)...)[0]
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

var address = regexp.MustCompile(`(https?://)?127\.0\.0\.1:\d+`)

// startOne runs the program once and returns the addresses in its first line.
func startOne(t testing.TB, p *program, env map[string]string, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stdout, write := io.Pipe()
	ended, over := make(chan error, 1), make(chan struct{})
	p.stops, p.ended = append(p.stops, cancel), append(p.ended, over)
	go func() {
		defer close(over)
		err := app.Run(ctx, args, func(name string) string { return env[name] }, write, p.log)
		_ = write.CloseWithError(io.EOF)
		ended <- err
	}()
	r := bufio.NewReader(stdout)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("sluice %s: %v", strings.Join(args, " "), <-ended)
	}
	rest := io.Discard
	if p.printed != nil {
		rest = p.printed
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
			t.Logf("log:\n%s", p.log.String())
		}
	})
	return address.FindAllString(line, -1)
}

// client returns a client of the gRPC face.
func (p *program) client(t testing.TB) completionv1.CompletionServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(p.grpc, p.credentials())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return completionv1.NewCompletionServiceClient(conn)
}

// post posts a completion request.
func (p *program) post(t testing.TB, body string, header ...string) *http.Response {
	t.Helper()
	return p.send(t.Context(), t, "POST", "/v1/completions", body, header...)
}

// send makes a request of the HTTP face.
func (p *program) send(ctx context.Context, t testing.TB, method, path, body string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, p.http+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := p.httpClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// messages reads a stream to its end. The error is nil only for a stream that
// the server ended, not one that was cut.
func messages(r io.Reader) ([]sse.Message, error) {
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

// eventually waits for a condition that other goroutines bring about.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 10 s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// lockedBuffer is a log that many goroutines write.
type lockedBuffer struct {
	mu sync.Mutex // guards all below
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// closedPort is an address where nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return l.Addr().String()
}

// deafPort is an address that takes connections and answers none.
func deafPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// statusOf is the HTTP status of an answer to GET.
func statusOf(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

// shortContext returns a context for what takes no time unless something is wrong.
func shortContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}
