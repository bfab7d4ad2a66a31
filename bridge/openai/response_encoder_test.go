package openai

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/native"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// Whatever event a stream begins with, and whichever way its deltas are read, the rest is
// the same, byte for byte.
func TestResponseResumed(t *testing.T) {
	for _, tt := range scripts {
		whole, all := responseTo(t, &ResponseEncoder{}, tt.events...)
		blocks := strings.SplitAfter(whole, "\n\n")
		for from := range len(all) + 1 {
			rest, _ := responseTo(t, &ResponseEncoder{From: from}, tt.events...)
			if want := strings.Join(blocks[from:], ""); rest != want {
				t.Fatalf("%s, from %d: got\n%s, want\n%s", tt.name, from, rest, want)
			}
		}
		var unusual []*completionv1.CompletionEvent
		for _, event := range tt.events {
			event = proto.CloneOf(event)
			if d := event.GetDelta(); d != nil { // with a field that this version does not know, it goes the long way
				d.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 15, protowire.VarintType), 1))
			}
			unusual = append(unusual, event)
		}
		if long, _ := responseTo(t, &ResponseEncoder{}, unusual...); long != whole {
			t.Errorf("%s: the long way has\n%s, the short way\n%s", tt.name, long, whole)
		}
		w := NewWholeResponse(nil)
		for _, event := range tt.events {
			if err := w.Add(event); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.Contains(blocks[len(blocks)-2], wholeJSON(w)) {
			t.Errorf("%s: the whole is\n%s, the last event\n%s", tt.name, wholeJSON(w), blocks[len(blocks)-2])
		}
	}
}

