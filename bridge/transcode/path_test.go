package transcode

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
)

// What an escaped slash, colon or percent sign stands for, by google/api/http.proto: a value,
// never a part of the path; and it stays escaped in what has several segments, where it could
// not be told from what ends one.
func TestEscapedPath(t *testing.T) {
	for _, tt := range []struct{ pattern, path, want string }{
		{"/v1/{x}", "/v1/a", "a"},
		{"/v1/{x}", "/v1/a%20b%2Fc%2fd%3Ae%25%E2%98%BA", "a b/c/d:e%☺"},
		{"/v1/{x=*}", "/v1/a%2Fb", "a/b"},
		{"/v1/{x}", "/v1/a%252Fb", "a%2Fb"},
		{"/v1/{x=**}", "/v1/a/b%2Fc%3Ad%25", "a/b%2Fc:d%"},
		{"/v1/{x=**}", "/v1/a%2fb", "a%2fb"},
		{"/v1/{x=shelves/*}", "/v1/shelves/a%2Fb%20c", "shelves/a%2Fb c"},
		{"/v1/{x=shelves/*}", "/v1/shelves%2Fa", "none"},
		{"/v1/{x}", "/v1%2Fa", "none"},
		{"/v1/{x}", "/%76%31/a", "a"}, // the same path
		{"/v1/{x}:verb", "/v1/a:verb", "a"},
		{"/v1/{x}:verb", "/v1/a%3Averb", "none"},
		{"/v1/{x}", "/v1/a%3Averb", "a:verb"},
		{"/v1/{x}/{y=b/**}:verb", "/v1/a/b/c/d:verb", "a b/c/d"},
	} {
		mux := newMux()
		b := &Binding{HTTPMethod: "GET", Pattern: tt.pattern, variables: variables(tt.pattern)}
		if err := mux.HandlePath(b.HTTPMethod, b.Pattern, b.found); err != nil {
			t.Fatal(err)
		}
		got := "none"
		if m := (&Table{mux: mux}).find(httptest.NewRequest("GET", tt.path, nil), "GET"); m.binding != nil {
			got = m.params["x"]
			if y := m.params["y"]; y != "" {
				got += " " + y
			}
		}
		if got != tt.want {
			t.Errorf("%s of %s: %q, want %q", tt.path, tt.pattern, got, tt.want)
		}
	}
}

// A path of ten times as many fields takes about ten times as long, not a hundred: whoever
// calls may write one of thousands.
func TestDeepPathsTakeNoSquare(t *testing.T) {
	files, _ := transcodetest.Compile(t, `syntax = "proto3"; message Tree { Tree t = 1; }`)
	tree, err := files.FindDescriptorByName("Tree")
	if err != nil {
		t.Fatal(err)
	}
	took := func(deep int) (least time.Duration) {
		path := strings.Split(strings.Repeat("t.", deep)+"t", ".")
		for range 5 {
			begin := time.Now()
			if names := fieldNames(tree.(protoreflect.MessageDescriptor), path); len(names) != deep+1 {
				t.Fatalf("%d names of %d", len(names), deep+1)
			}
			if d := time.Since(begin); least == 0 || d < least {
				least = d
			}
		}
		return least
	}
	if short, long := took(800), took(8000); long > 45*short {
		t.Errorf("ten times as many names take %v, in place of %v", long, short)
	}
}
