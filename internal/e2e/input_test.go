package e2e

import (
	"cmp"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

const maxBody = 64 << 10 // of the program in these tests

// chat is a chat with more members of the request's JSON.
func chat(members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"messages":[{"role":"user","content":"Hi"}]` + members + `}`
}

// nested is a JSON value in n arrays or objects.
func nested(n int, left, right string) string {
	return strings.Repeat(left, n) + "1" + strings.Repeat(right, n)
}

// padded is a valid request of exactly n bytes.
func padded(n int) string {
	s := chat("")
	return s[:len(s)-1] + strings.Repeat(" ", n-len(s)) + "}"
}

// badInput is a mistake of a caller's. The message must say what to mend: each of
// says stands in it.
type badInput struct {
	name   string
	body   string
	method string   // default POST
	header []string // default: none
	status int      // default 400
	says   []string
	fields []string // in BadRequest; default: body
}

// badHTTP is what can be wrong with an HTTP request.
var badHTTP = []badInput{
	{name: "not JSON", body: "Hello", says: []string{"JSON", "Hello", "1:1"}},
	{name: "a form", body: "prompt=Hello", header: []string{"Content-Type", "application/json"}, says: []string{"JSON", "1:1"}},
	{name: "cut off", body: `{"prompt":"Hello`, says: []string{"JSON"}},
	{name: "empty", says: []string{"empty"}},
	{name: "white space", body: " \r\n\t", says: []string{"empty"}},
	{name: "null", body: "null", says: []string{"JSON", "null"}},
	{name: "a list", body: "[]", says: []string{"JSON", "["}},
	{name: "a string", body: `"Hello"`, says: []string{"JSON", "Hello"}},
	{name: "single quotes", body: `{'prompt':'Hello'}`, says: []string{"JSON", "1:2"}},
	{name: "byte order mark", body: "\uFEFF" + chat(""), says: []string{"JSON", "1:1"}},
	{name: "two values", body: chat("") + chat(""), says: []string{"JSON", "1:"}},
	{name: "trailing bytes", body: `{"prompt":"Hello"} x`, says: []string{"x", "1:20"}},
	{name: "trailing brace", body: `{"prompt":"Hello"}}`, says: []string{"}", "1:19"}},
	{name: "trailing NUL", body: "{\"prompt\":\"Hello\"}\x00", says: []string{"1:19"}},
	{name: "unknown field", body: chat(`"temprature":1`), says: []string{"temprature", "unknown"}},
	{name: "unknown nested field", body: `{"messages":[{"role":"user","contents":"Hi"}]}`, says: []string{"contents", "unknown"}},
	{name: "n", body: chat(`"n":2`), says: []string{`"n"`, "unknown"}},
	{name: "stream", body: chat(`"stream":true`), says: []string{`"stream"`, "unknown"}},
	{name: "field twice", body: `{"prompt":"a","prompt":"b"}`, says: []string{"prompt", "duplicate"}},
	{name: "wrong type: prompt", body: `{"prompt":1}`, says: []string{"prompt", "1"}},
	{name: "wrong type: messages", body: `{"messages":"Hi"}`, says: []string{"Hi", "1:13"}},
	{name: "wrong type: max_tokens", body: chat(`"max_tokens":"many"`), says: []string{"maxTokens", "many", "1:59"}},
	{name: "max_tokens with a fraction", body: chat(`"max_tokens":1.5`), says: []string{"maxTokens", "1.5", "1:59"}},
	{name: "max_tokens too large", body: chat(`"max_tokens":2147483648`), says: []string{"maxTokens", "2147483648", "1:59"}},
	{name: "temperature too large a number", body: chat(`"temperature":1e999`), says: []string{"temperature", "1e999"}},
	{name: "invalid UTF-8", body: "{\"prompt\":\"caf\xe9\"}", says: []string{"UTF-8"}},
	{name: "half of a surrogate pair", body: `{"prompt":"\ud83d alone"}`, says: []string{"escape", "1:11"}},
	{name: "10,000 arrays", body: nested(10_000, "[", "]"), says: []string{"JSON", "["}},
	{name: "10,000 objects in a schema",
		body: chat(`"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"a":` + nested(10_000, `[`, "]") + `}}}`),
		says: []string{"nested too deep"}},
	{name: "10,000 objects in an unknown field", body: chat(`"unknown":` + nested(5_000, `{"a":`, "}")), says: []string{"unknown"}},

	{name: "one byte too many", body: padded(maxBody + 1), status: 413, says: []string{"65536 bytes"}},
	{name: "far too many bytes", body: padded(1 << 20), status: 413, says: []string{"65536 bytes"}},
	{name: "curl's default", body: chat(""), header: []string{"Content-Type", "application/x-www-form-urlencoded"},
		status: 415, fields: []string{"Content-Type"}, says: []string{"application/json", "application/x-www-form-urlencoded"}},
	{name: "plain text", body: chat(""), header: []string{"Content-Type", "text/plain;charset=UTF-8"},
		status: 415, fields: []string{"Content-Type"}, says: []string{"application/json", "text/plain"}},
	{name: "no media type", body: chat(""), header: []string{"Content-Type", "json"}, status: 415, fields: []string{"Content-Type"}, says: []string{"application/json"}},
	{name: "compressed", body: "\x1f\x8b", header: []string{"Content-Encoding", "gzip"}, status: 415, fields: []string{"Content-Encoding"}, says: []string{"gzip"}},
	{name: "unacceptable", body: chat(""), header: []string{"Accept", "image/png"},
		status: 406, fields: []string{"Accept"}, says: []string{"text/event-stream", "application/json"}},
	{name: "GET", method: "GET", status: 405, fields: []string{"method"}, says: []string{"POST", "GET"}},
	{name: "PUT", method: "PUT", body: chat(""), status: 405, fields: []string{"method"}, says: []string{"POST", "PUT"}},
	{name: "DELETE", method: "DELETE", status: 405, fields: []string{"method"}, says: []string{"POST", "DELETE"}},
	{name: "two keys", body: chat(`"idempotency_key":"a"`), header: []string{"Idempotency-Key", "b"},
		says: []string{"Idempotency-Key", "idempotency_key"}, fields: []string{"Idempotency-Key"}},

	// What is said of it is short, and UTF-8, whatever it is.
	{name: "a key in Latin-1", body: chat(""), header: []string{"Idempotency-Key", "caf\xe9"}, says: []string{"UTF-8"}, fields: []string{"Idempotency-Key"}},
	{name: "an encoding in Latin-1", body: chat(""), header: []string{"Content-Encoding", "caf\xe9"}, status: 415, fields: []string{"Content-Encoding"}, says: []string{"caf"}},
	{name: "a long type", body: chat(""), header: []string{"Content-Type", strings.Repeat("a", 50_000)}, status: 415, fields: []string{"Content-Type"}, says: []string{"application/json"}},
	{name: "a long value", body: chat(`"max_tokens":"` + strings.Repeat("é", 30_000) + `"`), says: []string{"1:59", "maxTokens", "éé"}},
	{name: "a long number", body: chat(`"max_tokens":1` + strings.Repeat("0", 60_000)), says: []string{"1:59", "maxTokens", "1000"}},
	{name: "a long name", body: chat(`"a` + strings.Repeat("é", 30_000) + `":1`), says: []string{"1:46", "unknown", "aéé", "extra"}},
	{name: "a long name in a message", body: `{"messages":[{"` + strings.Repeat("é", 30_000) + `":1}]}`, says: []string{"1:15", "unknown", "éé"}},
	{name: "a long name twice", body: chat(`"metadata":{` + strings.Repeat(`"`+strings.Repeat("k", 30_000)+`":"",`, 2) + `"":""}`), says: []string{"duplicate", "kk"}},
}

// badRequests are mistakes that can be made on each face.
var badRequests = []badInput{
	{name: "nothing to complete", body: "{}", says: []string{"messages", "prompt"}, fields: []string{"messages"}},
	{name: "no messages", body: `{"messages":[]}`, says: []string{"messages", "prompt"}, fields: []string{"messages"}},
	{name: "prompt and messages", body: chat(`"prompt":"Hello"`), says: []string{"messages", "prompt"}, fields: []string{"prompt"}},
	{name: "unknown role", body: `{"messages":[{"role":"robot","content":"Hi"}]}`,
		says: []string{"messages[0].role", "assistant"}, fields: []string{"messages[0].role"}},
	{name: "no role", body: `{"messages":[{"content":"Hi"}]}`,
		says: []string{"messages[0].role", "user"}, fields: []string{"messages[0].role"}},
	{name: "no content", body: `{"messages":[{"role":"user","content":"Hi"},{"role":"user"}]}`,
		says: []string{"messages[1].content", "parts"}, fields: []string{"messages[1].content"}},
	{name: "content and parts", body: `{"messages":[{"role":"user","content":"Hi","parts":[{"text":"Hi"}]}]}`,
		says: []string{"messages[0].parts", "content"}, fields: []string{"messages[0].parts"}},
	{name: "tool without the call's id", body: `{"messages":[{"role":"tool","content":"4"}]}`,
		says: []string{"tool_call_id"}, fields: []string{"messages[0].tool_call_id"}},
	{name: "image from a file", body: `{"messages":[{"role":"user","parts":[{"image_url":{"url":"file:///etc/passwd"}}]}]}`,
		says: []string{"image_url.url", "https:"}, fields: []string{"messages[0].parts[0].image_url.url"}},
	{name: "temperature too high", body: chat(`"temperature":2.1`), says: []string{"temperature", "0 and 2"}, fields: []string{"temperature"}},
	{name: "temperature below zero", body: chat(`"temperature":-0.1`), says: []string{"temperature", "0 and 2"}, fields: []string{"temperature"}},
	{name: "temperature not a number", body: chat(`"temperature":"NaN"`), says: []string{"temperature", "0 and 2"}, fields: []string{"temperature"}},
	{name: "top_p", body: chat(`"top_p":1.5`), says: []string{"top_p", "0 and 1"}, fields: []string{"top_p"}},
	{name: "penalties", body: chat(`"presence_penalty":3,"frequency_penalty":-3`), says: []string{"-2 and 2"},
		fields: []string{"presence_penalty", "frequency_penalty"}},
	{name: "max_tokens of zero", body: chat(`"max_tokens":0`), says: []string{"max_tokens", "at least 1"}, fields: []string{"max_tokens"}},
	{name: "17 stops", body: chat(`"stop":["a"` + strings.Repeat(`,"a"`, 16) + `]`), says: []string{"stop", "at most 16"}, fields: []string{"stop"}},
	{name: "empty stop", body: chat(`"stop":[""]`), says: []string{"stop[0]", "empty"}, fields: []string{"stop[0]"}},
	{name: "tools with a prompt", body: `{"prompt":"Hi","tools":[{"function":{"name":"f"}}]}`, says: []string{"tools", "messages"}, fields: []string{"tools"}},
	{name: "tool without a name", body: chat(`"tools":[{"function":{}}]`), says: []string{"name"}, fields: []string{"tools[0].function.name"}},
	{name: "tool_choice without tools", body: chat(`"tool_choice":"auto"`), says: []string{"tool_choice", "tools"}, fields: []string{"tool_choice"}},
	{name: "unknown format", body: chat(`"response_format":{"type":"yaml"}`), says: []string{"json_schema"}, fields: []string{"response_format.type"}},
	{name: "schema too deep", body: chat(`"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{"a":` + nested(110, "[", "]") + `}}}`),
		says: []string{"100 deep"}, fields: []string{"response_format.json_schema.schema"}},
	{name: "grace below zero", body: chat(`"disconnect_grace":"-1s"`), says: []string{"disconnect_grace", "negative"}, fields: []string{"disconnect_grace"}},
	{name: "long key", body: chat(`"idempotency_key":"` + strings.Repeat("k", 256) + `"`), says: []string{"255 bytes"}, fields: []string{"idempotency_key"}},
	{name: "long model", body: chat(`"model":"` + strings.Repeat("m", 256) + `"`), says: []string{"255 bytes"}, fields: []string{"model"}},
	{name: "both limits", body: chat(`"max_tokens":1,"max_completion_tokens":1`), says: []string{"max_tokens", "not both"}, fields: []string{"max_completion_tokens"}},
	{name: "a prompt with the newer limit", body: `{"prompt":"Hi","max_completion_tokens":1}`, says: []string{"set max_tokens"}, fields: []string{"max_completion_tokens"}},
	{name: "top_logprobs alone", body: chat(`"top_logprobs":1`), says: []string{"logprobs"}, fields: []string{"top_logprobs"}},
	{name: "a bias of a word", body: chat(`"logit_bias":{"cat":1}`), says: []string{"ids of tokens"}, fields: []string{"logit_bias"}},
	{name: "a field in extra", body: chat(`"extra":{"top_k":1,"model":"x"}`), says: []string{"extra.model", "field of its own"}, fields: []string{"extra.model"}},
	{name: "a field in extra, in other letters", body: chat(`"extra":{"MAX_TOKENS":1}`), says: []string{"extra.MAX_TOKENS", "max_tokens"}, fields: []string{"extra.MAX_TOKENS"}},
	{name: "n in extra", body: chat(`"extra":{"n":2}`), says: []string{"extra.n"}, fields: []string{"extra.n"}},
	{name: "a role in a message's extra", body: `{"messages":[{"role":"user","content":"Hi","extra":{"role":"system"}}]}`,
		says: []string{"messages[0].extra.role"}, fields: []string{"messages[0].extra.role"}},
	{name: "three at once", body: chat(`"temperature":9,"top_p":9,"max_tokens":-1`), says: []string{"temperature", "top_p", "max_tokens"},
		fields: []string{"max_tokens", "temperature", "top_p"}},
}

// TestBadInput checks that each gets the right status, with a message that says
// what to mend, and reaches no upstream.
func TestBadInput(t *testing.T) {
	u := e2etest.NewUpstream(t, e2etest.Text(e2etest.Body("")))
	p := e2etest.Start(t, "two processes", u.Env(), "--model=m", "--max-body=64KiB")
	for i, in := range slices.Concat(badRequests, badHTTP) {
		t.Run(in.name, func(t *testing.T) {
			want, wantFields := cmp.Or(in.status, 400), in.fields
			if wantFields == nil {
				wantFields = []string{"body"}
			}
			for _, accept := range []string{"text/event-stream", "application/json"} {
				a := refusalOf(t, p, in.method, in.body, append([]string{"Accept", accept}, in.header...))
				if a.code != want || want == 405 && a.header.Get("Allow") != "POST" {
					t.Errorf("got %d, Allow: %q, want %d", a.code, a.header.Get("Allow"), want)
				}
				checkInvalid(t, a.status, in.says, wantFields)
			}
			if i >= len(badRequests) {
				return
			}
			for _, face := range facesOver(false) {
				a, err := face.ask(t.Context(), p, in.body)
				if err != nil || a.status.Code() != codes.InvalidArgument {
					t.Fatalf("%s: got %v, %v", face.name, a, err)
				}
				checkInvalid(t, a.status, in.says, wantFields)
			}
		})
	}
	if n := u.Calls.Load(); n != 0 {
		t.Errorf("%d calls upstream", n)
	}
	t.Run("bytes that are no request", func(t *testing.T) {
		client := p.Client(t)
		for _, bytes := range []wire{"\x12\x04caf\xe9", "\xff\xff\xff", wire(strings.Repeat("\x0b", 20_000))} {
			_, err := client.CreateCompletion(t.Context(), &completionv1.CompletionRequest{}, grpc.ForceCodec(bytes))
			if err == nil || u.Calls.Load() != 0 {
				t.Errorf("%.10q: got %v after %d calls upstream", bytes, err, u.Calls.Load())
			}
		}
	})
}

// wire is a gRPC codec that sends itself, whatever the message.
type wire string

func (w wire) Marshal(any) ([]byte, error) { return []byte(w), nil }
func (w wire) Unmarshal([]byte, any) error { return errors.New("no answer was expected") }
func (w wire) Name() string                { return "proto" }

// refusalOf makes a request of /v1/completions that is to be refused.
func refusalOf(t *testing.T, p *e2etest.Program, method, body string, header []string) *answer {
	t.Helper()
	resp := p.Send(t.Context(), t, cmp.Or(method, "POST"), "/v1/completions", body, header...)
	reply, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := &answer{code: resp.StatusCode, header: resp.Header}
	if err := a.refused(reply); err != nil {
		t.Fatal(err)
	}
	return a
}

func checkInvalid(t *testing.T, st *status.Status, says, wantFields []string) {
	t.Helper()
	if got := fields(st); reason(st) != "INVALID_REQUEST" || !slices.Equal(got, wantFields) {
		t.Errorf("got %s with the fields %q, want INVALID_REQUEST with %q", reason(st), got, wantFields)
	}
	if len(st.Message()) > 1000 {
		t.Errorf("the message has %d bytes: %.100s", len(st.Message()), st.Message())
	}
	for _, word := range says {
		if !strings.Contains(st.Message(), word) {
			t.Errorf("no %q in the message %q", word, st.Message())
		}
	}
}

// TestGoodInput checks what must not be refused.
func TestGoodInput(t *testing.T) {
	p := e2etest.Start(t, "two processes", nil, "--max-body=64KiB", "--echo-interval=0s")
	for _, in := range []struct {
		name, body string
		header     []string
	}{
		{name: "no content type", body: chat("")},
		{name: "content type with a charset", body: chat(""), header: []string{"Content-Type", "application/json; charset=utf-8"}},
		{name: "content type text/event-stream", body: chat(""), header: []string{"Content-Type", "text/event-stream"}},
		{name: "as large as may be", body: padded(maxBody)},
		{name: "white space around", body: "\r\n " + chat("") + "\r\n"},
		{name: "names in camel case", body: chat(`"maxTokens":5,"topP":0.5`)},
		{name: "bounds", body: chat(`"max_tokens":1,"temperature":2,"top_p":1,"presence_penalty":-2,"frequency_penalty":2`)},
		{name: "zero", body: chat(`"temperature":0,"top_p":0,"seed":0`)},
		{name: "null is unset", body: chat(`"prompt":null,"temperature":null`)},
		{name: "empty prompt", body: `{"prompt":""}`},
		{name: "the same key twice", body: chat(`"idempotency_key":"k"`), header: []string{"Idempotency-Key", "k"}},
	} {
		t.Run(in.name, func(t *testing.T) {
			resp := p.Post(t, in.body, in.header...)
			got, err := e2etest.Messages(resp.Body)
			if err != nil || resp.StatusCode != 200 || len(got) < 2 || got[len(got)-1].Event != "finished" {
				t.Errorf("got %d, %v, %v", resp.StatusCode, got, err)
			}
		})
	}
}