// A long response: numbers get longer, texts fill more than one block, and what other events
// there are between the pieces makes no difference.
func TestResponseLong(t *testing.T) {
	events := []*completionv1.CompletionEvent{created}
	for i := range 1200 {
		event := text1(strings.Repeat("wörd\n", i%50))
		switch run := i / 107 % 3; run {
		case 0:
			event = thought("Hm")
		case 1:
			event = called(int32(i/700), "", "", fmt.Sprint(i, ","))
		}
		events = append(events, event)
	}
	events = append(events, text1(strings.Repeat("a", largestBlock+1)), text1("b"), ended(completionv1.Finished_STOP))
	whole, all := responseTo(t, &ResponseEncoder{}, events...)
	accumulate(t, all)
	for _, from := range []int{1001, len(all) - 5, len(all) - 1} {
		if rest, _ := responseTo(t, &ResponseEncoder{From: from}, events...); rest != strings.SplitAfterN(whole, "\n\n", from+1)[from] {
			t.Errorf("from the event %d on, it is another", from)
		}
	}
	w := NewWholeResponse(nil)
	for _, event := range events {
		if err := w.Add(event); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(whole, wholeJSON(w)) {
		t.Error("the whole is another")
	}
	// Nor does a failure, which tells all that there was, take a large buffer.
	e := &ResponseEncoder{}
	responseTo(t, e, events[:len(events)-1]...)
	out, ok := e.AppendEnd(nil, statusError(codes.Unavailable, completionv1.ErrorReason_UPSTREAM_TRUNCATED), nil, true)
	if !ok || len(out) > minLongText {
		t.Errorf("a failure begins with %d bytes", len(out))
	}
	last := responseEvents(t, string(appendRest(t, e, out)), len(all)-8)
	if got := last[len(last)-1]["type"]; got != "response.failed" {
		t.Errorf("it ends with %v", got)
	}
}

func TestResponseAhead(t *testing.T) {
	e := &ResponseEncoder{From: 8, Log: discard()}
	e.Begin(native.Header(testID))
	out, _, err := e.AppendMessage(nil, marshal(t, created))
	if err != nil || len(out) != 0 {
		t.Fatalf("got %s, %v", out, err)
	}
	_, terminal, err := e.AppendMessage(nil, marshal(t, ended(completionv1.Finished_STOP)))
	if why := ResponseRefusal(discard(), err, true, true); terminal || why.Status != 400 || why.Param != "starting_after" {
		t.Errorf("got %+v, %v", why, terminal)
	}
	if out, ok := e.AppendEnd(nil, err, nil, false); ok || len(out) > 0 {
		t.Errorf("got %s", out)
	}
	out, ok := e.AppendEnd(nil, err, nil, true)
	if !ok || !strings.HasPrefix(string(out), "event: error\n") {
		t.Errorf("in a stream that has begun, got %s", out)
	}
}

func TestResponseFails(t *testing.T) {
	truncated := statusError(codes.Unavailable, completionv1.ErrorReason_UPSTREAM_TRUNCATED)
	e := &ResponseEncoder{}
	responseTo(t, e, created, text1("a"), called(0, "x", "f", ""))
	out, ok := e.AppendEnd(nil, truncated, nil, true)
	all := responseEvents(t, string(out), 8)
	if !ok || len(all) != 2 || all[0]["type"] != "response.output_item.added" || all[1]["type"] != "response.failed" {
		t.Fatalf("got %s, %v", out, ok)
	}
	response := all[1]["response"].(map[string]any)
	if fmt.Sprint(response["error"], " ", response["status"]) != "map[code:upstream_truncated message:why] failed" {
		t.Errorf("got %v", response)
	}
	if got := describeItems(response); got != `message completed ["output_text:a"]; function_call incomplete x f ` {
		t.Errorf("got %s", got)
	}

	for from := range 12 { // whoever resumes it gets the same, even if all was read but the end
		e := &ResponseEncoder{From: from, Log: discard()}
		responseTo(t, e, created, text1("a"), called(0, "x", "f", ""))
		got, ok := e.AppendEnd(nil, truncated, nil, from < 8)
		want := ""
		for _, event := range all {
			if event["sequence_number"].(float64) >= float64(from) {
				want += block(t, string(out), event["type"].(string))
			}
		}
		if string(got) != want || ok != (from <= 10) {
			t.Errorf("from %d: got %s, %v, want %s", from, got, ok, want)
		}
		if w := httptest.NewRecorder(); !ok {
			if e.Refuse(w, truncated); w.Code != 400 || !strings.Contains(w.Body.String(), "ended with the event 9") {
				t.Errorf("from %d: got %d %s", from, w.Code, w.Body)
			}
		}
	}

	e = &ResponseEncoder{Log: discard()} // which has waited, and sent its headers
	e.Begin(native.Header(testID))
	if out, ok := e.AppendEnd(nil, truncated, nil, false); ok || len(out) > 0 {
		t.Errorf("before the response has begun, got %s", out)
	}
	out, ok = e.AppendEnd(nil, truncated, nil, true)
	want := "event: error\n" + `data: {"type":"error","sequence_number":0,"code":"upstream_truncated","message":"why","param":null,"error":{"message":"why","type":"server_error","param":null,"code":"upstream_truncated"}}` + "\n\n"
	if string(out) != want || !ok {
		t.Errorf("got %s, want %s", out, want)
	}
}

// block returns the block of a stream that is an event of a type.
func block(t *testing.T, stream, of string) string {
	t.Helper()
	for b := range strings.SplitAfterSeq(stream, "\n\n") {
		if strings.HasPrefix(b, "event: "+of+"\n") {
			return b
		}
	}
	t.Fatalf("no %s in %s", of, stream)
	return ""
}

// A call without arguments has those that can be parsed, if it is whole.
func TestResponseCallWithoutArguments(t *testing.T) {
	for reason, want := range map[completionv1.Finished_FinishReason]string{
		completionv1.Finished_TOOL_CALLS: `function_call completed x f {}`, completionv1.Finished_LENGTH: `function_call incomplete x f `,
	} {
		_, all := responseTo(t, &ResponseEncoder{}, created, called(0, "x", "f", ""), ended(reason))
		accumulate(t, all)
		if got := describeItems(all[len(all)-1]["response"].(map[string]any)); got != want+" " && got != want {
			t.Errorf("%s: got %q, want %q", reason, got, want)
		}
	}
}

func TestResponseLogprobs(t *testing.T) {
	likely := func(text string) *completionv1.CompletionEvent {
		token := &completionv1.TokenLogprob{Token: text, Logprob: -0.5, Bytes: []byte(text), TopLogprobs: []*completionv1.TokenLogprob{{Token: text, Logprob: -0.5, Bytes: []byte(text)}}}
		return delta(&completionv1.Delta{Text: text, Logprobs: &completionv1.Logprobs{Content: []*completionv1.TokenLogprob{token}}})
	}
	stream, _ := responseTo(t, &ResponseEncoder{}, created, likely("a"), text1("-"), likely("b"), ended(completionv1.Finished_STOP))
	token := func(text string) string {
		return fmt.Sprintf(`{"token":"%s","logprob":-0.5,"bytes":[%d],"top_logprobs":[{"token":"%s","logprob":-0.5,"bytes":[%d]}]}`, text, text[0], text, text[0])
	}
	for _, want := range []string{`"delta":"a","logprobs":[` + token("a") + "]}\n", `"delta":"-","logprobs":[]}` + "\n",
		`"logprobs":[` + token("a") + "," + token("b") + `],"text":"a-b"}`, `"text":"a-b","annotations":[],"logprobs":[` + token("a") + "," + token("b") + "]}"} {
		if !strings.Contains(stream, want) {
			t.Errorf("%s is not in\n%s", want, stream)
		}
	}
}

// What the upstream says of a call goes out with it, and back.
func TestResponseExtra(t *testing.T) {
	call := &completionv1.ToolCall{Index: proto.Int32(0), Id: "x", Name: "f", Arguments: "{}", Extra: testStruct(t, map[string]any{"extra_content": map[string]any{"signature": "s"}})}
	_, all := responseTo(t, &ResponseEncoder{}, created, delta(&completionv1.Delta{ToolCalls: []*completionv1.ToolCall{call}}), ended(completionv1.Finished_TOOL_CALLS))
	items, err := json.Marshal(all[len(all)-1]["response"].(map[string]any)["output"])
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeTest(responses, `{"input":`+string(items)+`}`)
	if err != nil {
		t.Fatal(err)
	}
	want := proto.CloneOf(call)
	want.Index = nil
	if m := got.Completion.GetMessages(); len(m) != 1 || !proto.Equal(m[0], &completionv1.Message{Role: "assistant", ToolCalls: []*completionv1.ToolCall{want}}) {
		t.Errorf("got %v", m)
	}
	bad := delta(&completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Extra: testStruct(t, map[string]any{"x": math.NaN()})}}})
	e := &ResponseEncoder{Log: discard()}
	responseTo(t, e, created)
	if out, _, err := e.AppendMessage([]byte("x"), marshal(t, bad)); err == nil || string(out) != "x" {
		t.Errorf("got %s, %v of what is no JSON", out, err)
	}
}

