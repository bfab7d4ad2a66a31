package openai

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// values are, of each parameter, one that is to be taken, and what becomes of it in
// the completion request, in proto3 JSON without its braces. "" is nothing.
var values = map[string]struct{ value, want string }{
	"audio":                  {`{"voice":"alloy","format":"wav"}`, `"extraJson":"{\"audio\":{\"voice\":\"alloy\",\"format\":\"wav\"}}"`},
	"best_of":                {`1`, ``},
	"disconnect_grace":       {`"30s"`, `"disconnectGrace":"30s"`},
	"echo":                   {`false`, ``},
	"frequency_penalty":      {`0`, `"frequencyPenalty":0`},
	"logit_bias":             {`{"50256":-100}`, `"logitBias":{"50256":-100}`},
	"logprobs":               {`true`, `"logprobs":true`},
	"max_completion_tokens":  {`5`, `"maxCompletionTokens":5`},
	"max_tokens":             {`5`, `"maxTokens":5`},
	"messages":               {`[{"role":"user","content":"Hi"}]`, `"messages":[{"role":"user","content":"Hi"}]`},
	"metadata":               {`{"a":"b"}`, `"metadata":{"a":"b"}`},
	"modalities":             {`["text"]`, `"extraJson":"{\"modalities\":[\"text\"]}"`},
	"model":                  {`"m"`, `"model":"m"`},
	"n":                      {`1`, ``},
	"parallel_tool_calls":    {`false`, `"parallelToolCalls":false`},
	"prediction":             {`{"type":"content"}`, `"extraJson":"{\"prediction\":{\"type\":\"content\"}}"`},
	"presence_penalty":       {`-0.5`, `"presencePenalty":-0.5`},
	"prompt":                 {`"Hi"`, `"prompt":"Hi"`},
	"prompt_cache_key":       {`"k"`, `"extraJson":"{\"prompt_cache_key\":\"k\"}"`},
	"prompt_cache_options":   {`{}`, `"extraJson":"{\"prompt_cache_options\":{}}"`},
	"prompt_cache_retention": {`"24h"`, `"extraJson":"{\"prompt_cache_retention\":\"24h\"}"`},
	"reasoning_effort":       {`"low"`, `"reasoningEffort":"low"`},
	"response_format":        {`{"type":"json_object"}`, `"responseFormat":{"type":"json_object"}`},
	"safety_identifier":      {`"u"`, `"extraJson":"{\"safety_identifier\":\"u\"}"`},
	"seed":                   {`9007199254740993`, `"seed":"9007199254740993"`},
	"service_tier":           {`"flex"`, `"serviceTier":"flex"`},
	"stop":                   {`"\n"`, `"stop":["\n"]`},
	"store":                  {`false`, `"extraJson":"{\"store\":false}"`},
	"stream":                 {`true`, ``},
	"stream_options":         {`null`, ``},
	"suffix":                 {`"s"`, `"extraJson":"{\"suffix\":\"s\"}"`},
	"temperature":            {`0`, `"temperature":0`},
	"tool_choice":            {`"auto"`, `"toolChoice":"auto"`},
	"tools":                  {`[{"type":"function","function":{"name":"f","parameters":{"b":1,"a":2}}}]`, `"tools":[{"type":"function","function":{"name":"f","parametersJson":"{\"b\":1,\"a\":2}"}}]`},
	"top_logprobs":           {`2`, `"topLogprobs":2`},
	"top_p":                  {`1`, `"topP":1`},
	"user":                   {`"u"`, `"user":"u"`},
	"verbosity":              {`"low"`, `"verbosity":"low"`},
	"web_search_options":     {`{}`, `"extraJson":"{\"web_search_options\":{}}"`},
}

// responseValues are those of responses that are others, or other things there.
var responseValues = map[string]struct{ value, want string }{
	"background":        {`true`, `"disconnectGrace":"86400s"`},
	"include":           {`["message.output_text.logprobs","reasoning.encrypted_content"]`, `"logprobs":true`},
	"input":             {`"Hi"`, `"messages":[{"role":"user","content":"Hi"}]`},
	"instructions":      {`"Be brief"`, ``},
	"max_output_tokens": {`5`, `"maxTokens":5`},
	"max_tool_calls":    {`5`, ``},
	"reasoning":         {`{"effort":"low","summary":"auto"}`, `"reasoningEffort":"low"`},
	"store":             {`true`, ``},
	"stream_options":    {`{"include_obfuscation":false}`, ``},
	"text":              {`{"verbosity":"low","format":{"type":"json_object"}}`, `"responseFormat":{"type":"json_object"},"verbosity":"low"`},
	"tool_choice":       {`{"type":"function","name":"f"}`, `"toolChoice":{"function":{"name":"f"},"type":"function"}`},
	"tools":             {`[{"type":"function","name":"f","parameters":{"b":1,"a":2}}]`, `"tools":[{"type":"function","function":{"name":"f","parametersJson":"{\"b\":1,\"a\":2}"}}]`},
	"top_logprobs":      {`2`, `"logprobs":true,"topLogprobs":2`},
	"truncation":        {`"disabled"`, ``},
}

