package interop

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// What the bridge makes of a service of Google's own making is what its REST face does.
func TestShowcase(t *testing.T) {
	s := startServers(t)
	bridge := startBridge(t, "--server="+s.Showcase, "--expose=*")
	const p = "google.showcase.v1beta1."
	user := create(t, bridge, `POST /v1beta1/users`, `{"user":{"displayName":"Ada","email":"ada@example.com","age":0,"heightFeet":5.5,"enableNotifications":false}}`)
	room := create(t, bridge, `POST /v1beta1/rooms`, `{"room":{"displayName":"a room"}}`)
	text := create(t, bridge, "POST /v1beta1/"+room+"/blurbs", `{"blurb":{"user":"`+user+`","text":"ü\n"}}`)
	image := create(t, bridge, "POST /v1beta1/"+user+"/profile/blurbs", `{"blurb":{"user":"`+user+`","image":"AP8="}}`)
	for _, tt := range []struct{ request, message string }{
		{"POST /v1beta1/echo:echo\n\n{\"content\":\"x\",\"severity\":\"URGENT\",\"otherRequestId\":\"\"}", "EchoResponse"},
		{"POST /v1beta1/echo:echo\n\n{\"error\":{\"code\":5,\"message\":\"no such thing\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":\"R\"}]}}", ""},
		{"POST /v1beta1/echo:error-details\n\n{\"singleDetailText\":\"one\",\"multiDetailText\":[\"a\",\"b\"]}", "EchoErrorDetailsResponse"},
		{"POST /v1beta1/echo:expand\n\n{\"content\":\"the quick brown fox\",\"streamWaitTime\":\"0.001s\"}", "EchoResponse"},
		{"POST /v1beta1/echo:pagedExpand\n\n{\"content\":\"a b c\",\"pageSize\":2}", "PagedExpandResponse"},
		{"POST /v1beta1/echo:pagedExpandLegacyMapped\n\n{\"content\":\"apple ant bee\",\"pageSize\":3}", "PagedExpandLegacyMappedResponse"},
		{"POST /v1beta1/echo:block\n\n{\"responseDelay\":\"0.001s\",\"success\":{\"content\":\"x\"}}", "BlockResponse"},
		{"GET /v1beta1/compliance/enum", "EnumResponse"},
		{"GET /v1beta1/compliance/enum?unknownEnum=true", "EnumResponse"}, // one that is out of range
		{"GET /v1beta1/" + user, "User"},
		{"GET /v1beta1/users/none", ""},
		{"GET /v1beta1/users?pageSize=1", "ListUsersResponse"},
		{"GET /v1beta1/" + room, "Room"},
		{"POST /v1beta1/echo:echo\n\n{\"content\":", "400"},
		{"POST /v1beta1/echo:echo\n\n{\"contents\":\"x\"}", "400"},
		{"GET /v1beta1/repeat:query?info.fInt32=x", "400"},
		{"GET /v1beta1/repeat:query?info.fKingdom=NONE", "400"},
	} {
		switch tt.message {
		case "400": // each in its own words
			for _, base := range []string{bridge, "http://" + s.ShowcaseHTTP} {
				if a := ask(t, base, tt.request, nil); a.status != 400 || a.failure == "" {
					t.Errorf("%s: %d %s", tt.request, a.status, a.body)
				}
			}
		case "":
			s.same(t, bridge, "http://"+s.ShowcaseHTTP, tt.request, "", (*answer).readShowcase)
		default:
			s.same(t, bridge, "http://"+s.ShowcaseHTTP, tt.request, protoreflect.FullName(p+tt.message), (*answer).readShowcase)
		}
	}

	// What is not the same, each with its reason.
	for request, want := range map[string]string{
		// JSON has numbers for enums, too. The showcase has its own clients send names.
		"POST /v1beta1/echo:echo\n\n{\"severity\":77}": `"severity":77`,
		// Its routes take a variable of several segments for one of more.
		"GET /v1beta1/" + text:                                `"text":"ü\n"`,
		"GET /v1beta1/" + image:                               `"image":"AP8="`,
		"GET /v1beta1/" + room + "/blurbs?pageSize=5":         `{"blurbs":[{"name":"` + text,
		"GET /v1beta1/" + user + "/profile/blurbs?pageSize=5": `{"blurbs":[{"name":"` + image,
		"GET /v1beta1/rooms/none/blurbs":                      "Parent rooms/none not found.",
		// The time of the update. The mask is in the query as it is in JSON.
		"PATCH /v1beta1/" + user + "?updateMask=displayName,age\n\n{\"displayName\":\"Grace\",\"email\":\"not@taken\"}": `"displayName":"Grace","email":"ada@example.com"`,
	} {
		if a := ask(t, bridge, request, nil); !strings.Contains(a.body, want) {
			t.Errorf("%s: %d %s, want %s", request, a.status, a.body, want)
		}
	}
}

