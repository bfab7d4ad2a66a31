package bridge_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	channelz "google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
)

const hostile = `
syntax = "proto3";
package odd.v1;

import "google/api/annotations.proto";

enum Mood { MOOD_UNSPECIFIED = 0; GLAD = 1; }
message Tree { repeated Tree trees = 1; Tree tree = 2; Mood mood = 3; }

service Odd {
  rpc Plant(Tree) returns (Tree) { option (google.api.http) = { get: "/tree" }; }
  rpc Fail(Tree) returns (Tree);
  rpc FailLate(Tree) returns (stream Tree);
}
`

// What clients and servers can do at their worst is answered, and at once.
func TestExposedHostile(t *testing.T) {
	var deep []byte // as JSON, deeper than encoding/json reads
	for range 6000 {
		deep = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), deep)
	}
	fail := func(*transcodetest.Call) error {
		s, err := status.New(codes.Unavailable, "no\r\nway").WithDetails(&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: 315576000000}})
		if err != nil {
			return err
		}
		p := s.Proto()
		p.Details = append(p.Details, &anypb.Any{TypeUrl: "type.googleapis.com/odd.v1.Tree", Value: deep})
		return status.ErrorProto(p)
	}
	s := &transcodetest.Server{Proto: hostile, Methods: map[string]func(*transcodetest.Call) error{
		"Plant": func(c *transcodetest.Call) error { return c.Send("{}") },
		"Fail":  fail,
		"FailLate": func(c *transcodetest.Call) error {
			if err := c.Send("{}"); err != nil {
				return err
			}
			return fail(c)
		},
	}, Register: func(g *grpc.Server) { channelz.RegisterChannelzServiceToServer(g) }}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	for _, tt := range []struct {
		request string
		status  int
		body    string
	}{
		{"GET /tree?" + strings.Repeat("tree.", 9000) + "mood=GLAD", 200, "{}\n"},
		{"POST /odd.v1.Odd/Plant\n\n" + strings.Repeat(`{"tree":`, 10_000) + "{}" + strings.Repeat("}", 10_000), 400, "nested too deep"},
		{"POST /odd.v1.Odd/Plant\n\n" + strings.Repeat(`{"trees":[`, 10_000), 400, "nested too deep"},
		{"POST /odd.v1.Odd/Fail\n\n{}", 503, `"message":"no\r\nway","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"315576000000s"}]`},
		{"POST /odd.v1.Odd/FailLate\n\n{}", 200, `"message":"no\r\nway","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"315576000000s"}]`},
		{"POST /healthz\n\n{}", 405, "takes GET, HEAD, not POST"},
		{"POST /grpc.channelz.v1.Channelz/GetServers\n\n{}", 404, "there is no"},
	} {
		a := ask(t, url, tt.request)
		if a.StatusCode != tt.status || !strings.Contains(a.body, tt.body) {
			t.Errorf("%.80s\ngot  %d %s\nwant %d %s", tt.request, a.StatusCode, a.body, tt.status, tt.body)
		}
		if strings.HasPrefix(a.Header.Get("Retry-After"), "-") {
			t.Errorf("%.80s: Retry-After: %s", tt.request, a.Header.Get("Retry-After"))
		}
		if a.Header.Get("Content-Type") == "application/json" && !json.Valid([]byte(a.body)) {
			t.Errorf("%.80s: %s", tt.request, a.body)
		}
	}
}

// What a file imports that nobody has is not shown, and all else is.
func TestExposedImportIsMissing(t *testing.T) {
	field := func(name string, number int32, typeName string, kind descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: &name, Number: &number, TypeName: &typeName, Type: &kind, Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
	}
	route := &descriptorpb.MethodOptions{}
	proto.SetExtension(route, annotations.E_Http, &annotations.HttpRule{Pattern: &annotations.HttpRule_Get{Get: "/cut/{thing}"}, AdditionalBindings: []*annotations.HttpRule{
		{Pattern: &annotations.HttpRule_Get{Get: "/cut"}},
	}})
	wire, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{{
		Name: proto.String("a.proto"), Syntax: proto.String("proto3"), Package: proto.String("odd.v1"), Dependency: []string{"missing.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("Tree"), Field: []*descriptorpb.FieldDescriptorProto{
			field("tree", 2, ".missing.Tree", descriptorpb.FieldDescriptorProto_TYPE_MESSAGE), field("mood", 3, ".missing.Mood", descriptorpb.FieldDescriptorProto_TYPE_ENUM),
			{Name: proto.String("thing"), Number: proto.Int32(4), TypeName: proto.String(".missing.Thing"), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()},
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Odd"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("Plant"), InputType: proto.String(".missing.Tree"), OutputType: proto.String(".odd.v1.Tree")},
			{Name: proto.String("Cut"), InputType: proto.String(".odd.v1.Tree"), OutputType: proto.String(".odd.v1.Tree"), Options: route},
		}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "set")
	if err := os.WriteFile(name, wire, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &transcodetest.Server{Proto: hostile, Methods: map[string]func(*transcodetest.Call) error{
		"Plant": func(c *transcodetest.Call) error { return c.Send(`{"tree":{},"mood":"GLAD"}`) },
	}}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{Descriptors: name})
	for request, want := range map[string]int{
		"POST /odd.v1.Odd/Cut\n\n{\"thing\":1}": 400, "GET /cut?tree=1": 400, "GET /cut?mood=X": 400,
		"GET /cut?thing=1": 501, "GET /cut/1": 404, // there is no such field, and so no such route
	} {
		if a := ask(t, url, request); a.StatusCode != want {
			t.Errorf("%s: %d %s", request, a.StatusCode, a.body)
		}
	}
	for request, want := range map[string]string{
		"POST /odd.v1.Odd/Plant\n\n{}": `{"tree":{},"mood":1}`, "GET /openapi.json": `"/odd.v1.Odd/Plant"`,
	} {
		if a := ask(t, url, request); a.StatusCode != 200 || !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s", request, a.StatusCode, a.body)
		}
	}
}
