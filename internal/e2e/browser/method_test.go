package browser

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

const counterProto = `
syntax = "proto3";
package test.v1;
import "google/api/annotations.proto";
message Request { int32 times = 1; }
message Number { int64 number = 1; string mine = 2; }
service Counter {
  rpc CountUp(Request) returns (stream Number) { option (google.api.http) = { get: "/count" }; }
  rpc Count(Request) returns (Number) { option (google.api.http) = { put: "/count" body: "*" }; }
}`

// newCounter serves a stranger's methods. It returns where.
func newCounter(t *testing.T) string {
	t.Helper()
	count := func(c *transcodetest.Call) error {
		md, _ := metadata.FromIncomingContext(c.Context())
		c.SetTrailer(metadata.Pairs("count", "all"))
		for i := range max(c.Request.Get(c.Request.Descriptor().Fields().ByName("times")).Int(), 1) {
			if err := c.Send(fmt.Sprintf(`{"number":"%d","mine":%q}`, i+1, strings.Join(md.Get("x-mine"), ","))); err != nil {
				return err
			}
		}
		return nil
	}
	addr, _ := (&transcodetest.Server{Proto: counterProto, Methods: map[string]func(*transcodetest.Call) error{"CountUp": count, "Count": count}}).Serve(t, "")
	return addr
}

// What a page reads of methods: by client.js, by EventSource, by fetch.
const readMethods = `(async () => {
  const { streamMethod } = await import(PROGRAM + "/client.js");
  const said = [];
  const call = streamMethod(PROGRAM + "/test.v1.Counter/CountUp", { times: 3 }, { headers: { "X-Mine": "a" } });
  for await (const { number, mine } of call) said.push(number + mine);
  said.push(call.trailers.count[0]);
  const source = new EventSource(PROGRAM + "/count?times=2");
  await new Promise((ended) => {
    source.onmessage = ({ data }) => said.push(JSON.parse(data).number);
    source.addEventListener("finished", ({ data }) => ended(said.push(JSON.parse(data).trailers.count[0])));
  });
  source.close();
  for (const [method, path] of [["POST", "/test.v1.Counter/Count"], ["PUT", "/count"]]) {
    const answer = await fetch(PROGRAM + path, { method, headers: { "Content-Type": "application/json", "X-Mine": "b", "Grpc-Timeout": "10S" }, body: "{}" });
    const { number, mine } = await answer.json();
    said.push(answer.status + number + mine + answer.headers.get("Grpc-Trailer-Count"));
  }
  return said.join(" ");
})().catch((error) => "" + error)`

// A page of another origin reads a stranger's methods, with nothing generated.
func testMethodsInBrowser(t *testing.T, b browser) {
	origin := newOrigin(t)
	p := &e2etest.Program{Log: &e2etest.LockedBuffer{}, Printed: &e2etest.LockedBuffer{}}
	p.HTTP = e2etest.StartOne(t, p, nil, "bridge", "--http=127.0.0.1:0", "--server="+newCounter(t), "--expose=test.v1.Counter", "--forward-header=X-Mine", "--cors-origin="+origin)[0]
	page := b.open(t, origin)
	got := eval[string](page, strings.ReplaceAll(readMethods, "PROGRAM", quote(p.HTTP)))
	if want := "1a 2a 3a all 1 2 all 2001ball 2001ball"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
