package bridge_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
)

// Two services of grpc-go's: health, whose Watch is a stream, and channelz, whose messages
// have times, wrappers, oneofs and 64-bit numbers.
func TestExposedGRPCServices(t *testing.T) {
	healthy := health.NewServer()
	s := &transcodetest.Server{Register: func(g *grpc.Server) {
		healthpb.RegisterHealthServer(g, healthy)
		channelz.RegisterChannelzServiceToServer(g)
		reflection.Register(g)
	}}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{Expose: []string{"*", "grpc.health.v1.Health/Watch", "grpc.channelz.v1.Channelz"}})
	if a := ask(t, url, "POST /grpc.channelz.v1.Channelz/GetServers\n\n{}"); a.StatusCode != 200 || !strings.Contains(a.body, `"serverId":"`) ||
		!strings.Contains(a.body, `"callsStarted":"`) || !strings.Contains(a.body, `"lastCallStartedTimestamp":"2`) {
		t.Errorf("channelz: %d %s", a.StatusCode, a.body)
	}
	if a := ask(t, url, "POST /grpc.channelz.v1.Channelz/GetServer\n\n{\"serverId\":\"99999\"}"); a.StatusCode != 404 || !strings.Contains(a.body, "99999") {
		t.Errorf("what is not there: %d %s", a.StatusCode, a.body)
	}
	if a := ask(t, url, "POST /grpc.health.v1.Health/Check\n\n{}"); a.StatusCode != 404 {
		t.Errorf("* has exposed health: %d %s", a.StatusCode, a.body)
	}
	stream := bufio.NewReader(openBody(t, url, "/grpc.health.v1.Health/Watch"))
	readUntil(t, stream, `{"status":"SERVING"}`)
	healthy.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	readUntil(t, stream, "event: message\ndata: {\"status\":\"NOT_SERVING\"}\n\n")
}

// everything is a service of the messages that have all there is.
func everything(t *testing.T) *transcodetest.Server {
	t.Helper()
	text, err := os.ReadFile("wirejson/testdata/everything.proto")
	if err != nil {
		t.Fatal(err)
	}
	same := func(c *transcodetest.Call) error {
		for range 2 {
			if err := c.SendMsg(c.Request); err != nil {
				return err
			}
		}
		return nil
	}
	return &transcodetest.Server{
		Proto:   string(text) + "\nservice Same { rpc Say(Everything) returns (stream Everything); }",
		Methods: map[string]func(*transcodetest.Call) error{"Say": same},
	}
}

// everythings are messages.
var everythings = []string{
	`{}`,
	`{"aInt32":-1,"aInt64":"-9223372036854775808","aUint64":"18446744073709551615","aSint64":"-3","aFixed64":"7","aDouble":1e300,"aFloat":0.1,"aBool":true,"aString":"ü\u2028\n","aBytes":"AP8="}`,
	`{"aDouble":"NaN","aFloat":"-Infinity","colour":77,"colours":["RED",-5,"FAR"],"maybeInt32":0,"maybeString":"","maybeColour":"COLOUR_UNSPECIFIED"}`,
	`{"texts":{"":"a","b":""},"byInt32":{"-1":{"aBool":true}},"byBool":{"false":"1"},"byUint64":{"18446744073709551615":"BELOW"},"values":{"a":null,"b":[1,"x",{"c":true}]}}`,
	`{"choiceNull":null}`, `{"choiceInner":{}}`, `{"choiceInt64":"0"}`,
	`{"any":{"@type":"type.googleapis.com/test.everything.Everything","aInt64":"5"},"anys":[{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.500s"},{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"x"}]}`,
	`{"timestamp":"0001-01-01T00:00:00Z","duration":"-0.000000001s","struct":{"a":{}},"value":0.5,"list":[],"mask":"a.bC,d","empty":{},"boolValue":false,"int64Value":"0","stringValue":"","bytesValue":""}`,
	`{"inner":{"inner":{"inners":[{},{"inner":{}}]}},"int32s":[1,2,300],"looseInt32s":[0,-1],"doubles":[1,2.5],"strings":["",""],"a \"strange\" name":"x","far":["1"]}`,
}

