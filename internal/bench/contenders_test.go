package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	goopenai "github.com/sashabaranov/go-openai"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/app"
	"github.com/sluice-sse/sluice/internal/testbed"
)

// contender is one way to bring events to a client.
type contender struct {
	name  string // as benchstat shows it
	title string // as the table shows it

	// What has to run, each a role with its arguments, in which {} stands for the
	// address of the one before, or for that of the source, {redis} for the URL of a
	// redis-server, and {keys} for the name of a file that has guardKey. Clients talk to the
	// last one; without any, to the source itself.
	processes []string

	source  string                    // the role of what makes the events; "": the contender does
	files   int                       // how many files the last process has open for a stream; default 1
	request func(testbed.Pace) string // in which {} stands for the address of the source
}

// contenders are all there are. Of the whole way, from an OpenAI-compatible
// server to server-sent events, there are six, and the client without any of
// them; of the hop from gRPC to server-sent events there are four.
var contenders = []contender{
	{
		name: "sluice-one", title: "Sluice, one process", source: "upstream", files: 2, request: postCompletion,
		processes: []string{"sluice --http=127.0.0.1:0 --grpc=127.0.0.1:0 --openai-base-url=http://{}/v1"},
	},
	{
		name: "sluice-two", title: "Sluice, two processes", source: "upstream", request: postCompletion,
		processes: []string{
			"sluice server --grpc=127.0.0.1:0 --openai-base-url=http://{}/v1",
			"sluice bridge --http=127.0.0.1:0 --server={}",
		},
	},
	{
		// All that a service has and go run . has not. Its callers' trace is not sampled.
		name: "sluice-guarded", title: "Sluice, one process, keys, limits, metrics, traces", source: "upstream", files: 2, request: guarded(postCompletion),
		processes: []string{"sluice OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:9/v1/traces --http=127.0.0.1:0 --grpc=127.0.0.1:0 --openai-base-url=http://{}/v1" +
			" --api-keys={keys} --admin=127.0.0.1:0 --rate=1000000 --max-running=20000 --max-running-per-principal=20000 --max-readers=1000" +
			" --max-tokens=1000000 --max-messages=1000 --max-message-bytes=1MiB"},
	},
	{
		name: "sluice-redis", title: "Sluice, one process, journal on Redis", source: "upstream", files: 2, request: postCompletion,
		processes: []string{"sluice --http=127.0.0.1:0 --grpc=127.0.0.1:0 --openai-base-url=http://{}/v1 --journal={redis}"},
	},
	{
		name: "sluice-openai", title: "Sluice, one process, OpenAI's API", source: "upstream", files: 2, request: postChat,
		processes: []string{"sluice --http=127.0.0.1:0 --grpc=127.0.0.1:0 --openai-base-url=http://{}/v1"},
	},
	{
		name: "stock", title: "go-openai + grpc-gateway", source: "upstream", request: getEvents,
		processes: []string{"stock-server {}", "stock-gateway {}"},
	},
	{
		name: "proxy", title: "httputil.ReverseProxy", source: "upstream", files: 2, request: postChat,
		processes: []string{"proxy {}"},
	},
	{
		name: "portkey", title: "Portkey's gateway", source: "upstream", files: 2, request: postPortkey,
		processes: []string{"node " + portkeyFolder},
	},
	{name: "direct", title: "none: client to upstream", source: "upstream", request: postChat},
	{
		name: "hop-sluice", title: "Sluice's bridge", source: "events", request: getEvents,
		processes: []string{"sluice bridge --http=127.0.0.1:0 --server={}"},
	},
	{
		name: "hop-any", title: "the same, with nothing generated", source: "events", request: postMethod,
		processes: []string{"sluice bridge --http=127.0.0.1:0 --server={} --expose=completion.v1.CompletionService"},
	},
	{
		name: "hop-stock", title: "grpc-gateway", source: "events", request: getEvents,
		processes: []string{"stock-gateway {}"},
	},
	{
		name: "hop-bare", title: "bare net/http, no gRPC", request: getEvents,
		processes: []string{"bare"},
	},
}

// contenderOf returns the contender with a name, which there must be.
func contenderOf(name string) contender {
	return contenders[slices.IndexFunc(contenders, func(c contender) bool { return c.name == name })]
}

// The requests, as they go over the connection.

func postCompletion(p testbed.Pace) string {
	return post("/v1/completions", fmt.Sprintf(`{"model":"%s","messages":[{"role":"user","content":"Hello"}]}`, p))
}

func postChat(p testbed.Pace) string {
	return post("/v1/chat/completions", fmt.Sprintf(`{"model":"%s","stream":true,"messages":[{"role":"user","content":"Hello"}]}`, p))
}

// postPortkey says where the upstream is, which the gateway itself does not know.
func postPortkey(p testbed.Pace) string {
	const header = "x-portkey-provider: openai\r\nx-portkey-custom-host: http://{}/v1\r\nAuthorization: Bearer anything\r\n"
	return strings.Replace(postChat(p), "\r\n", "\r\n"+header, 1)
}

// postMethod calls the method that getEvents has called, by its own name.
func postMethod(p testbed.Pace) string {
	return post("/completion.v1.CompletionService/ResumeCompletion", fmt.Sprintf(`{"id":"%s"}`, p))
}

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

// guardKey is the key of who makes the requests that guarded returns.
const guardKey = "a-key-of-the-benchmark-that-is-long-enough"

