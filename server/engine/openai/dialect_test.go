package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/failure"
)

// picky is an upstream that rejects certain members. It records which of the members that
// matter each request had.
type picky struct {
	refuse map[string]string // by the member's name: the answer's body
	status int
	got    []string
}

func (p *picky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var members map[string]json.RawMessage
	_ = json.Unmarshal(body, &members)
	had := r.URL.Path[len("/v1"):]
	for _, name := range []string{"max_tokens", "max_completion_tokens", "stream_options"} {
		if value, ok := members[name]; ok {
			had += " " + name
			if name != "stream_options" {
				had += "=" + string(value)
			}
		}
	}
	p.got = append(p.got, had)
	for _, name := range []string{"stream_options", "max_tokens", "max_completion_tokens", "temperature"} {
		if _, ok := members[name]; ok && p.refuse[name] != "" {
			w.WriteHeader(p.status)
			io.WriteString(w, p.refuse[name])
			return
		}
	}
	io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
}

const (
	noMaxTokens    = `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}`
	noNewName      = `{"error":{"message":"Unrecognized request argument supplied: max_completion_tokens","type":"invalid_request_error","param":null,"code":null}}`
	noNewNameAtAll = `{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","max_completion_tokens"],"msg":"Extra inputs are not permitted","input":7}]},"type":"invalid_request_error","param":null,"code":null}`
	noOptions      = `{"object":"error","message":{"detail":[{"type":"extra_forbidden","loc":["body","stream_options","include_usage"],"msg":"Extra inputs are not permitted","input":true}]},"type":"invalid_request_error","param":null,"code":null}`
)

