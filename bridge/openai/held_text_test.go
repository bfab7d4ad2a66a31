package openai

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/native"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

func TestPlaceOf(t *testing.T) {
	at := 0
	for block := range 12 {
		size := 1 << min(firstBits+block, largestBits)
		for _, offset := range []int{0, 1, size - 1} {
			if b, o := placeOf(at + offset); b != block || o != offset {
				t.Fatalf("byte %d is the byte %d of the block %d, want %d of %d", at+offset, o, b, offset, block)
			}
		}
		at += size
	}
}

// longEvents is a response with about so many bytes of text, in two parts and a call, and of
// log probabilities.
func longEvents(size int) []*completionv1.CompletionEvent {
	events := []*completionv1.CompletionEvent{created}
	piece := strings.Repeat("wörd\n", 150)
	for n := 0; n < size; n += 3 * len(piece) {
		events = append(events, thought(piece))
	}
	for n := 0; n < size; n += 3 * len(piece) {
		event := text1(piece)
		event.GetDelta().Logprobs = &completionv1.Logprobs{Content: []*completionv1.TokenLogprob{{Token: "a", Logprob: -1, Bytes: []byte("a")}}}
		events = append(events, event, called(int32(n%2), "", "f", piece))
	}
	return append(events, ended(completionv1.Finished_STOP))
}

// readAs has a reader of its own read events, up to an error.
func readAs(t *testing.T, e *ResponseEncoder, events []*completionv1.CompletionEvent) (out []byte, err error) {
	t.Helper()
	e.Log = discard()
	e.Begin(native.Header(testID))
	for _, event := range events {
		if out, _, err = e.AppendMessage(out, marshal(t, event)); err != nil {
			return out, err
		}
		out = appendRest(t, e, out)
	}
	return out, nil
}

