package bridge_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
)

const shelves = `
syntax = "proto3";
package bound.v1;
import "google/api/annotations.proto";
enum Kind { KIND_UNSPECIFIED = 0; PAPER = 1; STONE = 2; }
message Book { string name = 1; Kind kind = 2; repeated string tags = 3; repeated Kind kinds = 4; oneof by { string author = 5; string editor = 6; Kind of_kind = 7; } optional Kind maybe = 8; string title = 9; }
message Change { Book book = 1; string mask = 2; }
service Shelves {
  rpc Put(Book) returns (Book) { option (google.api.http) = {
    put: "/name/{name}" body: "*"
    additional_bindings { put: "/kind/{kind}" body: "*" }
    additional_bindings { put: "/tags/{tags}" body: "*" }
    additional_bindings { put: "/kinds/{kinds}" body: "*" }
    additional_bindings { put: "/author/{author}" body: "*" }
    additional_bindings { put: "/of/{of_kind}" body: "*" }
    additional_bindings { put: "/maybe/{maybe}" body: "*" }
    additional_bindings { get: "/twice/{name}/{name}" }
    additional_bindings { get: "/alias/{of_kind}/{ofKind}" }
  }; }
  rpc Update(Change) returns (Change) { option (google.api.http) = {
    patch: "/book/{book.name}" body: "book"
    additional_bindings { patch: "/bookKind/{book.kind}" body: "book" }
    additional_bindings { patch: "/bookAuthor/{book.author}" body: "book" }
  }; }
  rpc Put_2(Book) returns (Book);
}
`

// What the path has counts, whatever a body says of the same field: who updates something
// sends all of it. Generated gateways have it so.
func TestExposedPathBeforeBody(t *testing.T) {
	echo := func(c *transcodetest.Call) error { return c.SendMsg(c.Request) }
	s := &transcodetest.Server{Proto: shelves, Methods: map[string]func(*transcodetest.Call) error{"Put": echo, "Update": echo}}
	addr, _ := s.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	for _, tt := range []struct{ request, want string }{
		{"PUT /name/x\n\n{\"name\":\"y\",\"title\":\"t\"}", `{"name":"x","title":"t"}`},
		{"PUT /kind/STONE\n\n{\"kind\":\"PAPER\",\"title\":\"t\"}", `{"kind":"STONE","title":"t"}`},
		{"PUT /kind/0\n\n{\"kind\":\"PAPER\",\"title\":\"t\"}", `{"title":"t"}`},
		{"PUT /tags/a,b\n\n{\"tags\":[\"a\",\"b\"]}", `{"tags":["a","b"]}`},
		{"PUT /kinds/1,STONE\n\n{\"kinds\":[\"PAPER\",\"STONE\"]}", `{"kinds":["PAPER","STONE"]}`},
		{"PUT /author/x\n\n{\"author\":\"x\",\"title\":\"t\"}", `{"author":"x","title":"t"}`},
		{"PUT /of/PAPER\n\n{\"ofKind\":\"STONE\"}", `{"ofKind":"PAPER"}`},
		{"PUT /maybe/PAPER\n\n{\"maybe\":\"STONE\"}", `{"maybe":"PAPER"}`},
		{"PATCH /book/x\n\n{\"name\":\"x\",\"title\":\"t\"}", `{"book":{"name":"x","title":"t"}}`},
		{"PATCH /bookKind/STONE\n\n{\"kind\":\"STONE\",\"title\":\"t\"}", `{"book":{"kind":"STONE","title":"t"}}`},
		{"PATCH /bookAuthor/x\n\n{\"author\":\"x\",\"title\":\"t\"}", `{"book":{"author":"x","title":"t"}}`},
	} {
		if a := ask(t, url, tt.request); a.StatusCode != 200 || !sameJSON(a.body, tt.want) {
			t.Errorf("%s: %d %s, want %s", tt.request, a.StatusCode, a.body, tt.want)
		}
	}
	// The other one of a oneof is no repetition.
	if a := ask(t, url, "PUT /author/x\n\n{\"editor\":\"y\"}"); a.StatusCode != 400 {
		t.Errorf("two of a oneof: %d %s", a.StatusCode, a.body)
	}
	// A field cannot have two values.
	for _, path := range []string{"/twice/a%252541/b%252541", "/alias/PAPER/STONE"} {
		if a := ask(t, url, "GET "+path); a.StatusCode != 404 {
			t.Errorf("%s: %d %s", path, a.StatusCode, a.body)
		}
	}
}

func sameJSON(a, b string) bool {
	var one, other any
	return json.Unmarshal([]byte(a), &one) == nil && json.Unmarshal([]byte(b), &other) == nil && reflect.DeepEqual(one, other)
}