func TestResponseAllocatesNothing(t *testing.T) {
	e := &ResponseEncoder{}
	responseTo(t, e, created, text1("a"))
	event := marshal(t, text1(" world"))
	dst := make([]byte, 0, 1<<12)
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, err := e.AppendMessage(dst, event); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a text", n)
	}
	if _, _, err := e.AppendMessage(dst, marshal(t, called(0, "x", "f", "{"))); err != nil {
		t.Fatal(err)
	}
	event = marshal(t, called(0, "", "", `"a":1,`))
	if n := testing.AllocsPerRun(1000, func() {
		if _, _, err := e.AppendMessage(dst, event); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for arguments", n)
	}
}

// FuzzResponse checks that no event breaks the stream, and that both ways of reading it
// write the same.
func FuzzResponse(f *testing.F) {
	for _, tt := range deltas(f) {
		f.Add(marshal(f, delta(tt.delta)), marshal(f, called(1, "x", "f", "{}")))
	}
	f.Add(marshal(f, thought("a")), marshal(f, ended(completionv1.Finished_STOP)))
	f.Add(marshal(f, text1("a")), marshal(f, createdAs("cmpl_twice")))
	f.Fuzz(func(t *testing.T, first, second []byte) {
		e := &ResponseEncoder{}
		responseTo(t, e, created)
		r := e.response
		var out, long []byte
		if len(first)+len(second) >= minLongText {
			return
		}
		for _, wire := range [][]byte{first, second} {
			next, _, err := e.AppendMessage(out, wire)
			m := &completionv1.CompletionEvent{}
			if proto.Unmarshal(wire, m) != nil || m.GetCreated() != nil {
				return
			}
			slow, _, errSlow := r.append(long, m)
			if (err == nil) != (errSlow == nil) {
				t.Fatalf("the short way: %v, the long way: %v", err, errSlow)
			}
			if err != nil {
				if string(next) != string(out) {
					t.Fatalf("got %s with an error", next)
				}
				return
			}
			out, long = next, slow
		}
		if string(out) != string(long) {
			t.Errorf("the short way has\n%s, the long way\n%s", out, long)
		}
		responseEvents(t, string(out), 2)
	})
}
