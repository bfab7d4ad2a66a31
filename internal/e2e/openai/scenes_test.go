package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

// The upstream of clients of OpenAI's API plays scenes, which the last message names, or
// the prompt of a legacy completion. What each says, testdata/openai/report.js knows.

// sceneRequest is what the upstream looks at.
type sceneRequest struct {
	Prompt   string
	Messages []struct {
		Role    string
		Content json.RawMessage
	}
	ResponseFormat *struct{ Type string } `json:"response_format"`
	Tools          []json.RawMessage
	Logprobs       bool
}

// playScene answers a request for a completion.
func playScene(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var req sceneRequest
	if strings.HasSuffix(r.URL.Path, "/v1/completions") {
		_ = json.Unmarshal(body, &struct{ Prompt *string }{&req.Prompt})
		playLegacy(w)
		return
	}
	if err := json.Unmarshal(body, &req); err != nil || len(req.Messages) == 0 {
		e2etest.Refuse(400, "odd")(w, r)
		return
	}
	last := req.Messages[len(req.Messages)-1]
	var scene string
	if last.Role == "tool" {
		playHeard(w, &req)
		return
	}
	if json.Unmarshal(last.Content, &scene) != nil {
		playParts(w, last.Content)
		return
	}
	if play := scenes[scene]; play != nil {
		play(w, r, &req)
		return
	}
	e2etest.Refuse(400, "odd")(w, r)
}

const sceneUsage = `{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}`

// scenes are what the last message may name.
var scenes = map[string]func(w http.ResponseWriter, r *http.Request, req *sceneRequest){
	"hello": func(w http.ResponseWriter, _ *http.Request, _ *sceneRequest) {
		e2etest.Say(w, "Hello,")
		e2etest.Say(w, " wörld")
		endScene(w, "stop")
	},
	"weather": func(w http.ResponseWriter, r *http.Request, req *sceneRequest) {
		if len(req.Tools) != 1 {
			e2etest.Refuse(400, "no_tools")(w, r)
			return
		}
		for i, city := range []string{"Bern", "Ulm"} {
			e2etest.Chunk(w, fmt.Sprintf(`{"tool_calls":[{"index":%d,"id":"call_%d","type":"function","function":{"name":"weather","arguments":""}}]}`, i, i), "null")
			for _, piece := range []string{`{\"city\":`, `\"` + city + `\"}`} {
				e2etest.Chunk(w, fmt.Sprintf(`{"tool_calls":[{"index":%d,"function":{"arguments":"%s"}}]}`, i, piece), "null")
			}
		}
		endScene(w, "tool_calls")
	},
	"place": func(w http.ResponseWriter, r *http.Request, req *sceneRequest) {
		if req.ResponseFormat == nil || req.ResponseFormat.Type != "json_schema" {
			e2etest.Refuse(400, "no_format")(w, r)
			return
		}
		e2etest.Say(w, `{"city":"Bern",`)
		e2etest.Say(w, `"degrees":7}`)
		endScene(w, "stop")
	},
	"think": func(w http.ResponseWriter, _ *http.Request, _ *sceneRequest) {
		e2etest.Chunk(w, `{"reasoning_content":"Hm,"}`, "null")
		e2etest.Chunk(w, `{"reasoning_content":" so."}`, "null")
		e2etest.Say(w, "Yes")
		endScene(w, "stop")
	},
	"refuse": func(w http.ResponseWriter, _ *http.Request, _ *sceneRequest) {
		e2etest.Chunk(w, `{"refusal":"I will"}`, "null")
		e2etest.Chunk(w, `{"refusal":" not"}`, "null")
		endScene(w, "stop")
	},
	"likely": func(w http.ResponseWriter, r *http.Request, req *sceneRequest) {
		if !req.Logprobs {
			e2etest.Refuse(400, "no_logprobs")(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, `data: {"id":"x","object":"chat.completion.chunk","model":"m-1","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null,`+
			`"logprobs":{"content":[{"token":"Hi","logprob":-0.25,"bytes":[72,105],"top_logprobs":[{"token":"Hi","logprob":-0.25,"bytes":[72,105]}]}],"refusal":null}}]}`+"\n\n")
		endScene(w, "stop")
	},
	"endless": func(w http.ResponseWriter, r *http.Request, _ *sceneRequest) {
		e2etest.Say(w, "And")
		<-r.Context().Done()
	},
	"too long": func(w http.ResponseWriter, r *http.Request, _ *sceneRequest) {
		e2etest.Refuse(400, "context_length_exceeded")(w, r)
	},
	"busy": func(w http.ResponseWriter, r *http.Request, _ *sceneRequest) {
		e2etest.Refuse(429, "rate_limit_exceeded", "Retry-After", "7")(w, r)
	},
	"broken": func(w http.ResponseWriter, r *http.Request, _ *sceneRequest) {
		e2etest.Refuse(500, "server_error")(w, r)
	},
	"cut": func(w http.ResponseWriter, _ *http.Request, _ *sceneRequest) { e2etest.Say(w, "Hel") },
}

// endScene ends a chat completion well.
func endScene(w http.ResponseWriter, reason string) {
	e2etest.Chunk(w, `{}`, reason)
	fmt.Fprintf(w, `data: {"id":"x","object":"chat.completion.chunk","model":"m-1","choices":[],"usage":%s}`+"\n\ndata: [DONE]\n\n", sceneUsage)
}

// playHeard says what the tools have said.
func playHeard(w http.ResponseWriter, req *sceneRequest) {
	var heard []string
	for _, m := range req.Messages {
		var text string
		if json.Unmarshal(m.Content, &text) == nil && m.Role == "tool" {
			if unquoted := ""; json.Unmarshal([]byte(text), &unquoted) == nil {
				text = unquoted // the AI SDK writes it as JSON
			}
			heard = append(heard, text)
		}
	}
	e2etest.Say(w, "I heard: "+strings.Join(heard, "; "))
	endScene(w, "stop")
}

// playParts says what it sees.
func playParts(w http.ResponseWriter, content json.RawMessage) {
	var parts []struct {
		Type     string
		ImageURL struct{ URL, Detail string } `json:"image_url"`
	}
	_ = json.Unmarshal(content, &parts)
	for _, p := range parts {
		if p.Type == "image_url" {
			e2etest.Say(w, fmt.Sprintf("I see %s (%s)", p.ImageURL.URL, p.ImageURL.Detail))
		}
	}
	if len(parts) == 1 && parts[0].Type == "text" {
		e2etest.Say(w, "?")
	}
	endScene(w, "stop")
}

// playLegacy answers a legacy completion.
func playLegacy(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, text := range []string{"Hello,", " wörld"} {
		fmt.Fprintf(w, `data: {"id":"x","object":"text_completion","model":"m-1","choices":[{"index":0,"text":"%s","finish_reason":null}]}`+"\n\n", text)
	}
	fmt.Fprint(w, `data: {"id":"x","object":"text_completion","model":"m-1","choices":[{"index":0,"text":"","finish_reason":"stop"}]}`+"\n\n")
	fmt.Fprintf(w, `data: {"id":"x","object":"text_completion","model":"m-1","choices":[],"usage":%s}`+"\n\ndata: [DONE]\n\n", sceneUsage)
}
