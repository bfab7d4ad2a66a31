package interop

import (
	"strings"
	"testing"
)

// A service that is proto2, with what is required and what is unset; and one that answers with
// what it was sent.
func TestGRPCBin(t *testing.T) {
	s := startServers(t)
	bridge := startBridge(t, "--server="+s.Bin, "--expose=*", "--forward-header=X-Mine")
	for request, want := range map[string]string{
		"POST /hello.HelloService/SayHello\n\n{}":                        `{"reply":"hello noname"}`,
		"POST /hello.HelloService/SayHello\n\n{\"greeting\":\"\"}":       `{"reply":"hello "}`,
		"POST /hello.HelloService/LotsOfReplies\n\n{\"greeting\":\"ü\"}": `{"reply":"hello ü"}`,
		"POST /grpcbin.GRPCBin/HeadersUnary\n\n{}":                       `"Metadata":{`,
	} {
		a := ask(t, bridge, request, nil)
		if a.status != 200 || len(a.messages) == 0 || !strings.Contains(a.messages[0], want) || a.streams() != (len(a.messages) == 10) {
			t.Errorf("%s: %d %s, want %s", request, a.status, a.body, want)
		}
	}
	const dummy = `{"fString":"ü","fStrings":["a",""],"fInt32":-1,"fInt32s":[1,0],"fEnum":"ENUM_2","fEnums":["ENUM_1",9],"fSub":{"fString":"s"},"fSubs":[{},{"fString":"t"}],` +
		`"fBool":true,"fBools":[true,false],"fInt64":"9223372036854775807","fInt64s":["-1"],"fBytes":"AP8=","fBytess":["",""],"fFloat":1.5,"fFloats":[0.1,"NaN"]}`
	if a := ask(t, bridge, "POST /grpcbin.GRPCBin/DummyUnary\n\n"+dummy, nil); a.failure != "" || !s.equal(t, "", a.body, dummy) {
		t.Errorf("got  %s\nwant %s", a.body, dummy)
	}
	// A second passes before each next one: the first is there at once, and the server hears
	// of the deadline.
	a := ask(t, bridge, "POST /grpcbin.GRPCBin/DummyServerStream\nGrpc-Timeout: 300m\n\n"+dummy, nil)
	if len(a.messages) != 1 || !s.equal(t, "", a.messages[0], dummy) || a.failure == "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	for code, status := range map[string]int{"3": 400, "5": 404, "8": 429, "16": 401, "14": 503} {
		if a := ask(t, bridge, "POST /grpcbin.GRPCBin/SpecificError\n\n{\"code\":"+code+",\"reason\":\"so\"}", nil); a.status != status || a.failure != "so" {
			t.Errorf("code %s: %d %s", code, a.status, a.body)
		}
	}
}
