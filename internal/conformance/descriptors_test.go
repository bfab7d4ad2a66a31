package conformance

import (
	"debug/buildinfo"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
)

// compileDescriptors returns the descriptors of the service that is called, and of the
// messages between the runner and a client. They come with the runner's source, which go
// install has left in the cache of modules: none of it is kept here, and the version is
// always the runner's.
func compileDescriptors(t *testing.T, runnerName string) []byte {
	t.Helper()
	info, err := buildinfo.ReadFile(runnerName)
	if err != nil {
		t.Fatal(err)
	}
	download := exec.CommandContext(t.Context(), "go", "mod", "download", "-json", info.Main.Path+"@"+info.Main.Version)
	out, err := download.Output()
	var module struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil {
		t.Fatalf("find the source of %s %s: %v", info.Main.Path, info.Main.Version, err)
	}
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		ImportPaths: []string{filepath.Join(module.Dir, "proto")},
	})}
	files, err := compiler.Compile(t.Context(), "connectrpc/conformance/v1/client_compat.proto")
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(transcodetest.FileSet(files[0]))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