// What goes to the server as JSON comes back as the same JSON.
func TestExposedEverything(t *testing.T) {
	addr, _ := everything(t).Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	for _, text := range everythings {
		a := ask(t, url, "POST /test.everything.Same/Say\n\n"+text)
		messages, err := all(a.body)
		if err != nil || len(messages) != 3 {
			t.Errorf("%s\n%v, %s", text, err, a.body)
			continue
		}
		var got, want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(messages[1].Data), &got); err != nil || !reflect.DeepEqual(got, want) || messages[1].Event != "message" {
			t.Errorf("got  %s, %v\nwant %s", messages[1].Data, err, text)
		}
		if messages[2].Event != "finished" || messages[2].Data != `{"trailers":{}}` {
			t.Errorf("it ends with %v", messages[2])
		}
	}
}

// The same of what proto2 has beside: groups, extensions, enums that are closed.
func TestExposedProto2(t *testing.T) {
	text, err := os.ReadFile("wirejson/testdata/old.proto")
	if err != nil {
		t.Fatal(err)
	}
	s := &transcodetest.Server{
		// protodesc wants zero first in an enum that a map has.
		Proto:   strings.Replace(string(text), "map<string, Size>", "map<string, int32>", 1) + "\nservice Same { rpc Say(Old) returns (stream Old); }",
		Methods: map[string]func(*transcodetest.Call) error{"Say": func(c *transcodetest.Call) error { return c.SendMsg(c.Request) }},
	}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	for _, text := range []string{
		`{"name":"a","number":0,"size":"LARGE","numbers":[1,2],"packed":[3,4],"sizes":{"x":7,"y":0}}`,
		`{"name":"a","group":{"text":"x","within":{"deep":"6"}},"groups":[{"item":1},{"olds":[{"name":"b"},{"name":"c","inner":{"name":"d"}}]}],"chosen":{"yes":false}}`,
		`{"name":"a","[test.old.extra]":"e","[test.old.more]":[{"name":"b"}],"raw":"AA=="}`,
	} {
		a := ask(t, url, "POST /test.old.Same/Say\n\n"+text)
		messages, err := all(a.body)
		var got, want any
		if err != nil || len(messages) != 2 || json.Unmarshal([]byte(messages[0].Data), &got) != nil || json.Unmarshal([]byte(text), &want) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got  %d %s\nwant %s", a.StatusCode, a.body, text)
		}
	}
}

// Descriptors of a file do for a server that has no reflection; details of errors are shown
// whose types no service names.
func TestExposedDescriptorsOfFile(t *testing.T) {
	s := newGreeter()
	s.Reflection = "none"
	s.Methods["Greet"] = func(*transcodetest.Call) error {
		p := status.New(codes.ResourceExhausted, "no").Proto()
		p.Details = append(p.Details, &anypb.Any{TypeUrl: "type.googleapis.com/test.v1.Secret", Value: []byte{1<<3 | 2, 1, 'x'}}, &anypb.Any{TypeUrl: "no/such", Value: []byte("x")})
		return status.FromProto(p).Err()
	}
	addr, _ := s.Serve(t, "")
	_, set := transcodetest.Compile(t, greeter)
	name := t.TempDir() + "/set.binpb"
	writeSet(t, name, set)
	url := expose(t, addr, bridge.Config{Descriptors: name})
	a := ask(t, url, "POST /test.v1.Greeter/Greet\n\n{}")
	if want := `"details":[{"@type":"type.googleapis.com/test.v1.Secret","word":"x"},{"@type":"no/such","@value":"eA=="}]`; a.StatusCode != 429 || !strings.Contains(a.body, want) {
		t.Errorf("%d %s, want %s", a.StatusCode, a.body, want)
	}
	if _, err := bridge.New(nil, bridge.Config{Expose: []string{"*"}, Descriptors: name + ".not"}); err == nil {
		t.Error("a file that is not there is taken")
	}
}

