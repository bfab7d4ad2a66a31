package server

import (
	"errors"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

const hi = `"messages":[{"role":"user","content":"Hi"}]`

// asText is a JSON text as a JSON string.
func asText(s string) string { return protojson.Format(structpb.NewStringValue(s)) }

// TestValidate names for each request, in proto3 JSON, the fields that are wrong.
func TestValidate(t *testing.T) {
	assistant := func(members string) string {
		return `"messages":[{"role":"assistant",` + members + `}]`
	}
	tool := func(members string) string { return hi + `,"tools":[{"function":{` + members + `}}]` }
	for _, tc := range []struct {
		name, request, fields string
	}{
		// What models make up, or servers take.
		{"a function's name with dots and slashes", tool(`"name":"mcp/server.tabs:open"`), ""},
		{"no function's name", tool(`"description":"d"`), "tools[0].function.name"},
		{"a long function's name", tool(`"name":"` + strings.Repeat("f", 256) + `"`), "tools[0].function.name"},
		{"a tool of another type", hi + `,"tools":[{"type":"builtin_function","function":{"name":"$web_search"}}]`, ""},
		{"a made-up name in the history", assistant(`"toolCalls":[{"id":"a","name":"browser.tabs.open"},{"id":"b","name":""}]`), ""},
		{"a call without an id", assistant(`"toolCalls":[{"name":"f"}]`), "messages[0].tool_calls[0].id"},
		{"a wholly empty answer", `"messages":[{"role":"assistant"},{"role":"assistant","content":""}]`, ""},
		{"a user who says nothing", `"messages":[{"role":"user"}]`, "messages[0].content"},
		{"reasoning", assistant(`"reasoning":"Hm"`), ""},
		{"reasoning of a user", `"messages":[{"role":"user","content":"","reasoning":"Hm"}]`, "messages[0].reasoning"},
		{"a choice of Mistral's", tool(`"name":"f"`) + `,"toolChoice":"any"`, ""},
		{"a choice of several", tool(`"name":"f"`) + `,"toolChoice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function"}]}}`, ""},
		{"a choice of nothing", tool(`"name":"f"`) + `,"toolChoice":{}`, "tool_choice"},
		{"a choice by number", tool(`"name":"f"`) + `,"toolChoice":1`, "tool_choice"},
		{"a schema's name with a space", hi + `,"responseFormat":{"type":"json_schema","jsonSchema":{"name":"My answer"}}`, ""},

		// Parts.
		{"parts", `"messages":[{"role":"user","parts":[{"inputAudio":{"data":"AA","format":"wav"}},{"file":{"fileId":"f"}},` +
			`{"imageUrl":{"url":"data:,x","detail":"original"}},{"text":"","extra":{"cache_control":{}}},{"extra":{"type":"video_url","video_url":{}}}]}]`, ""},
		{"empty parts", `"messages":[{"role":"user","parts":[{"inputAudio":{}},{"file":{}},{},{"extra":{"video_url":{}}}]}]`,
			"messages[0].parts[0].input_audio.data messages[0].parts[1].file messages[0].parts[2] messages[0].parts[3]"},
		{"a part's own names", `"messages":[{"role":"user","parts":[{"text":"","extra":{"type":"x"}},{"extra":{"type":"text","text":"x"}}]}]`,
			"messages[0].parts[0].extra.type messages[0].parts[1].extra.text"},

		// Parameters.
		{"all of the new ones", hi + `,"maxCompletionTokens":1,"parallelToolCalls":true,"logitBias":{"0":100},"logprobs":true,"topLogprobs":20,` +
			`"metadata":{"a":""},"serviceTier":"flex","verbosity":"low"`, ""},
		{"both limits", hi + `,"maxTokens":1,"maxCompletionTokens":1`, "max_completion_tokens"},
		{"a limit of zero", hi + `,"maxCompletionTokens":0`, "max_completion_tokens"},
		{"the new limit of a prompt", `"prompt":"","maxCompletionTokens":1`, "max_completion_tokens"},
		{"top_logprobs alone", hi + `,"topLogprobs":1`, "top_logprobs"},
		{"too many top_logprobs", hi + `,"logprobs":true,"topLogprobs":21`, "top_logprobs"},
		{"a bias by word", hi + `,"logitBias":{"word":1}`, "logit_bias"},
		{"a bias that is no number", hi + `,"logitBias":{"1":"NaN"}`, "logit_bias"},
		{"a bias that is large", hi + `,"logitBias":{"1":101}`, "logit_bias"},
		{"a note without a name", hi + `,"metadata":{"":"x"}`, "metadata"},
		{"a long note", hi + `,"metadata":{"a":"` + strings.Repeat("x", maxValue+1) + `"}`, "metadata"},
		{"long words", hi + `,"serviceTier":"` + strings.Repeat("x", 256) + `","verbosity":"` + strings.Repeat("x", 256) + `"`, "service_tier verbosity"},

		// JSON as text.
		{"schemas as text", tool(`"name":"f","parametersJson":" {\"a\":9007199254740993}\n"`), ""},
		{"parameters twice", tool(`"name":"f","parameters":{},"parametersJson":"{}"`), "tools[0].function.parameters"},
		{"parameters that are a list", tool(`"name":"f","parametersJson":"[]"`), "tools[0].function.parameters"},
		{"parameters that end early", tool(`"name":"f","parametersJson":"{\"a\":1"`), "tools[0].function.parameters"},
		{"parameters with more behind", tool(`"name":"f","parametersJson":"{},\"model\":\"x\""`), "tools[0].function.parameters"},
		{"parameters too deep", tool(`"name":"f","parametersJson":` + asText(`{"a":`+strings.Repeat("[", 100)+strings.Repeat("]", 100)+`}`)), "tools[0].function.parameters"},
		{"parameters deep enough", tool(`"name":"f","parametersJson":` + asText(`{"a":`+strings.Repeat("[", 99)+`"[[\"["`+strings.Repeat("]", 99)+`}`)), ""},
		{"a schema as text and a Struct", hi + `,"responseFormat":{"type":"json_schema","jsonSchema":{"name":"s","schema":{},"schemaJson":"{}"}}`,
			"response_format.json_schema.schema"},

		// Extra.
		{"extra", hi + `,"extra":{"top_k":1,"chat_template_kwargs":{"enable_thinking":false},"suffix":"x"}`, ""},
		{"extra as text", hi + `,"extraJson":` + asText(`{"top_k":1,"min_p":0.1}`), ""},
		{"extra twice", hi + `,"extra":{"a":1},"extraJson":"{}"`, "extra"},
		{"extra that is a string", hi + `,"extraJson":"\"x\""`, "extra"},
		{"fields in extra", hi + `,"extra":{"model":"x","topP":1,"extra_json":"","stream":false,"n":2}`,
			"extra.extra_json extra.model extra.n extra.stream extra.topP"},
		{"as many answers as llama.cpp is asked for", hi + `,"extra":{"N_cmpl":2}`, "extra.N_cmpl"},
		{"fields in extra as text", hi + `,"extraJson":` + asText(`{"messages":[],"\u006dodel":"x","stream_options":{},"best_of":2}`),
			"extra.messages extra.model extra.stream_options extra.best_of"},
		{"fields in other letters", hi + `,"extraJson":` + asText(`{"MODEL":"x","Stream":false,"meſſages":[]}`),
			"extra.MODEL extra.Stream extra.meſſages"},
		{"a member twice", hi + `,"extraJson":` + asText(`{"top_k":1,"top\u005fk":2}`), "extra.top_k"},
		{"a member without a name", hi + `,"extraJson":` + asText(`{"":1}`), "extra"},
		{"a message's own names", assistant(`"content":"","extra":{"role":"x","reasoning_content":"x","toolCalls":[],"refusal":"x"}`),
			"messages[0].extra.reasoning_content messages[0].extra.role messages[0].extra.toolCalls"},
		{"a call's own names", assistant(`"toolCalls":[{"id":"a","name":"f","extra":{"function":{},"type":"x","id":"b","extra_content":{}}}]`),
			"messages[0].tool_calls[0].extra.function messages[0].tool_calls[0].extra.id messages[0].tool_calls[0].extra.type"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := new(completionv1.CompletionRequest)
			if err := protojson.Unmarshal([]byte("{"+tc.request+"}"), req); err != nil {
				t.Fatal(err)
			}
			if got := wrongFields(validate(req, &Limits{})); got != tc.fields {
				t.Errorf("got %q, want %q", got, tc.fields)
			}
		})
	}
}