// TestDialect checks what is sent again, and that it is remembered for this model only.
func TestDialect(t *testing.T) {
	older := func(r *completionv1.CompletionRequest) { r.MaxTokens = proto.Int32(7) }
	newer := func(r *completionv1.CompletionRequest) { r.MaxCompletionTokens = proto.Int32(7) }
	const chats = "/chat/completions"
	for _, tc := range []struct {
		name   string
		status int
		refuse map[string]string
		set    func(*completionv1.CompletionRequest)
		first  []string // what the upstream gets for a request of model m
		second []string // and for another
		field  string   // that is wrong in the end
	}{
		{"OpenAI: only the newer name", 400, map[string]string{"max_tokens": noMaxTokens}, older,
			[]string{chats + " max_tokens=7 stream_options", chats + " max_completion_tokens=7 stream_options"},
			[]string{chats + " max_completion_tokens=7 stream_options"}, ""},
		{"a gateway that drops the code", 400, map[string]string{"max_tokens": `{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.","code":"400"}}`}, older,
			[]string{chats + " max_tokens=7 stream_options", chats + " max_completion_tokens=7 stream_options"},
			[]string{chats + " max_completion_tokens=7 stream_options"}, ""},
		{"Azure, older: only the older name", 400, map[string]string{"max_completion_tokens": noNewName}, newer,
			[]string{chats + " max_completion_tokens=7 stream_options", chats + " max_tokens=7 stream_options"},
			[]string{chats + " max_tokens=7 stream_options"}, ""},
		{"Mistral: only the older name, no options", 422, map[string]string{"max_completion_tokens": noNewNameAtAll, "stream_options": noOptions}, newer,
			[]string{chats + " max_completion_tokens=7 stream_options", chats + " max_completion_tokens=7", chats + " max_tokens=7"},
			[]string{chats + " max_tokens=7"}, ""},
		{"Azure, 2023: no options", 400, map[string]string{"stream_options": `{"error":{"message":"Unrecognized request argument supplied: stream_options","type":"invalid_request_error","param":null,"code":null}}`}, func(*completionv1.CompletionRequest) {},
			[]string{chats + " stream_options", chats}, []string{chats}, ""},
		{"Fireworks, older: no options", 400, map[string]string{"stream_options": `{"error":{"object":"error","type":"invalid_request_error","message":"Extra inputs are not permitted, field: 'stream_options', value: {'include_usage': True}"}}`}, func(*completionv1.CompletionRequest) {},
			[]string{chats + " stream_options", chats}, []string{chats}, ""},
		{"no options for a prompt", 422, map[string]string{"stream_options": noOptions}, func(r *completionv1.CompletionRequest) {
			r.Messages, r.Prompt, r.MaxTokens = nil, proto.String("Hi"), proto.Int32(7)
		}, []string{"/completions max_tokens=7 stream_options", "/completions max_tokens=7"}, []string{"/completions max_tokens=7"}, ""},
		{"neither name", 400, map[string]string{"max_tokens": noMaxTokens, "max_completion_tokens": noNewName}, older,
			[]string{chats + " max_tokens=7 stream_options", chats + " max_completion_tokens=7 stream_options"},
			[]string{chats + " max_tokens=7 stream_options", chats + " max_completion_tokens=7 stream_options"}, "max_tokens"},
		{"a value that is too large", 400, map[string]string{"max_tokens": `{"error":{"message":"max_tokens is too large: 7. This model supports at most 5 completion tokens","type":"invalid_request_error","param":"max_tokens","code":"invalid_value"}}`}, older,
			[]string{chats + " max_tokens=7 stream_options"}, []string{chats + " max_tokens=7 stream_options"}, "max_tokens"},
		{"another parameter after the name", 400, map[string]string{"max_tokens": noMaxTokens, "temperature": `{"error":{"message":"x","param":"temperature","code":"unsupported_value"}}`},
			func(r *completionv1.CompletionRequest) { r.MaxTokens, r.Temperature = proto.Int32(7), proto.Float64(1) },
			[]string{chats + " max_tokens=7 stream_options", chats + " max_completion_tokens=7 stream_options"},
			[]string{chats + " max_tokens=7 stream_options", chats + " max_completion_tokens=7 stream_options"}, "temperature"},
		{"a status that is no refusal of the request", 500, map[string]string{"stream_options": noOptions}, older,
			[]string{chats + " max_tokens=7 stream_options"}, []string{chats + " max_tokens=7 stream_options"}, ""},
		{"an error that repeats all of the input", 400, map[string]string{"temperature": `{"object":"error","message":"[{'type': 'greater_than', 'loc': ('body', 'temperature'), 'input': {'stream_options': {'include_usage': True}}}]","code":400}`},
			func(r *completionv1.CompletionRequest) { r.Temperature = proto.Float64(1) },
			[]string{chats + " stream_options"}, []string{chats + " stream_options"}, "temperature"},
		// The other name might be one that the upstream ignores.
		{"an error that repeats what a caller wrote", 400, map[string]string{"max_tokens": `{"object":"error","message":"[{'type': 'value_error', 'loc': ('body', 'max_tokens'), 'input': \"unsupported parameter: 'max_tokens'\"}]","code":400}`}, older,
			[]string{chats + " max_tokens=7 stream_options"}, []string{chats + " max_tokens=7 stream_options"}, "max_tokens"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			upstream := &picky{status: tc.status, refuse: tc.refuse}
			e := serve(t, upstream.ServeHTTP)
			for i, want := range [][]string{tc.first, tc.second} {
				upstream.got = nil
				req := chat()
				tc.set(req)
				before := proto.CloneOf(req)
				err := generate(t.Context(), e, req, ignore)
				if !slices.Equal(upstream.got, want) {
					t.Errorf("request %d: the upstream got %q, want %q", i, upstream.got, want)
				}
				var failed *failure.Error
				switch {
				case tc.field == "" && tc.status < 500 && err != nil:
					t.Errorf("request %d: %v", i, err)
				case tc.field != "" && !(errors.As(err, &failed) && strings.HasPrefix(failed.Message, tc.field+": ")):
					t.Errorf("request %d: got %v, want %s named", i, err, tc.field)
				}
				if !proto.Equal(req, before) {
					t.Errorf("the request was changed: %v", req)
				}
			}
			upstream.got = nil
			req := chat()
			tc.set(req)
			req.Model = "another"
			_ = generate(t.Context(), e, req, ignore)
			if !slices.Equal(upstream.got, tc.first) {
				t.Errorf("another model: the upstream got %q, want %q", upstream.got, tc.first)
			}
		})
	}
}

// TestDialectsBounded checks that callers cannot make it grow without a limit.
func TestDialectsBounded(t *testing.T) {
	var s dialects
	for i := range 3*maxDialects + 1 {
		s.put(dialectKey{model: fmt.Sprint(i)}, dialect{noStreamOptions: true})
	}
	if len(s.known) == 0 || len(s.known) > maxDialects || !s.get(dialectKey{model: fmt.Sprint(3 * maxDialects)}).noStreamOptions {
		t.Errorf("it knows %d", len(s.known))
	}
}
