package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/bridge/sse"
	"github.com/sluice-sse/sluice/internal/e2e/e2etest"
)

const responsesPath = "/openai/v1/responses"

// TestResponsesAtEveryOffset cuts the stream of a response at each byte. What its reader
// had, and what he gets with starting_after, is the whole, byte for byte, for one call
// upstream.
func TestResponsesAtEveryOffset(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				for _, word := range words {
					e2etest.Say(w, word)
				}
				e2etest.Chunk(w, `{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}`, "null")
				e2etest.Chunk(w, `{}`, "tool_calls")
			})
			p := e2etest.Start(t, layout, u.Env())
			raw := readResponse(t, p.Send(t.Context(), t, "POST", responsesPath, `{"model":"m","input":"Hi","stream":true}`, "Content-Type", "application/json"))
			created := raw[strings.Index(raw, `"id":"`)+len(`"id":"`):]
			id, _, _ := strings.Cut(created, `"`)
			rests := map[int]string{} // of the stream after an event, to be asked for once
			for offset := range len(raw) + 1 {
				if underRace && offset%16 > 0 {
					continue // it takes thirty times as long
				}
				last, had := -1, 0
				r := sse.NewReader(strings.NewReader(raw[:offset]), 1<<20)
				for m, err := r.Next(); err == nil; m, err = r.Next() {
					var event struct {
						N int `json:"sequence_number"`
					}
					if err := json.Unmarshal([]byte(m.Data), &event); err != nil || event.N != last+1 {
						t.Fatalf("event %d is %s: %v", last+1, m.Data, err)
					}
					last = event.N
				}
				had = endOfEvents(raw[:offset])
				if _, ok := rests[last]; !ok {
					path := responsesPath + "/" + id + "?stream=true"
					if last >= 0 {
						path += fmt.Sprintf("&starting_after=%d", last)
					}
					rests[last] = readResponse(t, p.Send(t.Context(), t, "GET", path, ""))
				}
				if rests[last] != raw[had:] {
					t.Fatalf("cut at %d, after %d: got\n%s, want\n%s", offset, last, rests[last], raw[had:])
				}
			}
			if n := u.Calls.Load(); n != 1 {
				t.Errorf("%d calls upstream", n)
			}
			t.Logf("%d offsets, %d events", len(raw)+1, len(rests)-1)
		})
	}
}

// endOfEvents returns where the last whole event of a stream ends.
func endOfEvents(stream string) int { return strings.LastIndex("\n\n"+stream, "\n\n") }

func readResponse(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s %s: %v", resp.Status, b, err)
	}
	return string(b)
}

// TestResponsesInTheBackground has nobody wait for a response, which goes on, is read
// while it runs, and is cancelled.
func TestResponsesInTheBackground(t *testing.T) {
	for _, layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			goOn := make(chan struct{})
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, r *http.Request) {
				e2etest.Say(w, "And")
				select {
				case <-goOn:
				case <-r.Context().Done():
					return
				}
				e2etest.Say(w, " so")
				e2etest.Chunk(w, `{}`, "stop")
			})
			p := e2etest.Start(t, layout, u.Env())
			type response struct {
				ID, Status string
				Output     []struct{ Content []struct{ Text string } }
			}
			ask := func(method, path, body string) (r response) {
				t.Helper()
				if err := json.Unmarshal([]byte(readResponse(t, p.Send(t.Context(), t, method, path, body, "Content-Type", "application/json"))), &r); err != nil {
					t.Fatal(err)
				}
				return r
			}
			const create = `{"model":"m","input":"Hi","background":true}`
			first, second := ask("POST", responsesPath, create), ask("POST", responsesPath, create)
			if first.Status != "in_progress" || second.Status != "in_progress" || first.ID == second.ID {
				t.Fatalf("got %+v, %+v", first, second)
			}
			time.Sleep(300 * time.Millisecond) // in which one that nobody reads would have been stopped
			if got := ask("POST", responsesPath+"/"+first.ID+"/cancel", ""); got.Status != "cancelled" {
				t.Errorf("cancelled, it is %+v", got)
			}
			if got := ask("GET", responsesPath+"/"+second.ID, ""); got.Status != "in_progress" {
				t.Errorf("it is %+v", got)
			}
			close(goOn)
			e2etest.Eventually(t, "the end of the response", func() bool { return ask("GET", responsesPath+"/"+second.ID, "").Status == "completed" })
			if got := ask("GET", responsesPath+"/"+second.ID, ""); len(got.Output) != 1 || len(got.Output[0].Content) != 1 || got.Output[0].Content[0].Text != "And so" {
				t.Errorf("it is %+v", got)
			}
			if n := u.Calls.Load(); n != 2 {
				t.Errorf("%d calls upstream", n)
			}
		})
	}
}

