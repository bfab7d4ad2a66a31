// Package interop holds what the bridge makes of any method (--expose) against servers that
// none of us wrote, and against what others make of the same servers: the REST face of
// googleapis/gapic-showcase, and grpc-gateway with the code that it generates.
//
// The servers are a program of its own, in testdata/servers, which says what they are. It is
// installed (.ci/run does), and none of it is a dependency of the module.
package interop

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
	"github.com/sluice-sse/sluice/internal/skip"
)

// program is what .ci/run installs.
const program = "sluice-strangers"

// servers are those that run for a test, and where: of gRPC, and of HTTP for what others make
// of the same server.
type servers struct {
	Showcase, ShowcaseHTTP string
	Gateway, GatewayHTTP   string
	Bin                    string
	Suite                  json.RawMessage // a google.showcase.v1beta1.ComplianceSuite

	descriptors string // the name of a file with those of all services
	files       *protoregistry.Files
	types       *dynamicpb.Types
}

// startServers starts the servers, until the test ends.
func startServers(t *testing.T) *servers {
	t.Helper()
	name, err := exec.LookPath(program)
	if err != nil {
		skip.For(t, "there is no %s: --expose is not tried with other people's servers (go -C internal/interop/testdata/servers install .)", program)
	}
	s := &servers{descriptors: filepath.Join(t.TempDir(), "descriptors.binpb")}
	cmd := exec.Command(name, s.descriptors)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v", program, err)
		}
	})
	if err := json.NewDecoder(stdout).Decode(s); err != nil {
		t.Fatal(err)
	}
	s.load(t)
	return s
}

// load reads the descriptors.
func (s *servers) load(t *testing.T) {
	t.Helper()
	wire, err := os.ReadFile(s.descriptors)
	var set descriptorpb.FileDescriptorSet
	if err == nil {
		err = proto.Unmarshal(wire, &set)
	}
	if err == nil {
		s.files, err = protodesc.NewFiles(&set)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.types = dynamicpb.NewTypes(s.files)
}

// message reads a message from its JSON, by protobuf's own code.
func (s *servers) message(t *testing.T, name protoreflect.FullName, text string) *dynamicpb.Message {
	t.Helper()
	d, err := s.files.FindDescriptorByName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor))
	if err := (protojson.UnmarshalOptions{Resolver: s.types}).Unmarshal([]byte(text), m); err != nil {
		t.Errorf("%s is no %s: %v", text, name, err)
	}
	return m
}

// json writes a message as JSON, by protobuf's own code.
func (s *servers) json(t *testing.T, m proto.Message) string {
	t.Helper()
	text, err := protojson.MarshalOptions{Resolver: s.types}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// startBridge starts a bridge in this process, as it runs in its own, and returns its URL.
func startBridge(t *testing.T, args ...string) string {
	t.Helper()
	p := &e2etest.Program{Log: &e2etest.LockedBuffer{}}
	return e2etest.StartOne(t, p, nil, append([]string{"bridge", "--http=127.0.0.1:0"}, args...)...)[0]
}
