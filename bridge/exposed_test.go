package bridge_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
)

// expose serves a bridge in front of a server, and returns its URL.
func expose(t *testing.T, target string, config bridge.Config) string {
	t.Helper()
	url, _ := exposeBridge(t, target, config)
	return url
}

func exposeBridge(t *testing.T, target string, config bridge.Config) (string, *bridge.Bridge) {
	t.Helper()
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if config.Expose == nil {
		config.Expose = []string{"*"}
	}
	config.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	b, err := bridge.New(conn, config)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(b)
	b.Configure(s.Config)
	s.Listener = b.Listener(s.Listener)
	s.Start()
	t.Cleanup(func() {
		b.Close()
		s.Close()
		b.Wait()
	})
	return s.URL, b
}

// answer is what a request got.
type answer struct {
	*http.Response
	body string
}

// ask sends a request, which is a line "METHOD /path", header lines and, behind an empty
// line, a body.
func ask(t *testing.T, url, request string) answer {
	t.Helper()
	head, body, _ := strings.Cut(request, "\n\n")
	lines := strings.Split(head, "\n")
	method, path, _ := strings.Cut(lines[0], " ")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{resp, string(b) + " CUT: " + err.Error()}
	}
	return answer{resp, string(b)}
}

const greeter = `
syntax = "proto3";
package test.v1;

import "google/api/annotations.proto";
import "google/protobuf/any.proto";
import "google/protobuf/timestamp.proto";

enum Mood { MOOD_UNSPECIFIED = 0; GLAD = 1; SAD = 2; }

message Name { string first = 1; string last = 2; Mood mood = 3; }
message Greeting { string text = 1; int64 number = 2; Name to = 3; google.protobuf.Any any = 4; google.protobuf.Timestamp at = 5; repeated string tags = 6; map<string, Mood> moods = 7; }
message Request { Name name = 1; int32 times = 2; repeated Mood moods = 3; string text = 4; }
message Secret { string word = 1; }

service Greeter {
  rpc Greet(Request) returns (Greeting) {
    option (google.api.http) = {
      get: "/greet/{name.first}"
      additional_bindings { post: "/greet/{name.first}/{name.mood}" body: "name" response_body: "to" }
      additional_bindings { put: "/greet" body: "*" }
      additional_bindings { get: "/shelves/{name.last=shelves/*}/books:first" response_body: "tags" }
    };
  }
  rpc GreetOften(Request) returns (stream Greeting) {
    option (google.api.http) = { get: "/greetings" additional_bindings { get: "/tos" response_body: "to" } };
  }
  rpc Collect(stream Request) returns (Greeting);
  rpc Talk(stream Request) returns (stream Greeting);
  rpc Missing(Request) returns (Greeting);
}

service Other { rpc Greet(Request) returns (Greeting); }
`

// echo answers with the request as text, and with what metadata there was.
func echo(c *transcodetest.Call) error {
	md, _ := metadata.FromIncomingContext(c.Context())
	_ = c.SetHeader(metadata.Pairs("said", "first", "raw-bin", "\x00\xff"))
	c.SetTrailer(metadata.Pairs("counted", "1", "counted", "2", "sum-bin", "\x01\x02\x03"))
	var tags []string
	for _, key := range []string{"authorization", "x-mine", "x-mine-bin", "x-other"} {
		for _, value := range md.Get(key) {
			if strings.HasSuffix(key, "-bin") {
				value = base64.StdEncoding.EncodeToString([]byte(value))
			}
			tags = append(tags, `"`+key+"="+value+`"`)
		}
	}
	text := strings.ReplaceAll(c.JSON(), `"`, `'`)
	return c.Send(`{"text":"` + strings.ReplaceAll(text, " ", "") + `","number":"9007199254740993","to":{"first":"Ada","mood":"GLAD"},"tags":[` + strings.Join(tags, ",") + `]}`)
}

func failing(*transcodetest.Call) error {
	s, err := status.New(codes.FailedPrecondition, "not now").WithDetails(&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{{Subject: "x"}}})
	if err != nil {
		return err
	}
	return s.Err()
}

// often sends the greeting as often as it is asked to, and fails for the times below 0.
func often(c *transcodetest.Call) error {
	times := c.Request.Get(c.Request.Descriptor().Fields().ByName("times")).Int()
	if times < 0 {
		return failing(c)
	}
	for i := range times {
		if i == 3 {
			c.SetTrailer(metadata.Pairs("so", "far"))
			return failing(c)
		}
		if err := c.Send(`{"text":"hello","to":{"first":"Ada"}}`); err != nil {
			return err
		}
	}
	c.SetTrailer(metadata.Pairs("count", "all", "b-bin", "\x00"))
	return nil
}

func newGreeter() *transcodetest.Server {
	return &transcodetest.Server{Proto: greeter, Methods: map[string]func(*transcodetest.Call) error{
		"Greet": echo, "GreetOften": often, "Collect": echo, "Talk": echo,
	}}
}