func askResponse(members string) string { return `{"input":"Hi"` + members + `}` }

func inputItem(item string) string { return `{"input":[` + item + `]}` }

// badResponses are bodies that are no requests for a response, and the parameter that is wrong.
var badResponses = map[string]string{
	``: "", `{`: "", `[]`: "", askResponse("") + "x": "", askResponse(`,"stream":true,"stream":true`): "",
	`{"input":"` + "\xff" + `"}`: "", `{"input":"\ud800"}`: "", `{"input":` + strings.Repeat("[", 1000): "",
	`{}`: "input", `{"input":null}`: "input", `{"input":1}`: "input", `{"input":[]}`: "input", inputItem(`1`): "input[0]", inputItem(`{}`): "input[0].type",
	inputItem(`{"type":"image_generation_call","id":"x"}`):                                           "input[0].type",
	inputItem(`{"role":"user"}`):                                                                     "input[0].content",
	inputItem(`{"role":"user","content":[{"type":"input_text"}]}`):                                   "input[0].content[0].text",
	inputItem(`{"role":"user","content":[{"type":"input_image","file_id":"f"}]}`):                    "input[0].content[0].image_url",
	inputItem(`{"role":"user","content":[{"type":"input_image","image_url":"file:///etc/passwd"}]}`): "input",
	inputItem(`{"role":"user","content":[{"type":"input_file","file_url":"https://x.test/a"}]}`):     "input[0].content[0].file_url",
	inputItem(`{"role":"function","content":"a"}`):                                                   "input[0].role",
	inputItem(`{"type":"function_call_output","output":"a"}`):                                        "input[0].call_id",
	inputItem(`{"type":"item_reference","id":"msg_x"}`):                                              "input[0].id",
	inputItem(`{"type":"reasoning","summary":[],"encrypted_content":"x"}`):                           "input[0].encrypted_content",
	askResponse(`,"instructions":[]`):                                                                "instructions",
	askResponse(`,"background":"yes"`):                                                               "background",
	askResponse(`,"conversation":"conv_1"`):                                                          "conversation",
	askResponse(`,"previous_response_id":"resp_1"`):                                                  "previous_response_id",
	askResponse(`,"prompt":{"id":"p"}`):                                                              "prompt",
	askResponse(`,"context_management":[]`):                                                          "context_management",
	askResponse(`,"truncation":"auto"`):                                                              "truncation",
	askResponse(`,"temperature":3`):                                                                  "temperature",
	askResponse(`,"top_p":-1`):                                                                       "top_p",
	askResponse(`,"max_output_tokens":0`):                                                            "max_output_tokens",
	askResponse(`,"top_logprobs":99`):                                                                "top_logprobs",
	askResponse(`,"messages":[]`):                                                                    "messages",
	askResponse(`,"n":1`):                                                                            "n",
	askResponse(`,"text":{"format":{"type":"grammar"}}`):                                             "text.format.type",
	askResponse(`,"text":{"format":{"type":"json_schema","name":"","schema":{}}}`):                   "text.format.name",
	askResponse(`,"tool_choice":"auto"`):                                                             "tool_choice",
	askResponse(`,"tools":[{"type":"web_search"}]`):                                                  "tools[0].type",
	askResponse(`,"tools":[{"type":"function","name":""}]`):                                          "tools[0].name",
	askResponse(`,"tools":[{"type":"function","function":{"name":"f"}}]`):                            "tools[0].function",
	askResponse(`,"model":"` + strings.Repeat("m", 300) + `"`):                                       "model",
	askResponse(`,"metadata":{"a":1}`):                                                               "metadata.a",
}

