package server

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// structOf reads a JSON object.
func structOf(t testing.TB, text string) *structpb.Struct {
	t.Helper()
	s := &structpb.Struct{}
	if err := protojson.Unmarshal([]byte(text), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestExtras(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given []string
		want  string
	}{
		{"nothing", nil, ``},
		{"nothing in it", []string{`{}`, `{}`}, ``},
		{"one", []string{`{"a":1,"b":[1,"x",null,{"c":true}]}`}, `{"a":1,"b":[1,"x",null,{"c":true}]}`},
		{"members of all", []string{`{"a":1}`, `{"b":2}`}, `{"a":1,"b":2}`},
		{"the last one holds", []string{`{"a":1,"b":"x"}`, `{"a":2,"b":"y"}`}, `{"a":2,"b":"y"}`},
		{"null says nothing", []string{`{"a":1,"b":null,"c":{"d":1}}`, `{"a":null,"b":null,"c":null}`}, `{"a":1,"b":null,"c":{"d":1}}`},
		{"null, then something", []string{`{"a":null,"b":null}`, `{"a":0,"b":{}}`}, `{"a":0,"b":{}}`},
		{"objects are merged", []string{`{"a":{"b":{"c":1}}}`, `{"a":{"b":{"d":2},"e":3}}`}, `{"a":{"b":{"c":1,"d":2},"e":3}}`},
		{"lists one behind the other", []string{`{"a":[1,{"b":2}]}`, `{"a":[{"b":2},3]}`}, `{"a":[1,{"b":2},{"b":2},3]}`},
		{"another kind of value", []string{`{"a":{"b":1}}`, `{"a":[1]}`, `{"a":"x"}`, `{"a":{"c":1}}`}, `{"a":{"c":1}}`},
		// OpenRouter's docs, "Preserving Reasoning Blocks": a chunk for each piece.
		{"reasoning in pieces", []string{
			`{"reasoning_details":[{"type":"reasoning.text","text":"Let ","format":"anthropic-claude-v1","index":0,"signature":null}]}`,
			`{"reasoning_details":[{"type":"reasoning.text","text":"me see","format":"anthropic-claude-v1","index":0}]}`,
			`{"reasoning_details":[{"type":"reasoning.text","signature":"sig","format":"anthropic-claude-v1","index":0}]}`,
			`{"reasoning_details":[{"type":"reasoning.encrypted","data":"ab","index":0,"id":"r1"},{"type":"reasoning.text","text":"And","index":1}]}`,
			`{"reasoning_details":[{"type":"reasoning.encrypted","data":"cd","index":0,"id":"r1"}]}`,
		}, `{"reasoning_details":[
			{"type":"reasoning.text","text":"Let me see","format":"anthropic-claude-v1","index":0,"signature":"sig"},
			{"type":"reasoning.encrypted","data":"abcd","index":0,"id":"r1"},
			{"type":"reasoning.text","text":"And","index":1}]}`},
		{"one index for all, as OpenRouter has it in streams", []string{
			`{"reasoning_details":[{"type":"reasoning.summary","summary":"a","index":0}]}`,
			`{"reasoning_details":[{"type":"reasoning.encrypted","data":"eA==","id":"1","index":0}]}`,
			`{"reasoning_details":[{"type":"reasoning.encrypted","data":"eQ==","id":"2","index":0}]}`,
			`{"reasoning_details":[{"type":"reasoning.summary","summary":"b","index":0}]}`,
		}, `{"reasoning_details":[{"type":"reasoning.summary","summary":"a","index":0},{"type":"reasoning.encrypted","data":"eA==","id":"1","index":0},
			{"type":"reasoning.encrypted","data":"eQ==","id":"2","index":0},{"type":"reasoning.summary","summary":"b","index":0}]}`},
		{"two texts that are signed, under one index", []string{
			`{"l":[{"type":"reasoning.text","index":0,"text":"a"}]}`, `{"l":[{"type":"reasoning.text","index":0,"signature":"s"}]}`, `{"l":[{"type":"reasoning.text","index":0,"text":"","signature":""}]}`,
			`{"l":[{"type":"reasoning.text","index":0,"text":"b"}]}`, `{"l":[{"type":"reasoning.text","index":0,"signature":"t"}]}`,
		}, `{"l":[{"type":"reasoning.text","index":0,"text":"a","signature":"s"},{"type":"reasoning.text","index":0,"text":"b","signature":"t"}]}`},
		{"LiteLLM's thinking blocks", []string{
			`{"thinking_blocks":[{"type":"thinking","thinking":"St","signature":null}]}`, `{"thinking_blocks":[{"type":"thinking","thinking":"ep","signature":""}]}`,
			`{"thinking_blocks":[{"type":"thinking","thinking":"","signature":"s"}]}`, `{"thinking_blocks":[{"type":"redacted_thinking","data":"eA=="}]}`,
			`{"thinking_blocks":[{"type":"redacted_thinking","data":"eQ=="}]}`, `{"thinking_blocks":[{"type":"thinking","thinking":"b","signature":"t"},{"type":"thinking","thinking":"c","signature":"u"}]}`,
		}, `{"thinking_blocks":[{"type":"thinking","thinking":"Step","signature":"s"},{"type":"redacted_thinking","data":"eA=="},{"type":"redacted_thinking","data":"eQ=="},
			{"type":"thinking","thinking":"b","signature":"t"},{"type":"thinking","thinking":"c","signature":"u"}]}`},
		{"what is no thinking block", []string{`{"thinking_blocks":["a",{}]}`, `{"thinking_blocks":[null,["b"]]}`}, `{"thinking_blocks":["a",{},null,["b"]]}`},
		{"speech in pieces", []string{`{"audio":{"id":"a","transcript":"He"}}`, `{"audio":{"transcript":"llo"}}`, `{"audio":{"data":"AAAA"}}`, `{"audio":{"data":"BBBB"}}`, `{"audio":{"expires_at":1}}`},
			`{"audio":{"id":"a","transcript":"Hello","data":"AAAABBBB","expires_at":1}}`},
		{"pieces in one", []string{`{"l":[{"type":"t","index":0,"text":"a"},{"type":"t","index":0,"text":"b"}]}`}, `{"l":[{"type":"t","index":0,"text":"ab"}]}`},
		{"an index without a type", []string{`{"l":[{"index":0,"text":"a"}]}`, `{"l":[{"index":0,"text":"b"},{"index":1,"text":"c"}]}`}, `{"l":[{"index":0,"text":"ab"},{"index":1,"text":"c"}]}`},
		{"without an index they are two", []string{`{"l":[{"type":"t","text":"a"}]}`, `{"l":[{"type":"t","text":"a"}]}`}, `{"l":[{"type":"t","text":"a"},{"type":"t","text":"a"}]}`},
		{"a text outside a list", []string{`{"text":"a"}`, `{"text":"b"}`}, `{"text":"b"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var e extras
			for _, text := range tt.given {
				e.add(structOf(t, text))
			}
			got := e.result()
			if tt.want == "" {
				if got != nil {
					t.Errorf("got %v, want nothing", got)
				}
				return
			}
			if want := structOf(t, tt.want); !proto.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
		})
	}
}

// TestExtrasAreLinear checks that ten times as many pieces take about ten times as
// many allocations, of a text and of a list.
func TestExtrasAreLinear(t *testing.T) {
	for name, format := range map[string]string{
		"a text in pieces": `{"l":[{"type":"t","index":0,"text":"%d"}]}`,
		"many elements":    `{"l":[{"type":"t","index":%d,"text":"x"}]}`,
		"many members":     `{"m%d":1}`,
	} {
		checkLinear(t, name, func(n int) func() {
			given := make([]*structpb.Struct, n)
			for i := range given {
				given[i] = structOf(t, strings.Replace(format, "%d", fmt.Sprint(i), 1))
			}
			return func() {
				var e extras
				for _, s := range given {
					e.add(s)
				}
				e.result()
			}
		})
	}
}