// create creates something, and returns its name.
func create(t *testing.T, bridge, request, body string) string {
	t.Helper()
	a := ask(t, bridge, request+"\n\n"+body, nil)
	var made struct{ Name string }
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.Name == "" {
		t.Fatalf("%s: %d %s", request, a.status, a.body)
	}
	return made.Name
}

// Streams of the showcase's, which its REST face does not end as well: one that fails in the
// middle, one that waits for what others do.
func TestShowcaseStreams(t *testing.T) {
	s := startServers(t)
	bridge := startBridge(t, "--server="+s.Showcase, "--expose=*", "--commit-window=200ms")
	const failure = `{"code":14,"message":"later","details":[{"@type":"type.googleapis.com/google.showcase.v1beta1.User","name":"users/1"},{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.500s"}]}`
	a := ask(t, bridge, "POST /v1beta1/echo:expand\n\n{\"content\":\"a b\",\"error\":"+failure+"}", nil)
	if want := `event: error
data: {"error":{"code":503,"status":"UNAVAILABLE","message":"later",` + failure[strings.Index(failure, `"details"`):] + "}\n\n"; len(a.messages) != 2 || !strings.HasSuffix(a.body, want) {
		t.Errorf("got  %d %s\nwant %s", a.status, a.body, want)
	}
	if a := ask(t, bridge, "POST /google.showcase.v1beta1.Echo/Chat\n\n{}", nil); a.status != 501 {
		t.Errorf("a method that takes a stream: %d %s", a.status, a.body)
	}

	// What others do, each as soon as it is done, until there is no room for it. The server
	// looks at the clock as fast as it can until then, so this is short.
	room := create(t, bridge, `POST /v1beta1/rooms`, `{"room":{"displayName":"a room"}}`)
	until := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
	resp, err := http.Post(bridge+"/v1beta1/"+room+"/blurbs:stream", "application/json", strings.NewReader(`{"expireTime":"`+until+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	blurb := create(t, bridge, "POST /v1beta1/"+room+"/blurbs", `{"blurb":{"user":"users/1","text":"said"}}`)
	events := bufio.NewScanner(resp.Body)
	for _, tt := range []struct{ remove, said, how string }{
		{"/v1beta1/" + blurb, `"name":"` + blurb + `"`, `"action":"CREATE"`},
		{"/v1beta1/" + room, `"name":"` + blurb + `"`, `"action":"DELETE"`},
		{"", `"status":"NOT_FOUND"`, room},
	} {
		for events.Scan() && !strings.HasPrefix(events.Text(), "data: ") {
		}
		if line := events.Text(); !strings.Contains(line, tt.said) || !strings.Contains(line, tt.how) {
			t.Errorf("got %s, %v, want %s %s", line, events.Err(), tt.said, tt.how)
		}
		if tt.remove != "" {
			ask(t, bridge, "DELETE "+tt.remove, nil)
		}
	}
}
