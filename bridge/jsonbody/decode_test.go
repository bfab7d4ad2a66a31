package jsonbody

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sluice-sse/sluice/bridge/failure"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

func newDecoder(maxBody int64) Decoder {
	return Decoder{func(context.Context, int) (func(), error) { return func() {}, nil }, maxBody}
}

func (d Decoder) decodeRequest(body string) (*completionv1.CompletionRequest, error) {
	req := &completionv1.CompletionRequest{}
	return req, d.Decode(context.Background(), []byte(body), req, "a request")
}

// Schemas, parameters and extra reach the request as they are written.
func TestDecodeTexts(t *testing.T) {
	const text = `{ "z":1,"a":9007199254740993,` + "\n" + `"\u0041":[1.0e2, "ü\"}"] }`
	for _, tt := range []struct {
		name, body string
		got        func(*completionv1.CompletionRequest) string
	}{
		{"parameters", `{"tools":[{},{"function":{"parameters":%s,"name":"f"}}]}`,
			func(r *completionv1.CompletionRequest) string { return r.Tools[1].Function.ParametersJson }},
		{"schema", `{"responseFormat":{"jsonSchema":{"schema" :%s}}}`,
			func(r *completionv1.CompletionRequest) string { return r.ResponseFormat.JsonSchema.SchemaJson }},
		{"schema in snake case", `{"response_format":{"json_schema":{"schema":%s}}}`,
			func(r *completionv1.CompletionRequest) string { return r.ResponseFormat.JsonSchema.SchemaJson }},
		{"schema, its name escaped", `{"response\u005fformat":{"json_schema":{"\u0073chema":%s}}}`,
			func(r *completionv1.CompletionRequest) string { return r.ResponseFormat.JsonSchema.SchemaJson }},
		{"extra", `{"extra":%s,"messages":[]}`,
			func(r *completionv1.CompletionRequest) string { return r.ExtraJson }},
		{"given as text", `{"tools":[{"function":{"parametersJson":%q}}]}`,
			func(r *completionv1.CompletionRequest) string { return r.Tools[0].Function.ParametersJson }},
	} {
		req, err := newDecoder(4 << 20).decodeRequest(fmt.Sprintf(tt.body, text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := tt.got(req); got != text {
			t.Errorf("%s: got %s, want %s", tt.name, got, text)
		}
		for _, tool := range req.GetTools() {
			if tool.GetFunction().GetParameters() != nil {
				t.Errorf("%s: there is a Struct beside the text", tt.name)
			}
		}
	}
}

// Some shapes that are not protobuf's are taken.
func TestDecodeShapes(t *testing.T) {
	for _, tt := range []struct{ body, same string }{
		{`{"stop":"END"}`, `{"stop":["END"]}`},
		{`{"stop":"","model":"m"}`, `{"stop":[""],"model":"m"}`},
		{`{"stop" : "\n\u00fc" }`, `{"stop":["\nü"]}`},
		{`{"stop":null}`, `{}`},
		{`{"extra":null,"tools":[{"function":{"parameters":null}}]}`, `{"tools":[{"function":{}}]}`},
		{`{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"1","name":"f"}]}]}`,
			`{"messages":[{"role":"assistant","toolCalls":[{"id":"1","name":"f"}]}]}`},
	} {
		want := &completionv1.CompletionRequest{}
		if err := protojson.Unmarshal([]byte(tt.same), want); err != nil {
			t.Fatal(err)
		}
		if got, err := newDecoder(4 << 20).decodeRequest(tt.body); err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: got %v, %v, want %v", tt.body, got, err, want)
		}
	}
}

// badBodies are refused, each in words that say what and where.
var badBodies = []struct{ body, says string }{
	{`{"tools":[{"function":{"parameters":{"a":1,}}}]}`, `(line 1:43): syntax error in "/tools/0/function/parameters": invalid character`},
	{`{"extra":{"a":1,"a":2}}`, `(line 1:17): syntax error in "/extra/a": duplicate`},
	{`{"extra":{"a":1,"\u0061":2}}`, `duplicate`},
	{`{"extra":{"a":[{"b":1,"b":2}]}}`, `duplicate`},
	{"{\"extra\":{\"a\":\"caf\xe9\"}}", `invalid UTF-8`},
	{`{"extra":{"a":"\ud83d"}}`, `invalid`},
	{`{"extra":{"a":NaN}}`, `invalid character 'N'`},
	{`{"extra":{"a":1e999}}`, `(line 1:20): the number is too large`},
	{`{"extra":{"a":-` + strings.Repeat("9", 400) + `}}`, `the number is too large`},
	{`{"extra":{"a":01}}`, `invalid character '1'`},
	{`{"extra":{"a":1}`, `breaks off after 16 bytes`},
	{`{"extra":{"a":`, `breaks off after 14 bytes`},
	{`{"extra":{"a":1}} x`, `(line 1:19)`},
	{`{"extra":[1]}`, `unexpected token [`},
	{`{"extra":1}`, `unexpected token 1`},
	{`{"extra":{},"extra":{}}`, `duplicate field "extra"`},
	{`{"extra":{},"extraJson":"{}"}`, `either extra or extraJson`},
	{`{"extra":{"ü":"ü` + "\n" + `"}}`, `invalid character`},
	{`{"extra":{"ü":"ü"},"model":1}`, `(line 1:28)`}, // a column is a character
	{"{\"extra\":{\"ü\":\n\"ü\"},\"model\":1}", `(line 2:14)`},
	{`{"stop":"x","model":1}`, `(line 1:21)`},
	{`{"stop":"x","stop":["y"]}`, `duplicate field "stop"`},
	{`{"stop":"x`, `breaks off after 10 bytes`},
	{`{"extra":{"a":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}}`, `nested too deep`},
	{`{"messages":[{"role":"user","extra":{"a":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}}]}`, `nested too deep`},
	{`{"tool_choice":` + strings.Repeat(`{"a":`, 300) + "1" + strings.Repeat("}", 300) + `}`, `nested too deep`},
	{`{"messages":[` + strings.Repeat("{},", 20_000) + `{}]}`, `too many names and values`},
	{`{"model":1,"messages":[` + strings.Repeat("{},", 20_000) + `{}]}`, `(line 1:10)`}, // what comes first
	{`{"messages":[{"extra":{"a":[` + strings.Repeat("1,", 20_000) + `1]}}]}`, `too many names and values`},
	{`{"metadata":{` + manyNames(20_000) + `"":""}}`, `too many names and values`},
	{`{"extra":{"a":[` + strings.Repeat("1,", 50_000) + `1]}}`, `too many names and values`},

	{`{"messages":[{"role":"user","content":[{"type":"text","text":"Hi"}]}]}`, `(line 1:39): unexpected value of "content"`},
	{`{"messages":[{"role":"user","parts":[{"type":"text","text":"Hi"}]}]}`, `(line 1:39): unknown field "type": leave it out`},
	{`{"messages":[{"role":"user","parts":[{"image_url":"https://x"}]}]}`, `send {"url": …}`},
	{`{"messages":[{"role":"assistant","tool_calls":[{"id":"1","type":"function"}]}]}`, `leave it out`},
	{`{"messages":[{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f"}}]}]}`, `send "name" and "arguments" beside "id"`},
	{`{"prompt":["a","b"]}`, `send one text`},
	{`{"prompt":"a","top_k":40}`, `unknown field "top_k": what the upstream alone knows goes into "extra"`},
	{`{"prompt":"a","echo":true}`, `this is a parameter of OpenAI's API, which is at /openai/v1; here, leave it out`},
	{`{"prompt":"a","best_of":1}`, `"best_of"`},
	{`{"prompt":"a","suffix":"b"}`, `"suffix"`},
	{`{"prompt":"a","stream_options":{"include_usage":true}}`, `"stream_options"`},
	{`{"prompt":"a","logprobs":5}`, `"top_logprobs"`},
	{`{"tools":[{"type":"function","name":"f"}]}`, `send it in "function"`},
	{`{"response_format":{"type":"json_object","schema":{}}}`, `"json_schema"`},
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":"",`, i)
	}
	return b.String()
}

