// Package e2e tests the whole over real sockets: the program as it is, on free ports of
// the loopback interface, with a scripted upstream where one is needed, with browsers,
// clients and attackers in front of it. What the README shows is run here, too.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

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
	os.Exit(lookAtStatuses(m.Run))
}

// layouts are the ways to run both faces.
var layouts = []string{"one process", "two processes"}

// program is a running program, or two that work together.
type program struct {
	http string // the URL of the HTTP face
	grpc string // the address of the gRPC face
	log  *lockedBuffer

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
	p := &program{log: &lockedBuffer{}}
	if layout == "one process" {
		out := startOne(t, p, env, append([]string{"--http=127.0.0.1:0", "--grpc=127.0.0.1:0"}, args...)...)
		p.http, p.grpc = out[0], out[1]
		return p
	}
	var forServer, forBridge []string
	for _, arg := range args {
		switch name, _, _ := strings.Cut(arg, "="); name {
		case "--commit-window", "--heartbeat", "--cors-origin", "--allow-host":
			forBridge = append(forBridge, arg)
		case "--max-body", "--write-timeout", "--drain-timeout", "--shutdown-delay":
			forServer, forBridge = append(forServer, arg), append(forBridge, arg)
		default:
			forServer = append(forServer, arg)
		}
	}
	p.grpc = startOne(t, p, env, append([]string{"server", "--grpc=127.0.0.1:0"}, forServer...)...)[0]
	p.http = startOne(t, p, env, append([]string{"bridge", "--http=127.0.0.1:0", "--server=" + p.grpc}, forBridge...)...)[0]
	return p
}

var address = regexp.MustCompile(`(http://)?127\.0\.0\.1:\d+`)

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
	conn, err := grpc.NewClient(p.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
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
	resp, err := http.DefaultClient.Do(req)
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

// upstream is a scripted OpenAI-compatible server.
type upstream struct {
	*httptest.Server
	calls atomic.Int64 // for completions
	open  atomic.Int64 // of those, the ones under way
	gone  chan time.Time
}

// newUpstream starts an upstream whose completions the script answers. The
// script is to return when r's context is done; gone then gets the time, if
// somebody waits.
func newUpstream(t testing.TB, script http.HandlerFunc) *upstream {
	t.Helper()
	u := &upstream{gone: make(chan time.Time, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"m","object":"model"}]}`)
	})
	mux.HandleFunc("POST /v1/", func(w http.ResponseWriter, r *http.Request) {
		u.calls.Add(1)
		u.open.Add(1)
		defer u.open.Add(-1)
		body, _ := io.ReadAll(r.Body) // or the client's departure is not seen
		r.Body = io.NopCloser(bytes.NewReader(body))
		script(w, r)
		if r.Context().Err() != nil {
			select {
			case u.gone <- time.Now():
			default:
			}
		}
	})
	u.Server = httptest.NewServer(mux)
	t.Cleanup(u.Close)
	return u
}

// env is the environment of a program in front of the upstream.
func (u *upstream) env() map[string]string {
	return map[string]string{"OPENAI_BASE_URL": u.URL + "/v1", "OPENAI_API_KEY": "sk-secret-of-the-tests"}
}

// chunk writes one chunk of a chat completion and flushes it.
func chunk(w http.ResponseWriter, delta, finishReason string) {
	w.Header().Set("Content-Type", "text/event-stream")
	if finishReason != "null" {
		finishReason = `"` + finishReason + `"`
	}
	fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"model\":\"m-1\",\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":%s}]}\n\n", delta, finishReason)
	w.(http.Flusher).Flush()
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

func TestStreams(t *testing.T) {
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		chunk(w, `{"role":"assistant","content":""}`, "null")
		chunk(w, `{"content":"Hello"}`, "null")
		chunk(w, `{"content":" you"}`, "stop")
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
	})
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			p := start(t, layout, u.env())
			resp := p.post(t, `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`)
			got, err := messages(resp.Body)
			if err != nil || len(got) != 4 || got[3].Event != "finished" {
				t.Fatalf("got %v, %v", got, err)
			}
		})
	}
}