// TestResponsesBadInput sends what is no request of the Responses API, or none that can be had.
func TestResponsesBadInput(t *testing.T) {
	u := e2etest.NewUpstream(t, sayAndEnd)
	p := e2etest.Start(t, "one process", u.Env(), "--max-body=64KiB", "--model=m")
	resp := p.Send(t.Context(), t, "POST", responsesPath, `{"input":"Hi"}`, "Content-Type", "application/json")
	var good struct{ ID string }
	if err := json.Unmarshal([]byte(readResponse(t, resp)), &good); err != nil {
		t.Fatal(err)
	}
	const none = responsesPath + "/resp_none"
	var all []badRequest
	for body, param := range badResponses {
		all = append(all, badRequest{path: responsesPath, body: body, status: 400, param: param})
	}
	all = append(all, []badRequest{
		{path: responsesPath, body: padded(64<<10 + 1), status: 413},
		{path: responsesPath, body: askResponse(""), header: []string{"Content-Type", "text/plain"}, status: 415},
		{path: responsesPath, body: askResponse(""), header: []string{"Idempotency-Key", strings.Repeat("k", 256)}, status: 400, param: "idempotency_key"},
		{path: responsesPath, body: inputItem(`{"type":"item_reference","id":"msg_none_0"}`), status: 404, code: "completion_not_found", kind: "not_found_error"},
		{method: "GET", path: responsesPath, status: 405},
		{method: "DELETE", path: none, status: 405},
		{method: "GET", path: none, status: 404, code: "completion_not_found", kind: "not_found_error"},
		{method: "GET", path: none + "?stream=true", status: 404, code: "completion_not_found", kind: "not_found_error"},
		{method: "GET", path: responsesPath + "/%ff", status: 404, kind: "not_found_error"},
		{method: "GET", path: responsesPath + "/cmpl_none", status: 404, code: "completion_not_found", kind: "not_found_error"},
		{path: none + "/cancel", status: 404, code: "completion_not_found", kind: "not_found_error"},
		{path: none + "/stop", status: 404, kind: "not_found_error"},
	}...)
	for query, param := range map[string]string{
		"stream=maybe": "stream", "starting_after=1": "starting_after", "stream=true&starting_after=-1": "starting_after",
		"stream=true&starting_after=x": "starting_after", "stream=true&starting_after=99999999999": "starting_after", "stream=true&starting_after=100": "starting_after",
	} {
		all = append(all, badRequest{method: "GET", path: responsesPath + "/" + good.ID + "?" + query, status: 400, param: param})
	}
	all = append(all,
		badRequest{method: "GET", path: responsesPath + "/" + good.ID, body: `{"stream":1}`, status: 400},
		badRequest{method: "GET", path: responsesPath + "/" + good.ID, body: strings.Repeat(" ", 2000), status: 413})
	checkRefused(t, p, all)
	if calls := u.Calls.Load(); calls != 1 {
		t.Errorf("%d calls upstream", calls)
	}
	// Nothing of it is left behind.
	if got := readResponse(t, p.Send(t.Context(), t, "GET", responsesPath+"/"+good.ID, "")); !strings.Contains(got, `"status":"completed"`) {
		t.Errorf("then got %s", got)
	}
}

// TestResponsesLong reads a response that is longer than any buffer, at once, later, from
// within its end, and whole: each has all of it.
func TestResponsesLong(t *testing.T) {
	thought, text := strings.Repeat("Hm. ", 20_000), strings.Repeat("wörd\n", 40_000)
	quoted, _ := json.Marshal(thought)
	for _, layout := range append(layouts, e2etest.OverTLS[0]) { // over TLS, it is HTTP/2
		t.Run(layout, func(t *testing.T) {
			u := e2etest.NewUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
				e2etest.Chunk(w, `{"reasoning_content":`+string(quoted)+`}`, "null")
				for i := 0; i < len(text); i += len(text) / 100 {
					e2etest.Say(w, text[i:i+len(text)/100])
				}
				e2etest.Chunk(w, `{}`, "stop")
			})
			p := e2etest.Start(t, layout, u.Env())
			raw := readResponse(t, p.Send(t.Context(), t, "POST", responsesPath, `{"model":"m","input":"Hi","stream":true}`, "Content-Type", "application/json"))
			var last struct{ Response struct{ ID string } }
			events := strings.SplitAfter(raw, "\n\n")
			_, data, _ := strings.Cut(events[len(events)-2], "data: ")
			if err := json.Unmarshal([]byte(data), &last); err != nil {
				t.Fatal(err)
			}
			if all := strings.Count(raw, strings.Trim(string(quoted), `"`)); all != 5 { // a delta, and four times over
				t.Errorf("the thought is there %d times", all)
			}
			path := responsesPath + "/" + last.Response.ID
			for _, after := range []int{-1, 6, len(events) - 5, len(events) - 3} {
				query := fmt.Sprintf("?stream=true&starting_after=%d", after)
				if after < 0 {
					query = "?stream=true"
				}
				if got := readResponse(t, p.Send(t.Context(), t, "GET", path+query, "")); got != strings.Join(events[after+1:], "") {
					t.Errorf("after %d, it has %d bytes, and is another", after, len(got))
				}
			}
			whole := readResponse(t, p.Send(t.Context(), t, "GET", path, ""))
			if !strings.Contains(events[len(events)-2], strings.TrimSpace(whole)) {
				t.Error("the whole is another")
			}
		})
	}
}
