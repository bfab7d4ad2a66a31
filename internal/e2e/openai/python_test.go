package openai

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/sse"
)

// runOpenAIPython sends what openai-python sends, and reads the answers as it does. There is
// no Python here: the requests are put together, byte for byte, as its source does it (3.3.1:
// _build_headers, _build_request and platform_headers of src/openai/_base_client.py, the
// order of headers is httpx's; the bodies are those of json.dumps without spaces).
func runOpenAIPython(t *testing.T, url string) map[string]string {
	t.Helper()
	host, base, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	c := &python{host: host, base: "/" + base, legacy: strings.Contains(url, "/openai/")}
	result := map[string]string{}
	for feature, run := range map[string]func() error{
		"chat, whole": c.whole, "chat, streamed": c.streamed, "stream helper": c.helper, "usage": c.usage, "tool loop": c.tools, "structured output": c.structured,
		"legacy completions": c.text, "models": c.models, "errors": c.errors,
		"responses, whole": c.responses, "responses, streamed": c.responsesStreamed, "responses, resumed": c.resumed, "responses, background": c.background, "responses, tool loop": c.responseTools,
		"responses, errors": c.responseErrors,
	} {
		result[feature] = ""
		if err := run(); err != nil {
			result[feature] = err.Error()
		}
	}
	return result
}

type python struct {
	host, base string
	legacy     bool
}

const pythonHeader = "Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nAuthorization: Bearer anything\r\nAccept: application/json\r\n%s" +
	"User-Agent: OpenAI/Python 3.3.1\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 3.3.1\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n" +
	"X-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.13.5\r\nX-Stainless-Async: false\r\n%sx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n"

// send sends a request; more are headers of a helper.
func (c *python) send(method, path, body, more string) (*http.Response, error) {
	contentType := "Content-Type: application/json\r\n"
	if method == "GET" {
		contentType = ""
	}
	head := fmt.Sprintf("%s %s%s HTTP/1.1\r\nHost: %s\r\n"+pythonHeader, method, c.base, path, c.host, contentType, more)
	if method == "POST" {
		head += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	conn, err := net.Dial("tcp", c.host)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, head+"\r\n"+body); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{resp.Body, conn}
	return resp, nil
}

// raised is an error that the client raises.
type raised struct {
	status int // 0: in a stream
	code   string
	again  bool // it asks again
}

func (r *raised) Error() string { return fmt.Sprintf("%d %s, again: %v", r.status, r.code, r.again) }

// object decodes a whole answer.
func (c *python) object(method, path, body, more string, into any) error {
	resp, err := c.send(method, path, body, more)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		var refused struct{ Error struct{ Code string } }
		if err := json.Unmarshal(b, &refused); err != nil {
			return err
		}
		// _should_retry: what the header says, and else by the status.
		again := resp.StatusCode == 408 || resp.StatusCode == 409 || resp.StatusCode == 429 || resp.StatusCode >= 500
		if said := resp.Header.Get("x-should-retry"); said == "true" || said == "false" {
			again = said == "true"
		}
		return &raised{resp.StatusCode, refused.Error.Code, again}
	}
	return json.Unmarshal(b, into)
}

// stream decodes a stream as Stream.__stream__ does: to [DONE] or the end; the JSON of
// each event; one with an error that is true raises that.
func (c *python) stream(method, path, body, more string) (all []map[string]any, err error) {
	resp, err := c.send(method, path, body, more)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != sse.MediaType {
		return nil, fmt.Errorf("%s, %s", resp.Status, got)
	}
	r := sse.NewReader(resp.Body, 1<<20)
	for {
		m, err := r.Next()
		if err == io.EOF || strings.HasPrefix(m.Data, "[DONE]") {
			return all, nil
		}
		var event map[string]any
		if err != nil || json.Unmarshal([]byte(m.Data), &event) != nil {
			return all, fmt.Errorf("%q: %w", m.Data, err)
		}
		if failed, ok := event["error"].(map[string]any); ok {
			return all, &raised{code: fmt.Sprint(failed["code"])}
		}
		all = append(all, event)
	}
}

const (
	chatPath     = "/chat/completions"
	pythonSchema = `{"properties":{"city":{"title":"City","type":"string"},"degrees":{"title":"Degrees","type":"integer"}},"required":["city","degrees"],"title":"Place","type":"object","additionalProperties":false}`
	pythonTool   = `{"type":"function","function":{"name":"weather","strict":true,"parameters":{"properties":{"city":{"title":"City","type":"string"}},"required":["city"],"title":"weather","type":"object","additionalProperties":false}}}`
)

// pythonScene is the body of a request for a scene.
func pythonScene(name, more string) string {
	return `{"messages":[{"role":"user","content":"` + name + `"}],"model":"m"` + more + "}"
}

