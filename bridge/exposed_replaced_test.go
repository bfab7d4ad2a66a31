package bridge_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge"
	"github.com/sluice-sse/sluice/bridge/transcode/transcodetest"
)

// newer is greeter after a while: with a new field, in both directions, and a new method.
var newer = strings.NewReplacer(
	"message Greeting { ", "message Greeting { string note = 20; Mood mood = 21; ",
	"string text = 4; }", "string text = 4; bool loud = 20; }",
	"service Greeter {", "service Greeter { rpc Shout(Request) returns (Greeting) { option (google.api.http) = { get: \"/shout\" }; }",
	"SAD = 2;", "SAD = 2; ANGRY = 3;",
).Replace(greeter)

// eventually asks until an answer is as it should be, for longer than descriptors may be old.
func eventually(t *testing.T, url, request string, status int, body string) {
	t.Helper()
	var a answer
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if a = ask(t, url, request); a.StatusCode == status && strings.Contains(a.body, body) {
			return
		}
	}
	t.Errorf("%s: %d %s, want %d %s", request, a.StatusCode, a.body, status, body)
}

// open opens a stream, and returns a reader of it that has read the first message.
func open(t *testing.T, url, path string) *bufio.Reader {
	t.Helper()
	r := bufio.NewReader(openBody(t, url, path))
	readUntil(t, r, "\n\n")
	return r
}

func openBody(t *testing.T, url, path string) io.Reader {
	t.Helper()
	resp, err := http.Post(url+path, "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp.Body
}

// readUntil reads until something has come.
func readUntil(t *testing.T, r *bufio.Reader, want string) string {
	t.Helper()
	var all strings.Builder
	for !strings.Contains(all.String(), want) {
		c, err := r.ReadByte()
		if err != nil {
			t.Fatalf("%v after %s, want %s", err, all.String(), want)
		}
		all.WriteByte(c)
	}
	return all.String()
}

// A server is replaced by one that has a field, an enum value, a method and a route more.
// What runs ends with the server, and is told so. The next calls work, and soon have all that
// is new; a stream that has begun with what was known goes on with what is.
func TestExposedServerIsReplaced(t *testing.T) {
	old := newGreeter()
	old.Methods["GreetOften"] = func(c *transcodetest.Call) error {
		err := c.Send(`{"text":"old"}`)
		<-c.Context().Done()
		return err
	}
	addr, stop := old.Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	running := open(t, url, "/test.v1.Greeter/GreetOften")
	stop()
	if end := readUntil(t, running, "\n\n"); !strings.HasPrefix(end, "event: error\ndata: {\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\",\"message\":\"the server cannot be reached: try again\"") {
		t.Errorf("a stream of a server that is gone ends with %s", end)
	}
	if a := ask(t, url, "POST /test.v1.Greeter/Greet\n\n{}"); a.StatusCode != 503 || strings.Contains(a.body, addr) {
		t.Errorf("while there is no server: %d %s", a.StatusCode, a.body)
	}

	say := func(c *transcodetest.Call) error {
		return c.Send(fmt.Sprintf(`{"text":%q,"note":"new","mood":"ANGRY"}`, c.JSON()))
	}
	long := func(c *transcodetest.Call) error {
		for range 150 {
			if err := say(c); err != nil {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	}
	(&transcodetest.Server{Proto: newer, Methods: map[string]func(*transcodetest.Call) error{"Greet": say, "Shout": say, "GreetOften": long}}).Serve(t, addr)
	eventually(t, url, "POST /test.v1.Greeter/Greet\n\n{}", 200, `"text":"{}"`) // the connection stands again
	stream := open(t, url, "/test.v1.Greeter/GreetOften")
	readUntil(t, stream, `"note":"new","mood":"ANGRY"`)
	for _, request := range []string{
		"POST /test.v1.Greeter/Greet\n\n{\"loud\":true}", "POST /test.v1.Greeter/Greet\n\n{\"name\":{\"mood\":\"ANGRY\"}}",
		"POST /test.v1.Greeter/Shout\n\n{}", "GET /shout?loud=true",
	} {
		eventually(t, url, request, 200, `"note":"new","mood":"ANGRY"`)
	}
}

// A request that only a newer server understands is not refused for want of newer descriptors.
func TestExposedRequestIsNewer(t *testing.T) {
	addr, stop := newGreeter().Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	eventually(t, url, "POST /test.v1.Greeter/Greet\n\n{}", 200, "{}")
	stop()
	(&transcodetest.Server{Proto: newer, Methods: map[string]func(*transcodetest.Call) error{"Greet": echo, "Shout": echo}}).Serve(t, addr)
	time.Sleep(2100 * time.Millisecond) // descriptors may be asked for again
	eventually(t, url, "GET /readyz", 200, "ok")
	if a := ask(t, url, "POST /test.v1.Greeter/Shout\n\n{\"loud\":true}"); a.StatusCode != 200 || !strings.Contains(a.body, "'loud':true") {
		t.Errorf("a new method: %d %s", a.StatusCode, a.body)
	}
	eventually(t, url, "POST /test.v1.Greeter/Greet\n\n{\"loud\":true}", 200, "'loud':true")
}

// Without reflection, what was known stays good.
func TestExposedReflectionIsGone(t *testing.T) {
	addr, stop := newGreeter().Serve(t, "")
	url := expose(t, addr, bridge.Config{})
	eventually(t, url, "POST /test.v1.Greeter/Greet\n\n{}", 200, "{}")
	stop()
	mute := newGreeter()
	mute.Reflection = "none"
	mute.Serve(t, addr)
	eventually(t, url, "POST /test.v1.Greeter/Greet\n\n{\"times\":1}", 200, "{'times':1}")
	if a := ask(t, url, "POST /test.v1.Greeter/NoSuch\n\n{}"); a.StatusCode != 404 {
		t.Errorf("a method that is not there: %d %s", a.StatusCode, a.body)
	}
}

// Of a server that has never said what it has, nothing can be told; what is not exposed and
// what is not there cannot be told apart then, either.
func TestExposedNothingIsKnown(t *testing.T) {
	mute := newGreeter()
	mute.Reflection = "none"
	addr, _ := mute.Serve(t, "")
	url := expose(t, addr, bridge.Config{Expose: []string{"test.v1.Greeter"}})
	var bodies []string
	for _, path := range []string{"/test.v1.Greeter/Greet", "/test.v1.Other/Greet", "/no.Such/Thing"} {
		a := ask(t, url, "POST "+path+"\n\n{}")
		bodies = append(bodies, fmt.Sprint(a.StatusCode, a.body))
	}
	if bodies[0] != bodies[1] || bodies[1] != bodies[2] || !strings.HasPrefix(bodies[0], "503") {
		t.Errorf("%q", bodies)
	}
}

func TestExposedReflectionVersions(t *testing.T) {
	for _, version := range []string{"v1", "v1alpha"} {
		s := newGreeter()
		s.Reflection = version
		addr, _ := s.Serve(t, "")
		url := expose(t, addr, bridge.Config{})
		if a := ask(t, url, "POST /test.v1.Greeter/Greet\n\n{}"); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", version, a.StatusCode, a.body)
		}
	}
}