// Those who read a response keep its text once, whoever comes first, and get the same as one
// who keeps it alone. When they have left, nothing is kept.
func TestTextsAreShared(t *testing.T) {
	events := longEvents(200 << 10)
	want, err := readAs(t, &ResponseEncoder{}, events)
	if err != nil {
		t.Fatal(err)
	}
	texts := NewTexts(64 << 20)
	encoders := make([]*ResponseEncoder, 8)
	var all sync.WaitGroup
	for i := range encoders {
		encoders[i] = &ResponseEncoder{Texts: texts}
		all.Go(func() {
			if got, err := readAs(t, encoders[i], events); err != nil || !bytes.Equal(got, want) {
				t.Errorf("reader %d got %d bytes, %v; want %d", i, len(got), err, len(want))
			}
		})
	}
	all.Wait()
	if held := texts.held.Load(); held < 128<<10 || held > 2*400<<10 {
		t.Errorf("%d readers keep %d bytes", len(encoders), held)
	}
	w := NewWholeResponse(texts)
	for _, event := range events {
		if err := w.Add(event); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Contains(want, []byte(wholeJSON(w))) {
		t.Error("the whole is another")
	}
	w.Close()
	for _, e := range encoders {
		e.Close()
	}
	checkNothingKept(t, texts)
}

// checkNothingKept is for when all readers have left.
func checkNothingKept(t *testing.T, texts *Texts) {
	t.Helper()
	if held := texts.held.Load(); held != 0 || len(texts.open) != 0 {
		t.Errorf("%d bytes of %d responses are kept for nobody", held, len(texts.open))
	}
}

// Should a server tell two readers different things under one id, each gets what it was told.
func TestTextsThatDiffer(t *testing.T) {
	texts := NewTexts(64 << 20)
	events := func(word string) []*completionv1.CompletionEvent {
		return []*completionv1.CompletionEvent{created, thought(strings.Repeat("a", 3*largestBlock)), text1(word), text1("!"), ended(completionv1.Finished_STOP)}
	}
	var encoders []*ResponseEncoder
	for _, word := range []string{"one", "two", "onetwo", "o", "one"} {
		want, err := readAs(t, &ResponseEncoder{}, events(word))
		if err != nil {
			t.Fatal(err)
		}
		e := &ResponseEncoder{Texts: texts}
		encoders = append(encoders, e)
		if got, err := readAs(t, e, events(word)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %s, %v", word, got[max(0, len(got)-500):], err)
		}
	}
	if held := texts.held.Load(); held > 4*4*largestBlock { // the first and the last are the same
		t.Errorf("%d bytes are kept", held)
	}
	for _, e := range encoders {
		e.Close()
	}
	checkNothingKept(t, texts)
}

// What does not fit ends the stream with an error, after which nothing is missed by who goes
// on behind the last event, and the refusal of who begins; others are not touched.
func TestTextsThatDoNotFit(t *testing.T) {
	texts := NewTexts(128 << 10)
	small := &ResponseEncoder{Texts: texts}
	if _, err := readAs(t, small, []*completionv1.CompletionEvent{createdAs("cmpl_small"), text1("a")}); err != nil {
		t.Fatal(err)
	}
	events := longEvents(200 << 10)
	whole, err := readAs(t, &ResponseEncoder{}, events)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []int{0, 100} {
		e := &ResponseEncoder{Texts: texts, From: from}
		got, err := readAs(t, e, events)
		if failure.Reason(err) != "OVERLOADED" || !bytes.HasPrefix(whole[bytes.Index(whole, got):], got) {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
		had := responseEvents(t, string(got), from)
		end, ok := e.AppendEnd(nil, err, nil, true)
		last := fmt.Sprintf(`data: {"type":"error","sequence_number":%d,"code":"overloaded",`, from+len(had)-1)
		if !ok || !strings.Contains(string(end), last) || strings.Contains(string(end), "response.failed") {
			t.Errorf("after %d events, it ends with %s, %v", len(had), end, ok)
		}
		if out, ok := e.AppendEnd(nil, err, nil, false); ok || len(out) > 0 {
			t.Errorf("in place of a stream, there is %s", out)
		}
		e.Close()
		if held := texts.held.Load(); held != 0 {
			t.Errorf("%d bytes are kept for nobody", held)
		}
	}
	e := &ResponseEncoder{Texts: texts}
	if _, err := readAs(t, e, longEvents(50<<10)); err != nil {
		t.Errorf("a shorter one: %v", err)
	}
	e.Close()
	if out, _, err := small.AppendMessage(nil, marshal(t, text1("b"))); err != nil || len(out) == 0 {
		t.Errorf("got %s, %v", out, err)
	}
}

func createdAs(id string) *completionv1.CompletionEvent {
	event := proto.CloneOf(created)
	event.GetCreated().Id = id
	return event
}

// What a reader keeps beside the text is bounded, too: items of a letter, the names of calls,
// and what is beside them.
func TestTextsCountWhatIsBeside(t *testing.T) {
	for name, event := range map[string]func(i int) *completionv1.CompletionEvent{
		"items": func(i int) *completionv1.CompletionEvent {
			return []*completionv1.CompletionEvent{thought("a"), text1("b")}[i%2]
		},
		"parts": func(i int) *completionv1.CompletionEvent {
			return []*completionv1.CompletionEvent{delta(&completionv1.Delta{Refusal: "a"}), text1("b")}[i%2]
		},
		"calls": func(i int) *completionv1.CompletionEvent { return called(int32(i), "", "f", "") },
		"names": func(i int) *completionv1.CompletionEvent { return called(0, "", strings.Repeat("f", 100), "") },
		"extra": func(i int) *completionv1.CompletionEvent {
			extra := testStruct(t, map[string]any{fmt.Sprint(i): strings.Repeat("b", 100)})
			return delta(&completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Extra: extra}}})
		},
		"pieces": func(i int) *completionv1.CompletionEvent { return called(int32(i%2), "", "", "1") },
	} {
		texts := NewTexts(64 << 10)
		e := &ResponseEncoder{Texts: texts, From: math.MaxInt32}
		err := error(nil)
		if _, err = readAs(t, e, []*completionv1.CompletionEvent{created}); err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; n < 20_000 && err == nil; n++ {
			_, _, err = e.AppendMessage(nil, marshal(t, event(n)))
		}
		if failure.Reason(err) != "OVERLOADED" {
			t.Errorf("%s: %d are kept, %v", name, n, err)
		}
		if e.Close(); texts.held.Load() != 0 {
			t.Errorf("%s: %d bytes are kept for nobody", name, texts.held.Load())
		}
	}
}