// endpoints have, of each, the parameter that it must have, with a value.
var endpoints = map[endpoint][2]string{chat: {"messages", `[{"role":"user","content":"Hi"}]`}, text: {"prompt", `"Hi"`}, responses: {"input", `"Hi"`}}

// TestParameters checks of each parameter that it becomes what the table says, and is
// refused by the request that does not have it.
func TestParameters(t *testing.T) {
	for _, name := range parameterNames() {
		for of, needed := range endpoints {
			p := find(name, of)
			v, ok := values[name]
			if other, is := responseValues[name]; is && (of == responses || !ok) {
				v, ok = other, true
			}
			if p.use == refused || p.of&of == 0 {
				v.value = `"x"`
			} else if !ok {
				t.Errorf("%s in %s has no value", name, of.path())
			}
			if name == "logprobs" && of == text {
				v.value, v.want = `2`, `"logprobs":true,"topLogprobs":2`
			}
			if name == "reasoning" && of == chat {
				v.want = `"extraJson":"{\"reasoning\":{\"effort\":\"low\",\"summary\":\"auto\"}}"`
			}
			body := fmt.Sprintf(`%q:%s,%q:%s`, needed[0], needed[1], name, v.value)
			if name == needed[0] {
				body = fmt.Sprintf(`%q:%s`, name, v.value)
			}
			checkParameter(t, p, of, body, v.want)
		}
	}
	sorted := func(a, b parameter) int { return strings.Compare(a.name, b.name) }
	if !slices.IsSortedFunc(parameters, sorted) {
		t.Error("the parameters are not sorted")
	}
}

func checkParameter(t *testing.T, p parameter, of endpoint, body, want string) {
	t.Helper()
	got, err := decodeTest(of, "{"+body+"}")
	if p.of&of == 0 || p.use == refused {
		if err == nil || !strings.HasPrefix(err.Error(), p.name+": ") {
			t.Errorf("%s in %s: got %v, %v: it is not refused by its name", p.name, of.path(), got, err)
		}
		return
	}
	if err != nil {
		t.Errorf("%s in %s: %v", p.name, of.path(), err)
		return
	}
	if p.name != endpoints[of][0] {
		got.Completion.Messages, got.Completion.Prompt = nil, nil
	}
	compact, err := protojson.Marshal(got.Completion)
	if err == nil {
		compact, err = sse.AppendJSON(nil, compact)
	}
	if err != nil || string(compact) != "{"+want+"}" {
		t.Errorf("%s in %s: got %s, %v, want {%s}", p.name, of.path(), compact, err, want)
	}
}

// parameterNames returns the names, each once.
func parameterNames() (names []string) {
	for _, p := range parameters {
		names = append(names, p.name)
	}
	return slices.Compact(names)
}

// TestParametersDocument makes the table of docs/openai.md.
func TestParametersDocument(t *testing.T) {
	table := "| parameter | chat | legacy | responses | |\n|---|---|---|---|---|\n"
	for _, name := range parameterNames() {
		in := func(of endpoint) string {
			p := find(name, of)
			switch {
			case p.of&of == 0, p.use == refused:
				return "400"
			case p.use == passedOn:
				return "passed on"
			case p.use == dropped:
				return "dropped"
			}
			return "yes"
		}
		table += fmt.Sprintf("| `%s` | %s | %s | %s | %s |\n", name, in(chat), in(text), in(responses), sayOf(name))
	}
	const file, begin, end = "../../docs/openai.md", "<!-- table parameters -->\n", "<!-- end -->"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), begin)
	have, _, _ := strings.Cut(rest, end)
	if have == table {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s does not have the table of parameters: UPDATE=1 go test ./bridge/openai writes it", file)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(doc), begin+have+end, begin+table+end, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// sayOf returns what is to be said of a parameter, of each endpoint where that differs.
func sayOf(name string) string {
	var says []string
	for _, p := range parameters {
		if p.name != name || p.say == "" {
			continue
		}
		say := p.say
		if p.use == refused {
			say, _, _ = strings.Cut(say, ":")
		}
		if p.of == responses && find(name, chat|text).of&(chat|text) != 0 {
			say = "responses: " + say
		}
		says = append(says, say)
	}
	return strings.Join(says, "; ")
}