func TestDecodeBadBodies(t *testing.T) {
	for _, tt := range badBodies {
		_, err := newDecoder(128 << 10).decodeRequest(tt.body)
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "\u00a0", " "), tt.says) {
			t.Errorf("%.100s: got %v, want %s", tt.body, err, tt.says)
		}
	}
}

// Every row of the table is of something that would be refused in any case, and no
// field has a row that hides it.
func TestShapes(t *testing.T) {
	for _, s := range shapes {
		for kind, value := range map[string]string{`"`: `"x"`, "[": "[]", "{": "{}", "0": "5", "t": "true"} {
			if s.kinds != "" && !strings.Contains(s.kinds, kind) {
				continue
			}
			body := fmt.Sprintf(map[string]string{
				ofRequest:  `{%q:%s}`,
				ofMessage:  `{"messages":[{%q:%s}]}`,
				ofPart:     `{"messages":[{"parts":[{%q:%s}]}]}`,
				ofToolCall: `{"messages":[{"toolCalls":[{%q:%s}]}]}`,
				ofTool:     `{"tools":[{%q:%s}]}`,
				ofFormat:   `{"responseFormat":{%q:%s}}`,
			}[string(s.message)], s.member, value)
			if err := protojson.Unmarshal([]byte(body), &completionv1.CompletionRequest{}); err == nil {
				t.Errorf("%s is taken by protojson", body)
			}
			if _, err := newDecoder(4 << 20).decodeRequest(body); err == nil || !strings.Contains(err.Error(), s.say) {
				t.Errorf("%s: got %v, want %q", body, err, s.say)
			}
		}
	}
}

