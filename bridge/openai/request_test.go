package openai

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluice-sse/sluice/bridge/jsonbody"
	"github.com/sluice-sse/sluice/bridge/sse"
)

var testDecoder = jsonbody.Decoder{MaxBody: 4 << 20, Acquire: func(context.Context, int) (func(), error) { return func() {}, nil }}

// decodeTest decodes a body of a request; the error is what callers are told.
func decodeTest(of endpoint, body string) (*Request, error) {
	decode := DecodeChat
	switch of {
	case text:
		decode = DecodeText
	case responses:
		decode = func(ctx context.Context, d jsonbody.Decoder, body []byte) (*Request, error) {
			return DecodeResponse(ctx, d, body, findTest)
		}
	}
	req, err := decode(context.Background(), testDecoder, []byte(body))
	var refused *runtime.HTTPStatusError
	if errors.As(err, &refused) {
		if refused.HTTPStatus != http.StatusBadRequest {
			return nil, err
		}
		return nil, errors.New(status.Convert(refused.Err).Message())
	}
	return req, err
}

func TestDecodeMessages(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"text":            {`{"role":"system","content":"a","name":"n"}`, `{"role":"system","content":"a","name":"n"}`},
		"empty text":      {`{"role":"assistant","content":""}`, `{"role":"assistant","content":""}`},
		"parts":           {`{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:x","detail":"low"}}]}`, `{"role":"user","parts":[{"text":"a"},{"imageUrl":{"url":"data:x","detail":"low"}}]}`},
		"speech":          {`{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"AA==","format":"wav"}}]}`, `{"role":"user","parts":[{"inputAudio":{"data":"AA==","format":"wav"}}]}`},
		"a file":          {`{"role":"user","content":[{"type":"file","file":{"file_id":"f","filename":"n"}}]}`, `{"role":"user","parts":[{"file":{"fileId":"f","filename":"n"}}]}`},
		"more of a part":  {`{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}`, `{"role":"user","parts":[{"text":"a","extra":{"cache_control":{"type":"ephemeral"}}}]}`},
		"another part":    {`{"role":"user","content":[{"type":"video_url","video_url":{"url":"x"},"text":"t"}]}`, `{"role":"user","parts":[{"extra":{"text":"t","type":"video_url","video_url":{"url":"x"}}}]}`},
		"a refusal":       {`{"role":"assistant","content":[{"type":"refusal","refusal":"no"}]}`, `{"role":"assistant","parts":[{"extra":{"refusal":"no","type":"refusal"}}]}`},
		"an answer, back": {`{"role":"assistant","content":null,"refusal":null,"annotations":[],"audio":null,"function_call":null,"parsed":{"a":1},"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}","parsed_arguments":{}}}]}`, `{"role":"assistant","toolCalls":[{"id":"c","name":"f","arguments":"{}"}]}`},
		"a refused one":   {`{"role":"assistant","content":null,"refusal":"no"}`, `{"role":"assistant","extra":{"refusal":"no"}}`},
		"reasoning":       {`{"role":"assistant","content":"a","reasoning_content":"r","reasoning_details":[{"type":"t"}]}`, `{"role":"assistant","content":"a","reasoning":"r","extra":{"reasoning_details":[{"type":"t"}]}}`},
		"its other name":  {`{"role":"assistant","content":"a","reasoning":"r"}`, `{"role":"assistant","content":"a","reasoning":"r"}`},
		"more of a call":  {`{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"},"extra_content":{"g":1}}]}`, `{"role":"assistant","toolCalls":[{"id":"c","name":"f","arguments":"{}","extra":{"extra_content":{"g":1}}}]}`},
		"a tool's":        {`{"role":"tool","content":"7","tool_call_id":"c"}`, `{"role":"tool","content":"7","toolCallId":"c"}`},
	} {
		req, err := decodeTest(chat, `{"messages":[`+tt.in+`]}`)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := protojson.Marshal(req.Completion.Messages[0])
		if err == nil {
			got, err = sse.AppendJSON(nil, got)
		}
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, tt.want)
		}
	}
}

func TestDecodeStream(t *testing.T) {
	for body, want := range map[string][2]bool{
		`{"prompt":"a"}`:               {false, false},
		`{"prompt":"a","stream":null}`: {false, false},
		`{"prompt":"a","stream":true}`: {true, false},
		`{"prompt":["a"],"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":true}}`: {true, true},
		`{"prompt":"a","stream":true,"stream_options":{"include_usage":null}}`:                              {true, false},
	} {
		got, err := decodeTest(text, body)
		if err != nil || got.Stream != want[0] || got.IncludeUsage != want[1] {
			t.Errorf("%s: got %+v, %v", body, got, err)
		}
	}
}

