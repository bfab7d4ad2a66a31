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

// TestParameters checks of each parameter that it becomes what the table says, and is
// refused by the request that does not have it.
func TestParameters(t *testing.T) {
	for _, p := range parameters {
		v, ok := values[p.name]
		if ok == (p.use == refused) {
			t.Errorf("%s: a value is given: %v", p.name, ok)
		}
		for _, of := range []endpoint{chat, text} {
			base := map[endpoint]string{chat: `"messages":[{"role":"user","content":"Hi"}]`, text: `"prompt":"Hi"`}[of]
			value, want := v.value, v.want
			if p.name == "logprobs" && of == text {
				value, want = `2`, `"logprobs":true,"topLogprobs":2`
			}
			if p.use == refused {
				value = `"x"`
			}
			body := base
			if p.name != "messages" || of != chat {
				if p.name != "prompt" || of != text {
					body += fmt.Sprintf(`,%q:%s`, p.name, value)
				}
			}
			got, err := decodeTest(of, "{"+body+"}")
			if p.of&of == 0 || p.use == refused {
				if err == nil || !strings.HasPrefix(err.Error(), p.name+": ") {
					t.Errorf("%s in %s: got %v, %v: it is not refused by its name", p.name, of.path(), got, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s in %s: %v", p.name, of.path(), err)
				continue
			}
			if of == chat {
				got.Completion.Messages = got.Completion.Messages[1:]
				if p.name == "messages" {
					continue
				}
			} else if got.Completion.Prompt = nil; p.name == "prompt" {
				continue
			}
			compact, err := protojson.Marshal(got.Completion)
			if err == nil {
				compact, err = sse.AppendJSON(nil, compact)
			}
			if err != nil || string(compact) != "{"+want+"}" {
				t.Errorf("%s in %s: got %s, %v, want {%s}", p.name, of.path(), compact, err, want)
			}
		}
	}
	if !slices.IsSortedFunc(parameters, func(a, b parameter) int { return strings.Compare(a.name, b.name) }) {
		t.Error("the parameters are not sorted")
	}
}

// TestParametersDocument makes the table of docs/openai.md.
func TestParametersDocument(t *testing.T) {
	table := "| parameter | chat | legacy | |\n|---|---|---|---|\n"
	for _, p := range parameters {
		in := func(of endpoint) string {
			switch {
			case p.of&of == 0:
				return "400"
			case p.use == refused:
				return "400"
			case p.use == passedOn:
				return "passed on"
			}
			return "yes"
		}
		say := p.say
		if p.use == refused {
			say, _, _ = strings.Cut(say, ":")
		}
		table += fmt.Sprintf("| `%s` | %s | %s | %s |\n", p.name, in(chat), in(text), say)
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