// valid are bodies with what a request may have.
var valid = []string{
	`{"model":"m","messages":[{"role":"user","content":"Hi","extra":{"a":[1,null,{"b":"c"}]}}],"max_tokens":5,"temperature":0.5}`,
	`{"messages":[{"role":"user","parts":[{"text":"a"},{"imageUrl":{"url":"https://x"},"extra":{"cache_control":{}}}]}],"disconnectGrace":"1.5s"}`,
	`{"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"enum":[1,2.5e3,"x",true]}}},"strict":true}}],"tool_choice":"auto"}`,
	`{"response_format":{"type":"json_schema","json_schema":{"name":"s","schema":{}}},"stop":["a"],"logit_bias":{"5":-1},"metadata":{"k":"v"},"extra":{"top_k":5}}`,
	` { "prompt" : null , "seed" : "12" , "toolChoice" : null } `,
}

// FuzzDecode holds the Decoder against protojson: within the bounds, the two take the
// same, and make the same of it, the texts aside, which say the same as the Structs.
func FuzzDecode(f *testing.F) {
	for _, body := range valid {
		f.Add(body)
	}
	for _, tt := range badBodies {
		if len(tt.body) < 1000 {
			f.Add(tt.body)
		}
	}
	d := newDecoder(4 << 20)
	f.Fuzz(func(t *testing.T, body string) { compare(t, d, body) })
}