// TestDecodeBadRequests checks what is refused, and by which name.
func TestDecodeBadRequests(t *testing.T) {
	const messages = `"messages":[{"role":"user","content":"a"}]`
	for body, want := range map[string]string{
		``:                           `the body is not a request in JSON`,
		`[]`:                         `the body is not a request in JSON: (line 1:1): it is not an object`,
		`{"messages":`:               `the body is not a request in JSON: (line 1:13): syntax error`,
		`{` + messages + `}x`:        `the body is not a request in JSON: (line 1:`,
		`{` + messages + `}{}`:       `the body is not a request in JSON: (line 1:46): syntax error: there is more behind the JSON value`,
		`{"a":1,"a":2}`:              `the body is not a request in JSON: (line 1:8): syntax error in "/a": duplicate object member name`,
		`{"model":"` + "\xff" + `"}`: `the body is not a request in JSON: (line 1:11): syntax error`,
		`{"messages":[` + strings.Repeat(`[`, 300) + strings.Repeat(`]`, 300) + `]}`: `the body is not a request in JSON: (line 1:213): it is nested too deep`,
		`{"messages":[` + strings.Repeat(`0,`, 200_000) + `0]}`:                      `the body is not a request in JSON: (line 1:262153): it is made of too many names and values`,

		`{}`:                                           `messages: is required`,
		`{"messages":[]}`:                              `messages: is required`,
		`{"messages":{}}`:                              `messages: must be a list`,
		`{"messages":["a"]}`:                           `messages[0]: must be an object`,
		`{"messages":[{"role":1}]}`:                    `messages[0].role: must be a string`,
		`{"messages":[{"content":1}]}`:                 `messages[0].content: must be a string or a list of parts`,
		`{"messages":[{"content":[1]}]}`:               `messages[0].content[0]: must be an object`,
		`{"messages":[{"content":[{"text":"a"}]}]}`:    `messages[0].content[0].type: is required`,
		`{"messages":[{"content":[{"type":"text"}]}]}`: `messages[0].content[0].text: is required`,
		`{"messages":[{"content":[{"type":"image_url","image_url":"x"}]}]}`:              `messages[0].content[0].image_url: must be an object`,
		`{"messages":[{"content":[{"type":"image_url","image_url":{"url":1}}]}]}`:        `messages[0].content[0].image_url.url: must be a string`,
		`{"messages":[{"content":[{"type":"image_url","image_url":{"odd":1}}]}]}`:        `messages[0].content[0].image_url.odd: is not known here`,
		`{"messages":[{"function_call":{}}]}`:                                            `messages[0].function_call: was replaced`,
		`{"messages":[{"tool_calls":[{"type":"custom"}]}]}`:                              `messages[0].tool_calls[0].type: must be function`,
		`{"messages":[{"tool_calls":[{"id":"a"}]}]}`:                                     `messages[0].tool_calls[0].function: is required`,
		`{"messages":[{"tool_calls":[{"id":"a","function":{"arguments":{}}}]}]}`:         `messages[0].tool_calls[0].function.arguments: must be a string`,
		`{"messages":[{"tool_calls":[{"id":"a","function":{"odd":1}}]}]}`:                `messages[0].tool_calls[0].function.odd: is not known here`,
		`{"messages":[{"role":"user","x":1e999}]}`:                                       `messages[0].x: is nested too deep, or has a number that is too large`,
		`{` + messages + `,"n":2}`:                                                       `n: must be 1`,
		`{` + messages + `,"n":0}`:                                                       `n: must be 1`,
		`{` + messages + `,"temperature":"1"}`:                                           `temperature: must be a number`,
		`{` + messages + `,"max_tokens":1.5}`:                                            `max_tokens: must be a whole number`,
		`{` + messages + `,"max_tokens":99999999999}`:                                    `max_tokens: must be a whole number`,
		`{` + messages + `,"stream":1}`:                                                  `stream: must be true or false`,
		`{` + messages + `,"stop":1}`:                                                    `stop: must be a string or a list of strings`,
		`{` + messages + `,"stop":[1]}`:                                                  `stop[0]: must be a string`,
		`{` + messages + `,"tools":[{"type":"custom","custom":{"name":"a"}}]}`:           `tools[0].function: is required`,
		`{` + messages + `,"tools":[{"function":{"name":"a","parameters":[]}}]}`:         `tools[0].function.parameters: must be an object`,
		`{` + messages + `,"tools":[{"function":{"name":"a"},"cache_control":{}}]}`:      `tools[0].cache_control: is not known here`,
		`{` + messages + `,"response_format":"json"}`:                                    `response_format: must be an object`,
		`{` + messages + `,"response_format":{"type":"json_schema","schema":{}}}`:        `response_format.schema: is not known here`,
		`{` + messages + `,"response_format":{"type":"a","json_schema":{"schema":1}}}`:   `response_format.json_schema.schema: must be an object`,
		`{` + messages + `,"stream_options":{"include_usage":true}}`:                     `stream_options: is for a request with stream: true`,
		`{` + messages + `,"stream":true,"stream_options":{"continuous_usage_stats":1}}`: `stream_options.continuous_usage_stats: is not known here`,
		`{` + messages + `,"functions":[]}`:                                              `functions: was replaced by tools`,
		`{` + messages + `,"moderation":{}}`:                                             `moderation: cannot be had`,
		`{` + messages + `,"prompt":"a"}`:                                                `prompt: is a parameter of POST /openai/v1/completions`,
		`{` + messages + `,"extra":{}}`:                                                  `extra: is no parameter of this API`,
		`{` + messages + `,"idempotencyKey":"a"}`:                                        `idempotencyKey: is no parameter of this API`,
		`{` + messages + `,"disconnect_grace":"-1s"}`:                                    `disconnect_grace: must be a duration`,
		`{` + messages + `,"disconnect_grace":5}`:                                        `disconnect_grace: must be a duration`,
	} {
		if got, err := decodeTest(chat, body); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.200s: got %+v, %v, want %s", body, got, err, want)
		}
	}
	for body, want := range map[string]string{
		`{}`:                           `prompt: is required`,
		`{"prompt":["a","b"]}`:         `prompt: must be one text`,
		`{"prompt":[1,2]}`:             `prompt: must be one text`,
		`{"prompt":[[1,2]]}`:           `prompt: must be one text`,
		`{"prompt":{}}`:                `prompt: must be one text`,
		`{"prompt":"a","echo":true}`:   `echo: must be false`,
		`{"prompt":"a","best_of":3}`:   `best_of: must be 1`,
		`{"prompt":"a","messages":[]}`: `messages: is a parameter of POST /openai/v1/chat/completions`,
	} {
		if got, err := decodeTest(text, body); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %+v, %v, want %s", body, got, err, want)
		}
	}
}
