package transcode

import (
	"log/slog"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/descriptors"
	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
)

// No two operations have one name, whatever methods are called.
func TestOperationIDsAreUnique(t *testing.T) {
	files, _ := transcodetest.Compile(t, `
syntax = "proto3";
import "google/api/annotations.proto";
message M { string name = 1; }
service S {
  rpc Get_2(M) returns (M);
  rpc Get(M) returns (M) { option (google.api.http) = { get: "/a/{name}" additional_bindings { get: "/b/{name}" } }; }
  rpc Get_3(M) returns (M) { option (google.api.http) = { get: "/c/{name}" }; }
}`)
	d, err := files.FindDescriptorByName("S")
	if err != nil {
		t.Fatal(err)
	}
	exposure, err := NewExposure([]string{"*"})
	if err != nil {
		t.Fatal(err)
	}
	table := newTable(&descriptors.Set{Services: []protoreflect.ServiceDescriptor{d.(protoreflect.ServiceDescriptor)}}, exposure, slog.New(slog.DiscardHandler))
	seen := map[string]*Binding{}
	for b, id := range table.operationIDs() {
		if other := seen[id]; other != nil {
			t.Errorf("%s is %s of %s and %s of %s", id, b.Pattern, b.Method.Path, other.Pattern, other.Method.Path)
		}
		seen[id] = b
	}
	if len(seen) < 6 {
		t.Errorf("got %d", len(seen))
	}
}