// TestDecodeMutated is the same on bodies that chance has changed, by count.
func TestDecodeMutated(t *testing.T) {
	d := newDecoder(4 << 20)
	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{`"`, `{`, `}`, `[`, `]`, `,`, `:`, `null`, `true`, `1`, `-1e3`, `1e999`, `"a"`, `\`, `\u00e9`, `\ud83d`, "ü", "\xff", " ", "\n",
		`"extra":{"a":1},`, `"stop":[],`, `"parameters":{},`, `"a":1,`, `{},`}
	taken := 0
	for range 20_000 {
		body := valid[r.IntN(len(valid))]
		for range r.IntN(3) {
			at, piece := r.IntN(len(body)), pieces[r.IntN(len(pieces))]
			body = body[:at] + piece + body[min(at+r.IntN(3)*r.IntN(len(piece)+1), len(body)):]
		}
		if compare(t, d, body) {
			taken++
		}
	}
	if taken < 2000 || taken > 18_000 {
		t.Errorf("%d of 20000 were taken: that compares too little", taken)
	}
}

// compare holds the Decoder against protojson and reports whether a body was taken.
func compare(t *testing.T, d Decoder, body string) (taken bool) {
	t.Helper()
	got, err := d.decodeRequest(body)
	want := &completionv1.CompletionRequest{}
	wantErr := protojson.UnmarshalOptions{RecursionLimit: maxRecursion}.Unmarshal([]byte(body), want)
	if oneStop.MatchString(body) || err != nil && (strings.Contains(err.Error(), "too deep") || strings.Contains(err.Error(), "either")) {
		return false
	}
	if (err == nil) != (wantErr == nil) {
		t.Fatalf("%q: got %v, want %v", body, err, wantErr)
	}
	if err == nil && !proto.Equal(asStructs(t, got), asStructs(t, want)) {
		t.Fatalf("%q: got %v, want %v", body, got, want)
	}
	return err == nil
}

// oneStop is what a body has that protojson does not take.
var oneStop = regexp.MustCompile(`"(s|\\u0073)(t|\\u0074)(o|\\u006[fF])(p|\\u0070)"\s*:\s*"`)

// asStructs is the request with Structs in place of texts.
func asStructs(t *testing.T, req *completionv1.CompletionRequest) *completionv1.CompletionRequest {
	t.Helper()
	parse := func(text *string, s **structpb.Struct) {
		if *text == "" || *s != nil {
			return
		}
		*s = &structpb.Struct{}
		if err := protojson.Unmarshal([]byte(*text), *s); err != nil {
			*s = nil // a text that came as one
			return
		}
		*text = ""
	}
	parse(&req.ExtraJson, &req.Extra)
	for _, tool := range req.GetTools() {
		if f := tool.GetFunction(); f != nil {
			parse(&f.ParametersJson, &f.Parameters)
		}
	}
	if s := req.GetResponseFormat().GetJsonSchema(); s != nil {
		parse(&s.SchemaJson, &s.Schema)
	}
	return req
}

// A body waits to be decoded as long as its caller does, and makes way for others once it
// is, or is found to be wrong.
func TestDecodeLimit(t *testing.T) {
	inside, entered := 0, 0
	d := newDecoder(4 << 20)
	d.Acquire = func(ctx context.Context, bytes int) (func(), error) {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		inside++
		entered += bytes
		return func() { inside-- }, nil
	}
	for _, body := range []string{`{"prompt":"Hi"}`, `{"prompt":1}`, `{`} {
		_, _ = d.decodeRequest(body)
	}
	if inside != 0 || entered != 28 {
		t.Errorf("%d are inside, of %d bytes that came", inside, entered)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := d.Decode(ctx, []byte("{}"), &completionv1.CompletionRequest{}, "a request")
	if code, st := failure.Explain(slog.New(slog.DiscardHandler), err); code != 499 || st.Code() != codes.Canceled {
		t.Errorf("got %d, %v for a caller that has gone", code, err)
	}
}

// Anys may be in Anys, but not without end: for each of them, all that it has in it is gone
// through once more.
func TestDecodeAnys(t *testing.T) {
	for _, tt := range []struct {
		before, after string
		deep          int
		ok            bool
	}{
		{`{"@type":"x/google.protobuf.Any","value":`, `}`, 30, true},
		{`{"@type":"x/google.protobuf.Any","value":`, `}`, 40, false},
		{`{"value":`, `,"\u0040type":"x/google.protobuf.Any"}`, 40, false},
	} {
		body := strings.Repeat(tt.before, tt.deep) + `{"@type":"x/google.protobuf.Struct","value":{"a":["@type",{"b":"@type"}]}}` + strings.Repeat(tt.after, tt.deep)
		err := newDecoder(4<<20).DecodeForeign(context.Background(), []byte(body), &anypb.Any{}, "", protoregistry.GlobalTypes)
		if (err == nil) != tt.ok || !tt.ok && !strings.Contains(err.Error(), "Anys in each other") {
			t.Errorf("%s, %d deep: %v", tt.before, tt.deep, err)
		}
	}
	many := `[` + strings.Repeat(`{"@type":"x/google.protobuf.Empty"},`, 1000) + `{}]`
	list := `{"@type":"x/google.protobuf.ListValue","value":` + many + `}` // where it is a name as any other
	if err := newDecoder(4<<20).DecodeForeign(context.Background(), []byte(list), &anypb.Any{}, "", protoregistry.GlobalTypes); err != nil {
		t.Error(err)
	}
}