// wrongFields are the fields of an error's violations.
func wrongFields(err error) string {
	var failed *failure.Error
	if !errors.As(err, &failed) {
		return ""
	}
	var fields []string
	for clause := range strings.SplitSeq(failed.Message, "; ") {
		field, _, _ := strings.Cut(clause, ": ")
		fields = append(fields, field)
	}
	return strings.Join(fields, " ")
}

// TestValidateCounts checks bounds that are not worth a line of JSON.
func TestValidateCounts(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*completionv1.CompletionRequest)
		field  string
	}{
		"members of extra": {func(r *completionv1.CompletionRequest) {
			r.ExtraJson = `{"a":1` + strings.Repeat(`,"b":1`, maxExtra) + `}`
		}, "extra"},
		"logit_bias": {func(r *completionv1.CompletionRequest) {
			r.LogitBias = map[string]float64{}
			for i := range maxBias + 1 {
				r.LogitBias[strconv.Itoa(i)] = 1
			}
		}, "logit_bias"},
		"NaN in a Struct": {func(r *completionv1.CompletionRequest) {
			nan := structpb.NewNumberValue(math.NaN())
			r.Extra = &structpb.Struct{Fields: map[string]*structpb.Value{"a": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{nan}})}}
		}, "extra"},
	} {
		req := &completionv1.CompletionRequest{Messages: []*completionv1.Message{{Role: "user", Content: proto.String("Hi")}}}
		tc.change(req)
		if got := wrongFields(validate(req, &Limits{})); !slices.Contains(strings.Fields(got), tc.field) {
			t.Errorf("%s: got %q, want %q among them", name, got, tc.field)
		}
	}
}

