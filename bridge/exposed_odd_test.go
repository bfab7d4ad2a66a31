package bridge_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
)

// odd is a service whose routes are in each other's way, and whose messages hold themselves.
var odd = `
syntax = "proto3";

import "google/api/annotations.proto";

message MethodError { string mine = 1; }
message Node { ` + nodes(12) + ` string name = 20; string first_name = 21; }

service Odd {
  rpc A(Node) returns (MethodError) { option (google.api.http) = { get: "/same/{name}" additional_bindings { post: "/Odd/B" body: "*" } }; }
  rpc B(Node) returns (Node) { option (google.api.http) = { get: "/same/{name}" additional_bindings { get: "/first/{firstName}" } }; }
}
`

func nodes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " Node node%d = %d;", i, i+1)
	}
	return b.String()
}

// What is described is what is called, and has an end.
func TestExposedOddRoutes(t *testing.T) {
	s := &transcodetest.Server{Proto: odd, Methods: map[string]func(*transcodetest.Call) error{
		"A": func(c *transcodetest.Call) error { return c.Send(`{"mine":"a"}`) },
		"B": func(c *transcodetest.Call) error { return c.SendMsg(c.Request) },
	}}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	d := newDescription(t, ask(t, url, "GET /openapi.json").body)
	for _, tt := range []struct{ request, schema, body string }{
		{"GET /same/x", "/paths/~1same~1{name}/get", `{"name":"x"}`},
		{"POST /Odd/A\n\n{}", "/paths/~1Odd~1A/post", `{"mine":"a"}`},
		{"POST /Odd/B\n\n{\"name\":\"x\"}", "/paths/~1Odd~1B/post", `{"name":"x"}`},
		{"GET /first/x?first_name=y&firstName=z", "/paths/~1first~1{firstName}/get", `{"firstName":"x"}`}, // which the path has
	} {
		a := ask(t, url, tt.request)
		if a.StatusCode != 200 || a.body != tt.body+"\n" {
			t.Errorf("%s: %d %s, want %s", tt.request, a.StatusCode, a.body, tt.body)
		}
		// Unknown members are good, so that it is not the other one's is seen by what refers to it.
		operation := fmt.Sprint(at(d.document, tt.schema))
		if of := map[bool]string{true: "/MethodError_ ", false: "/Node "}[strings.Contains(tt.body, "mine")]; !strings.Contains(strings.ReplaceAll(operation, "]", " "), of) {
			t.Errorf("%s is described as %.300s", tt.schema, operation)
		}
	}
	if of := fmt.Sprint(at(d.document, "/components/schemas/MethodError_")); !strings.Contains(of, "mine") {
		t.Errorf("a message that is called as one of ours is described as %s", of)
	}
	parameters := at(d.document, "/paths/~1same~1{name}/get").(map[string]any)["parameters"].([]any)
	if got := fmt.Sprint(parameters); len(parameters) > 200 || !strings.Contains(got, "name:first_name ") {
		t.Errorf("%d parameters: %.300s", len(parameters), got)
	}
	bound := at(d.document, "/paths/~1first~1{firstName}/get").(map[string]any)["parameters"].([]any)
	if got := fmt.Sprint(bound); !strings.Contains(got, "name:firstName ") || strings.Contains(got, "name:first_name ") {
		t.Errorf("what the path has is in the query, too: %.300s", got)
	}
}

// at returns what a JSON pointer points to.
func at(document any, pointer string) any {
	for _, step := range strings.Split(pointer, "/")[1:] {
		document = document.(map[string]any)[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]
	}
	return document
}