func TestExposed(t *testing.T) {
	addr, _ := newGreeter().Serve(t, "")
	url := expose(t, addr, bridge.Config{Expose: []string{"test.v1.Greeter"}, ForwardHeaders: []string{"x-mine", "X-Mine-Bin"}, MaxBody: 1 << 10})
	greeting := func(request string) string {
		return `{"text":"` + request + `","number":"9007199254740993","to":{"first":"Ada","mood":"GLAD"}}` + "\n"
	}
	for _, tt := range []struct {
		request string
		status  int
		body    string
	}{
		{"POST /test.v1.Greeter/Greet\n\n{\"name\":{\"first\":\"B\"}}", 200, greeting("{'name':{'first':'B'}}")},
		{"POST /test.v1.Greeter/Greet\n\n", 200, greeting("{}")},
		{"GET /greet/Bob?times=3&moods=SAD&moods=1&name.last=C&name.first=X&text=a%20b&unknown=1", 200, greeting("{'name':{'first':'Bob','last':'C'},'times':3,'moods':['SAD','GLAD'],'text':'ab'}")},
		{"GET /greet/Bob?name.mood=SAD", 200, greeting("{'name':{'first':'Bob','mood':'SAD'}}")},
		{"GET /greet/Bob?name.mood=NONE", 400, "is no value of test.v1.Mood"},
		{"GET /greet/Bob?name.mood[a]=SAD", 400, "is not a map"},
		{"GET /greet/Bob?times=x", 400, "query parameters"},
		{"GET /greet/Bob?text=%ff", 400, "the query parameter text is not UTF-8"},
		{"HEAD /greet/Bob", 200, ""},
		{"POST /greet/Bob/SAD?times=2\n\n{\"last\":\"L\"}", 200, `{"first":"Ada","mood":"GLAD"}` + "\n"},
		{"POST /greet/Bob/BAD\n\n{}", 400, "name.mood"},
		{"POST /greet/Bob/SAD?name.mood=GLAD\n\n{}", 200, `"mood":"GLAD"}` + "\n"}, // which the path has
		{"PUT /greet\n\n{\"times\":4}", 200, greeting("{'times':4}")},
		{"PUT /greet\n\n{\"times\":4} x", 400, "invalid character"},
		{"GET /shelves/shelves/7/books:first", 200, "[]\n"},
		{"DELETE /greet", 405, "takes PUT, not DELETE"},
		{"GET /test.v1.Greeter/Greet", 405, "takes POST, not GET"},

		{"POST /test.v1.Greeter/GreetOften\n\n{\"times\":2}", 200, "event: message\ndata: {\"text\":\"hello\",\"to\":{\"first\":\"Ada\"}}\n\nevent: message\ndata: {\"text\":\"hello\",\"to\":{\"first\":\"Ada\"}}\n\nevent: finished\ndata: {\"trailers\":{\"b-bin\":[\"AA\"],\"count\":[\"all\"]}}\n\n"},
		{"GET /greetings?times=0", 200, "event: finished\ndata: {\"trailers\":{\"b-bin\":[\"AA\"],\"count\":[\"all\"]}}\n\n"},
		{"GET /tos?times=1", 200, "event: message\ndata: {\"first\":\"Ada\"}\n\nevent: finished\n"},
		{"HEAD /greetings?times=1", 200, ""},
		{"POST /test.v1.Greeter/GreetOften\n\n{\"times\":-1}", 400, `{"error":{"code":400,"status":"FAILED_PRECONDITION","message":"not now","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"x"}]}]}}`},
		{"POST /test.v1.Greeter/GreetOften\n\n{\"times\":9}", 200, "event: error\ndata: {\"error\":{\"code\":400,\"status\":\"FAILED_PRECONDITION\",\"message\":\"not now\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":[{\"subject\":\"x\"}]}]},\"trailers\":{\"so\":[\"far\"]}}\n\n"},
		{"POST /test.v1.Greeter/GreetOften\nAccept: application/json\n\n{}", 406, "text/event-stream"},
		{"POST /test.v1.Greeter/GreetOften\nGrpc-Timeout: soon\n\n{}", 400, "timeout"},

		{"POST /test.v1.Greeter/Collect\n\n{}", 501, "/test.v1.Greeter/Collect takes a stream"},
		{"POST /test.v1.Greeter/Talk\n\n{}", 501, "takes a stream"},
		{"POST /test.v1.Greeter/Missing\n\n{}", 501, `"status":"UNIMPLEMENTED"`},
		{"POST /test.v1.Greeter/NoSuch\n\n{}", 404, "there is no /test.v1.Greeter/NoSuch here"},
		{"POST /test.v1.Other/Greet\n\n{}", 404, "there is no /test.v1.Other/Greet here"},
		{"POST /test.v1.NoSuch/Greet\n\n{}", 404, "there is no /test.v1.NoSuch/Greet here"},
		{"POST /grpc.reflection.v1.ServerReflection/ServerReflectionInfo\n\n{}", 404, "there is no"},

		{"POST /test.v1.Greeter/Greet\n\n{\"nome\":1}", 400, `unknown field \"nome\"`},
		{"POST /test.v1.Greeter/Greet\n\n{\"times\":\"x\"}", 400, "times"},
		{"POST /test.v1.Greeter/Greet\n\n[1]", 400, "the body is not a test.v1.Request in JSON"},
		{"POST /test.v1.Greeter/Greet\n\n{\"text\":\"\xff\"}", 400, "UTF-8"},
		{"POST /test.v1.Greeter/Greet\n\n" + strings.Repeat(`{"name":`, 1000), 413, "1024 bytes"},
		{"POST /test.v1.Greeter/Greet\n\n" + strings.Repeat(`[`, 1000), 400, "nested too deep"},
		{"POST /test.v1.Greeter/Greet\nContent-Type: text/plain\n\n{}", 415, "application/json"},
		{"POST /test.v1.Greeter/Greet\nX-Mine: " + strings.Repeat("x", 17<<10) + "\n\n{}", 431, "at most 16384 bytes"},
		{"POST /test.v1.Greeter/Greet\nX-Mine-Bin: %%%\n\n{}", 400, "invalid binary header"},
		{"POST /test.v1.Greeter/Greet\nX-Mine: Zürich\n\n{}", 400, "the header X-Mine goes to the server"},

		{"GET /healthz", 200, "ok\n"},
		{"GET /readyz", 200, "ok\n"}, // though the server has no health service
		{"POST /v1/completions\n\n{\"prompt\":\"x\"}", 503, "UPSTREAM_UNAVAILABLE"},
	} {
		a := ask(t, url, tt.request)
		if a.StatusCode != tt.status || !strings.Contains(a.body, tt.body) || tt.body == "" && a.body != "" {
			t.Errorf("%s\ngot  %d %s\nwant %d %s", tt.request, a.StatusCode, a.body, tt.status, tt.body)
		}
	}
}

// Headers become metadata by name alone, and metadata headers as the gateway has them.
func TestExposedHeaders(t *testing.T) {
	addr, _ := newGreeter().Serve(t, "")
	url := expose(t, addr, bridge.Config{ForwardHeaders: []string{"x-mine", "X-Mine-Bin"}})
	a := ask(t, url, "POST /test.v1.Greeter/Greet\nAuthorization: Bearer b\nX-Mine: a\nX-Mine: b\nX-Mine-Bin: AP8=\nX-Other: c\n\n{}")
	if want := `"tags":["authorization=Bearer b","x-mine=a","x-mine=b","x-mine-bin=AP8="]`; !strings.Contains(a.body, want) {
		t.Errorf("the server got %s, want %s", a.body, want)
	}
	for name, want := range map[string]string{
		"Grpc-Metadata-Said": "first", "Grpc-Metadata-Raw-Bin": "AP8", "Grpc-Trailer-Counted": "1|2", "Grpc-Trailer-Sum-Bin": "AQID",
		"Content-Type": "application/json", "Cache-Control": "no-store", "Grpc-Metadata-Content-Type": "",
	} {
		if got := strings.Join(a.Header.Values(name), "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if a := ask(t, url, "POST /test.v1.Greeter/GreetOften\n\n{\"times\":1}"); a.Header.Get("Content-Type") != sse.MediaType || a.Header.Get("X-Accel-Buffering") != "no" {
		t.Errorf("the stream's headers: %v", a.Header)
	}
}

// A bridge that drains begins no new streams, and still calls what is over at once.
func TestExposedDrain(t *testing.T) {
	addr, _ := newGreeter().Serve(t, "")
	url, b := exposeBridge(t, addr, bridge.Config{})
	b.Drain()
	if a := ask(t, url, "POST /test.v1.Greeter/GreetOften\n\n{}"); a.StatusCode != 503 || !strings.Contains(a.body, `"reason":"DRAINING"`) || a.Header.Get("Retry-After") != "1" {
		t.Errorf("a stream: %d %s", a.StatusCode, a.body)
	}
	if a := ask(t, url, "POST /test.v1.Greeter/Greet\n\n{}"); a.StatusCode != 200 {
		t.Errorf("a unary call: %d %s", a.StatusCode, a.body)
	}
}

// A call's deadline is told to the server, and in the stream; a client's departure ends it.
func TestExposedCallEnds(t *testing.T) {
	left := make(chan error, 2)
	s := newGreeter()
	s.Methods["GreetOften"] = func(c *transcodetest.Call) error {
		err := c.Send(`{"text":"hello"}`)
		<-c.Context().Done()
		left <- c.Context().Err()
		return errors.Join(err, status.FromContextError(c.Context().Err()).Err())
	}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	a := ask(t, url, "POST /test.v1.Greeter/GreetOften\nGrpc-Timeout: 200m\n\n{}")
	if want := "event: error\ndata: {\"error\":{\"code\":504,\"status\":\"DEADLINE_EXCEEDED\""; !strings.Contains(a.body, want) {
		t.Errorf("after the deadline: %s", a.body)
	}
	if err := <-left; err == nil {
		t.Error("the server was not told")
	}
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/test.v1.Greeter/GreetOften", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); line != "event: message\n" {
		t.Errorf("%q, %v", line, err)
	}
	cancel()
	resp.Body.Close()
	select {
	case err := <-left:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the call goes on without its reader")
	}
}