func writeSet(t *testing.T, name string, set *descriptorpb.FileDescriptorSet) {
	t.Helper()
	b, err := proto.Marshal(set)
	if err == nil {
		err = os.WriteFile(name, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What a server may do to a bridge.
func TestExposedBadServer(t *testing.T) {
	s := newGreeter()
	large := strings.Repeat("x", 16<<20)
	s.Methods["GreetOften"] = func(c *transcodetest.Call) error {
		switch text := c.Request.Get(c.Request.Descriptor().Fields().ByName("text")).String(); text {
		case "large":
			return c.Send(`{"text":"` + large + `"}`)
		case "after":
			if err := c.Send(`{"text":"a"}`); err != nil {
				return err
			}
		}
		return c.SendWire([]byte{0xff})
	}
	s.Methods["Greet"] = func(c *transcodetest.Call) error { return c.SendWire([]byte{1<<3 | 2, 2, 0xff, 0xff}) }
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	unreadable := `{"error":{"code":500,"status":"INTERNAL","message":"the server has sent a message that cannot be read","details":[]}}`
	for request, want := range map[string]struct {
		status int
		body   string
	}{
		"POST /test.v1.Greeter/Greet\n\n{}":                        {500, unreadable + "\n"},
		"POST /test.v1.Greeter/GreetOften\n\n{}":                   {500, unreadable + "\n"},
		"POST /test.v1.Greeter/GreetOften\n\n{\"text\":\"after\"}": {200, "event: message\ndata: {\"text\":\"a\"}\n\nevent: error\ndata: " + unreadable + "\n\n"},
		"POST /test.v1.Greeter/GreetOften\n\n{\"text\":\"large\"}": {200, "event: message\ndata: {\"text\":\"" + large + "\"}\n\nevent: finished\ndata: {\"trailers\":{}}\n\n"},
		"POST /test.v1.Greeter/GreetOften\n\n{\"text\":\"" + "a\"": {400, "breaks off"},
	} {
		a := ask(t, url, request)
		if a.StatusCode != want.status || a.body != want.body && want.body != "breaks off" {
			t.Errorf("%.100s: %d %.300s", request, a.StatusCode, a.body)
		}
	}
}

// A server that says of its own servers what grpc-go says of connections is heard.
func TestExposedServerSpeaksOfConnections(t *testing.T) {
	const message = `connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.1:9: refused"`
	refuse := func(c *transcodetest.Call) error { return status.Error(codes.Unavailable, message) }
	s := newGreeter()
	s.Methods["Greet"], s.Methods["GreetOften"] = refuse, refuse
	addr, stop := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	for _, method := range []string{"Greet", "GreetOften"} {
		if a := ask(t, url, "POST /test.v1.Greeter/"+method+"\n\n{}"); a.StatusCode != 503 || !strings.Contains(a.body, "dial tcp 10.0.0.1:9") {
			t.Errorf("%s: %d %s", method, a.StatusCode, a.body)
		}
	}
	stop()
	if a := ask(t, url, "POST /test.v1.Greeter/Greet\n\n{}"); a.StatusCode != 503 || strings.Contains(a.body, "127.0.0.1") {
		t.Errorf("without the server: %d %s", a.StatusCode, a.body)
	}
}

// A server that floods is held up by a reader that takes nothing.
func TestExposedFlood(t *testing.T) {
	var sent atomic.Int64
	s := newGreeter()
	message := `{"text":"` + strings.Repeat("x", 10_000) + `"}`
	s.Methods["GreetOften"] = func(c *transcodetest.Call) error {
		for c.Context().Err() == nil {
			if err := c.Send(message); err != nil {
				return err
			}
			sent.Add(int64(len(message)))
		}
		return nil
	}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("POST /test.v1.Greeter/GreetOften HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for before := int64(-1); ; {
		now := sent.Load()
		if now == before && now > 0 {
			break
		}
		if before = now; now > 64<<20 || ctx.Err() != nil {
			t.Fatalf("the server could send %d bytes that nobody has read", now)
		}
		time.Sleep(300 * time.Millisecond)
	}
	t.Logf("the server could send %d bytes that nobody has read", sent.Load())
}

// Where reflection wants credentials, those of the caller do; without, he is told so, and what
// others are told does not depend on it.
func TestExposedReflectionWantsCredentials(t *testing.T) {
	s := newGreeter()
	s.Options = []grpc.ServerOption{grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if md, _ := metadata.FromIncomingContext(stream.Context()); strings.Join(md.Get("authorization"), "") != "Bearer good" {
			return status.Error(codes.Unauthenticated, "who are you?")
		}
		return handler(srv, stream)
	})}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	for _, tt := range []struct {
		header string
		status int
	}{{"", 401}, {"\nAuthorization: Bearer bad", 401}, {"\nAuthorization: Bearer good", 200}, {"", 401}} {
		if a := ask(t, url, "POST /test.v1.Greeter/GreetOften"+tt.header+"\n\n{}"); a.StatusCode != tt.status || (a.Header.Get("WWW-Authenticate") != "") != (tt.status == 401) {
			t.Errorf("%q: %d %s", tt.header, a.StatusCode, a.body)
		}
	}
}