type pythonCompletion struct {
	Choices []struct {
		Message      json.RawMessage
		FinishReason string `json:"finish_reason"`
		Text         string
	}
	Usage struct {
		Total int `json:"total_tokens"`
	}
}

type pythonMessage struct {
	Content   string
	ToolCalls []struct {
		ID       string
		Function struct{ Arguments string }
	} `json:"tool_calls"`
}

// create asks for a whole chat completion.
func (c *python) create(body, more string) (completion pythonCompletion, message pythonMessage, err error) {
	if err := c.object("POST", chatPath, body, more, &completion); err != nil {
		return completion, message, err
	}
	return completion, message, json.Unmarshal(completion.Choices[0].Message, &message)
}

func (c *python) whole() error {
	completion, message, err := c.create(pythonScene("hello", ""), "")
	return errors.Join(err, same([]any{message.Content, completion.Usage.Total}, []any{"Hello, wörld", 10}))
}

// contentOf puts the content of chunks together.
func contentOf(chunks []map[string]any) (text string) {
	for _, chunk := range chunks {
		for _, choice := range chunk["choices"].([]any) {
			delta, _ := choice.(map[string]any)["delta"].(map[string]any)
			piece, _ := delta["content"].(string)
			text += piece
		}
	}
	return text
}

func (c *python) streamed() error {
	chunks, err := c.stream("POST", chatPath, pythonScene("hello", `,"stream":true`), "")
	return errors.Join(err, same(contentOf(chunks), "Hello, wörld"))
}

func (c *python) helper() error {
	format := `,"response_format":{"type":"json_schema","json_schema":{"schema":` + pythonSchema + `,"name":"Place","strict":true}},"stream":true`
	chunks, err := c.stream("POST", chatPath, pythonScene("place", format), "X-Stainless-Helper-Method: chat.completions.stream\r\n")
	return errors.Join(err, same(contentOf(chunks), `{"city":"Bern","degrees":7}`))
}

func (c *python) usage() error {
	chunks, err := c.stream("POST", chatPath, pythonScene("hello", `,"stream":true,"stream_options":{"include_usage":true}`), "")
	if err != nil {
		return err
	}
	usage, _ := chunks[len(chunks)-1]["usage"].(map[string]any)
	return same(usage["total_tokens"], 10.0)
}

func (c *python) tools() error {
	completion, message, err := c.create(pythonScene("weather", `,"tools":[`+pythonTool+"]"), "")
	if err != nil {
		return err
	}
	messages := `{"role":"user","content":"weather"},` + string(completion.Choices[0].Message)
	for _, call := range message.ToolCalls {
		var args struct{ City string }
		if err := json.Unmarshal([]byte(call.Function.Arguments), &args); err != nil {
			return err
		}
		messages += fmt.Sprintf(`,{"role":"tool","tool_call_id":"%s","content":"%s: 7 degrees"}`, call.ID, args.City)
	}
	_, message, err = c.create(`{"messages":[`+messages+`],"model":"m","tools":[`+pythonTool+"]}", "")
	return errors.Join(err, same(message.Content, "I heard: Bern: 7 degrees; Ulm: 7 degrees"))
}

func (c *python) structured() error {
	format := `,"response_format":{"type":"json_schema","json_schema":{"schema":` + pythonSchema + `,"name":"Place","strict":true}},"stream":false`
	_, message, err := c.create(pythonScene("place", format), "X-Stainless-Helper-Method: chat.completions.parse\r\n")
	return errors.Join(err, same(message.Content, `{"city":"Bern","degrees":7}`))
}

func (c *python) text() error {
	if !c.legacy {
		return nil
	}
	var completion pythonCompletion
	err := c.object("POST", "/completions", `{"model":"m","prompt":"hello"}`, "", &completion)
	return errors.Join(err, same(completion.Choices[0].Text, "Hello, wörld"))
}

func (c *python) models() error {
	var list struct{ Data []struct{ ID string } }
	err := c.object("GET", "/models", "", "", &list)
	return errors.Join(err, same(len(list.Data), 2))
}

func (c *python) errors() error {
	for scene, want := range map[string]raised{"too long": {400, "context_length_exceeded", false}, "broken": {503, "upstream_unavailable", false}, "busy": {429, "upstream_rate_limited", true}} {
		_, _, err := c.create(pythonScene(scene, ""), "")
		if got := new(raised); !errors.As(err, &got) || *got != want {
			return fmt.Errorf("%s: got %w, want %v", scene, err, &want)
		}
	}
	_, err := c.stream("POST", chatPath, pythonScene("cut", `,"stream":true`), "")
	if got := new(raised); !errors.As(err, &got) || got.code != "upstream_truncated" {
		return fmt.Errorf("an answer that is cut ends with %w", err)
	}
	return nil
}