// A bridge is ready when its server is there, also if that tells not everybody how it is, and
// calls with headers that are too large for it are refused as such.
func TestExposedServerIsShy(t *testing.T) {
	s := newGreeter()
	s.Options = []grpc.ServerOption{grpc.MaxHeaderListSize(2 << 10), grpc.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
		return nil, status.Error(codes.Unauthenticated, "who are you?")
	})}
	s.Register = func(g *grpc.Server) { healthpb.RegisterHealthServer(g, health.NewServer()) }
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{ForwardHeaders: []string{"X-Mine"}})
	if a := ask(t, url, "GET /readyz"); a.StatusCode != 200 {
		t.Errorf("not ready: %d %s", a.StatusCode, a.body)
	}
	for _, path := range []string{"/test.v1.Greeter/Greet", "/test.v1.Greeter/GreetOften"} {
		if a := ask(t, url, "POST "+path+"\nX-Mine: "+strings.Repeat("x", 3<<10)+"\n\n{}"); a.StatusCode != 431 {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
	}
}

const choices = `
syntax = "proto3";
package odd.v1;
import "google/api/annotations.proto";
import "google/protobuf/timestamp.proto";
enum Mood { MOOD_UNSPECIFIED = 0; GLAD = 1; SAD = 2; }
message In { Mood the_mood = 1; string text = 2; }
message Choice { oneof choice { In a = 1; In b = 2; } Mood my_mood = 3; repeated Mood my_moods = 4; google.protobuf.Timestamp at = 5; map<string, Mood> by_name = 6; optional Mood maybe_mood = 7; map<int32, string> by_number = 8; map<bool, Mood> by_truth = 9; }
service Choices { rpc Choose(Choice) returns (Choice) { option (google.api.http) = { get: "/choose" }; } }
`

// Query parameters that are in each other's way are refused, whichever of them is looked at
// first.
func TestExposedQueryContradicts(t *testing.T) {
	s := &transcodetest.Server{Proto: choices, Methods: map[string]func(*transcodetest.Call) error{"Choose": func(c *transcodetest.Call) error { return c.SendMsg(c.Request) }}}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	for query, want := range map[string]int{
		"a.the_mood=GLAD&b.the_mood=SAD":         400,
		"a.the_mood=GLAD&b.text=x":               400,
		"a.the_mood=GLAD&a.text=x":               200,
		"my_mood=MOOD_UNSPECIFIED&myMood=SAD":    400,
		"my_mood=SAD&my_mood=SAD":                400,
		"my_moods=SAD&myMoods=GLAD":              400,
		"my_moods=SAD&my_moods=GLAD":             200,
		"by_name[x]=SAD&byName[x]=GLAD":          400,
		"by_name[x]=SAD&byName[y]=GLAD":          200,
		"maybe_mood=SAD&maybeMood=GLAD":          400,
		"by_name=x&by_name=SAD&by_name[y]=GLAD":  200,
		"by_name=x&by_name=SAD&by_name[x]=GLAD":  400,
		"by_number[1]=a&by_number[01]=b":         400,
		"by_number[1]=a&by_number[-1]=b":         200,
		"by_number[1]=a&by_number=1&by_number=b": 400,
		"by_number[1]=a&by_number=2&by_number=b": 200,
		"by_truth[1]=SAD&by_truth[true]=GLAD":    400,
		"by_truth[1]=SAD&by_truth[false]=GLAD":   200,
		"at=2026-01-02T03:04:05Z&at.seconds=5":   400,
		"at.seconds=5&at.nanos=6&a.theMood=GLAD": 200,
		"at=2026-01-02T03:04:05Z&a.text=x&a=":    400,
		"a=&b=":                                  400,
		"[=&]=&.=&..=&a.=&=&a[b]=c&my_mood[x]=1": 400,
		"%00=1&a%00=2&no.such=x":                 200,
		"my_mood=SAD&a.text=50%":                 400, // without it, the server would do something else
		"my_mood=SAD&a.text=x;y":                 400,
		"my_mood=SAD&a.text=50%25":               200,
	} {
		for range 12 {
			if a := ask(t, url, "GET /choose?"+query); a.StatusCode != want {
				t.Errorf("%s: %d %s", query, a.StatusCode, a.body)
				break
			}
		}
	}
}