// guarded returns requests with a key, in a trace that is not sampled.
func guarded(request func(testbed.Pace) string) func(testbed.Pace) string {
	return func(p testbed.Pace) string {
		line, rest, _ := strings.Cut(request(p), "\r\n")
		return line + "\r\nAuthorization: Bearer " + guardKey + "\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n" + rest
	}
}

func getEvents(p testbed.Pace) string { return getEventsOf("/v1/completions/" + p.String()) }

func getEventsOf(location string) string {
	return fmt.Sprintf("GET %s/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n", location)
}

// serveSluice is the program itself. Of the environment it has what its first arguments
// say, as NAME=VALUE.
func serveSluice(_ *testbed.Gate, args []string) error {
	env := map[string]string{}
	for ; !strings.HasPrefix(args[0], "-"); args = args[1:] {
		name, value, ok := strings.Cut(args[0], "=")
		if !ok { // it is a command
			break
		}
		env[name] = value
		if err := os.Setenv(name, value); err != nil { // which exporters read
			return err
		}
	}
	return app.Run(context.Background(), args, func(name string) string { return env[name] }, os.Stdout, os.Stderr)
}

// serveStockServer is a gRPC server as one writes it at first: it asks go-openai
// for a stream and sends what comes. To be reached through the generated gateway,
// it starts a completion where ours would resume one.
func serveStockServer(_ *testbed.Gate, args []string) error {
	config := goopenai.DefaultConfig("key")
	config.BaseURL = "http://" + args[0] + "/v1"
	s := grpc.NewServer()
	completionv1.RegisterCompletionServiceServer(s, &stockServer{client: goopenai.NewClientWithConfig(config)})
	return testbed.Serve(s.Serve)
}

type stockServer struct {
	completionv1.UnimplementedCompletionServiceServer
	client *goopenai.Client
}

func (s *stockServer) ResumeCompletion(req *completionv1.ResumeCompletionRequest, stream grpc.ServerStreamingServer[completionv1.CompletionEvent]) error {
	chunks, err := s.client.CreateChatCompletionStream(stream.Context(), goopenai.ChatCompletionRequest{
		Model:    req.GetId(),
		Messages: []goopenai.ChatCompletionMessage{{Role: "user", Content: "Hello"}},
	})
	if err != nil {
		return err
	}
	defer chunks.Close()
	for sequence := int32(1); ; sequence++ {
		c, err := chunks.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		err = stream.Send(&completionv1.CompletionEvent{
			Sequence: sequence,
			Event:    &completionv1.CompletionEvent_Delta{Delta: &completionv1.Delta{Text: c.Choices[0].Delta.Content}},
		})
		if err != nil {
			return err
		}
	}
}

// serveStockGateway is grpc-gateway with the marshaler that one writes for
// server-sent events.
func serveStockGateway(_ *testbed.Gate, args []string) error {
	conn, err := grpc.NewClient(args[0], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	mux := runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, &sseMarshaler{}),
		runtime.WithMarshalerOption("text/event-stream", &sseMarshaler{}))
	if err := completionv1.RegisterCompletionServiceHandler(context.Background(), mux, conn); err != nil {
		return err
	}
	return testbed.ServeHTTP(mux)
}

type sseMarshaler struct{ runtime.JSONPb }

func (*sseMarshaler) ContentType(any) string { return "text/event-stream" }

func (*sseMarshaler) Delimiter() []byte { return []byte("\n\n") }

func (m *sseMarshaler) Marshal(v any) ([]byte, error) {
	b, err := m.JSONPb.Marshal(v)
	return append([]byte("data: "), b...), err
}

// serveProxy copies bytes.
func serveProxy(_ *testbed.Gate, args []string) error {
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: args[0]})
	proxy.FlushInterval = -1
	return testbed.ServeHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Else streams are cut whose request body the transport still holds when the
		// answer begins (golang/go#40747).
		_ = http.NewResponseController(w).EnableFullDuplex()
		proxy.ServeHTTP(w, r)
	}))
}

// serveBare makes the blocks that our bridge would, with no source behind it,
// and writes and flushes each: what any bridge has to do at least that does not
// gather.
func serveBare(g *testbed.Gate, _ []string) error {
	return testbed.ServeHTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := strings.Split(r.URL.Path, "/")[3]
		p, err := testbed.ParsePace(id)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		flusher := w.(http.Flusher)
		var buf []byte
		_ = p.Play(r.Context(), g, func(number int) error {
			buf = append(buf[:0], "event: delta\ndata: {\"sequence\":"...)
			buf = strconv.AppendInt(buf, int64(number+1), 10)
			buf = append(buf, `,"delta":{"text":" `...)
			buf = testbed.AppendToken(buf, number)
			buf = append(append(append(buf, "\"}}\nid: "...), id...), '_')
			buf = append(strconv.AppendInt(buf, int64(number+1), 10), "\n\n"...)
			_, err := w.Write(buf)
			flusher.Flush()
			return err
		})
	}))
}

// portkeyFolder has Portkey's gateway, if npm has installed it there.
const portkeyFolder = "testdata/portkey"

// serveNode becomes a Node that runs serve.js of a folder: what that costs is then what the
// process does.
func serveNode(_ *testbed.Gate, args []string) error {
	node, err := exec.LookPath("node")
	if err != nil {
		return err
	}
	return syscall.Exec(node, []string{"node", "--expose-gc", filepath.Join(args[0], "serve.js")}, os.Environ())
}