// TestValidateBeyondTheMost checks that what is no object is refused as well when so much
// else is wrong that nobody is told of it.
func TestValidateBeyondTheMost(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)
	for _, text := range []string{`[1]`, `{1`, `{"a"`, `{"a":1,`, `{"a":1 "b"}`, `1`, `x`, `{"a":1}x`, deep} {
		req := &completionv1.CompletionRequest{ExtraJson: text, Stop: make([]string, 2*maxViolations)}
		if err := validate(req, &Limits{}); err == nil {
			t.Errorf("%.20s: it is valid", text)
		}
	}
}

// TestValidateMany checks that what is right, however much of it there is, costs nothing:
// the paths to the fields would be tens of bytes for each.
func TestValidateMany(t *testing.T) {
	said := ""
	req := &completionv1.CompletionRequest{}
	for range 1000 {
		req.Messages = append(req.Messages, &completionv1.Message{Role: "assistant", Content: &said, ToolCalls: []*completionv1.ToolCall{{Id: "a"}}},
			&completionv1.Message{Role: "user", Parts: []*completionv1.Part{{Kind: &completionv1.Part_Text{Text: "Hi"}}}})
		req.Tools = append(req.Tools, &completionv1.Tool{Function: &completionv1.Function{Name: "f"}})
	}
	var err error
	allocations := testing.AllocsPerRun(10, func() { err = validate(req, &Limits{}) })
	if err != nil || allocations > 100 {
		t.Errorf("%v allocations, %v", allocations, err)
	}
}

// TestRequestHash checks that requests which differ in any one field, however deep,
// are different requests, and those that differ in the key alone are the same.
func TestRequestHash(t *testing.T) {
	seen := map[[32]byte]string{requestHash(&completionv1.CompletionRequest{}): "nothing"}
	var walk func(m protoreflect.Message, path string, root *completionv1.CompletionRequest)
	walk = func(m protoreflect.Message, path string, root *completionv1.CompletionRequest) {
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			f := fields.Get(i)
			name := path + string(f.Name())
			inner := setField(m, f)
			if inner != nil && strings.HasPrefix(string(inner.Descriptor().FullName()), "completion.") {
				walk(inner, name+".", root)
			}
			hash := requestHash(root)
			if other, twice := seen[hash]; twice != (name == "idempotency_key") {
				t.Errorf("%s: the same as %s: %v", name, other, twice)
			}
			seen[hash] = name
			m.Clear(f)
		}
	}
	root := new(completionv1.CompletionRequest)
	walk(root.ProtoReflect(), "", root)
	if names := slices.Collect(maps.Values(seen)); len(names) < 60 {
		t.Errorf("only %d fields: %v", len(names), names)
	}
}

// setField sets a field to something that is not its zero value, and returns the
// message that it has set it to, if it is one.
func setField(m protoreflect.Message, f protoreflect.FieldDescriptor) protoreflect.Message {
	if f.IsMap() {
		value := f.MapValue().Default()
		m.Mutable(f).Map().Set(protoreflect.ValueOfString("a").MapKey(), value)
		return nil
	}
	if f.IsList() {
		list := m.Mutable(f).List()
		if f.Kind() == protoreflect.MessageKind {
			return list.AppendMutable().Message()
		}
		list.Append(protoreflect.ValueOfString("a"))
		return nil
	}
	switch f.Kind() {
	case protoreflect.StringKind:
		m.Set(f, protoreflect.ValueOfString("a"))
	case protoreflect.BoolKind:
		m.Set(f, protoreflect.ValueOfBool(true))
	case protoreflect.Int32Kind:
		m.Set(f, protoreflect.ValueOfInt32(1))
	case protoreflect.Int64Kind:
		m.Set(f, protoreflect.ValueOfInt64(1))
	case protoreflect.DoubleKind:
		m.Set(f, protoreflect.ValueOfFloat64(1))
	case protoreflect.MessageKind:
		switch inner := m.Mutable(f).Message().Interface().(type) {
		case *structpb.Struct:
			inner.Fields = map[string]*structpb.Value{"a": structpb.NewNullValue()}
		case *durationpb.Duration:
			inner.Seconds = 1
		default:
			return inner.ProtoReflect()
		}
	default:
		panic("a kind of field that the test does not know: " + f.Kind().String())
	}
	return nil
}
