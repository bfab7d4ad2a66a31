package openai

import (
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/bridge/failure"
	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// What does not fit is no reason to refuse what fits, while it is looked whether it does.
func TestTextsHoldWhatFits(t *testing.T) {
	texts := NewTexts(100)
	var stop atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		for n := 0; !stop.Load() || n < 1000; n++ {
			if texts.hold(101) == nil {
				t.Error("more is held than may be")
			}
		}
	})
	for range 2_000_000 {
		if err := texts.hold(1); err != nil {
			t.Errorf("a byte of 100: %v", err)
			break
		}
		texts.letGo(1)
	}
	stop.Store(true)
	all.Wait()
}

// After a piece that did not fit, a reader adds no other in its place.
func TestReaderAddsNothingAfterAGap(t *testing.T) {
	texts := NewTexts(0)
	var a, b reader
	a.texts, b.texts = texts, texts
	a.open("x")
	b.open("x")
	full := []byte(strings.Repeat("a", 1<<largestBits-1<<firstBits))
	if _, err := a.add(said, full); err != nil {
		t.Fatal(err)
	}
	if _, err := a.add(said, []byte("b")); failure.Reason(err) != "OVERLOADED" {
		t.Fatal(err)
	}
	texts.most = 1 << 20
	if _, err := a.add(said, []byte("c")); failure.Reason(err) != "OVERLOADED" {
		t.Errorf("got %v", err)
	}
	b.add(said, full)
	b.add(said, []byte("bc"))
	if b.text != a.text {
		t.Error("the text of others is another")
	}
	a.close()
	b.close()
}

// Whoever reads what, however far, and leaves how: nothing is kept for nobody, and each gets what
// one gets who reads alone.
func TestTextsOfManyReaders(t *testing.T) {
	texts := NewTexts(1 << 20)
	type script struct {
		events []*completionv1.CompletionEvent
		want   []string
	}
	var scripts []script
	for i := range 6 {
		s := script{events: longEvents(i * 40 << 10)}
		word := strings.Repeat(string(rune('a'+i)), 10)
		id := createdAs("cmpl_" + string(rune('a'+i/2))) // two scripts have an id
		s.events = append([]*completionv1.CompletionEvent{id, text1(word)}, s.events[1:]...)
		e := &ResponseEncoder{Log: discard()}
		e.Begin(nil)
		for _, event := range s.events {
			out, _, err := e.AppendMessage(nil, marshal(t, event))
			if err != nil {
				t.Fatal(err)
			}
			s.want = append(s.want, string(appendRest(t, e, out)))
		}
		scripts = append(scripts, s)
	}
	var wires [6][][]byte
	for i, s := range scripts {
		for _, event := range s.events {
			wires[i] = append(wires[i], marshal(t, event))
		}
	}
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			for range 150 {
				i := r.IntN(len(scripts))
				s := scripts[i]
				far := r.IntN(2 * len(s.events))
				e := &ResponseEncoder{Texts: texts, Log: discard()}
				e.Begin(nil)
				w := NewWholeResponse(texts)
				for k := range min(far, len(s.events)) {
					out, _, err := e.AppendMessage(nil, wires[i][k])
					if err != nil {
						if failure.Reason(err) != "OVERLOADED" {
							t.Error(err)
						}
						break
					}
					for e.HasMore() {
						out = e.AppendMore(out)
					}
					if string(out) != s.want[k] {
						t.Errorf("script %d, event %d is another", i, k)
						break
					}
					if n%2 == 0 {
						if err := w.Add(s.events[k]); err != nil && failure.Reason(err) != "OVERLOADED" {
							t.Error(err)
						}
					}
				}
				e.Close()
				w.Close()
			}
		})
	}
	all.Wait()
	checkNothingKept(t, texts)
}

// While there is no room for another piece of a long response, none is begun, however large the
// room is that no piece fits into.
func TestTextsAreFull(t *testing.T) {
	for _, most := range []int64{100 << 10, 1 << 20, 1_000_000} {
		texts := NewTexts(most)
		if err := texts.Full(); err != nil {
			t.Errorf("%d bytes: without a response: %v", most, err)
		}
		small := &ResponseEncoder{Texts: texts}
		events := []*completionv1.CompletionEvent{createdAs("cmpl_small")}
		for range 40 { // each of which is an item, beside the text
			events = append(events, thought("a"), text1("b"))
		}
		if _, err := readAs(t, small, events); err != nil {
			t.Fatal(err)
		}
		large := &ResponseEncoder{Texts: texts}
		if _, err := readAs(t, large, longEvents(2<<20)); failure.Reason(err) != "OVERLOADED" {
			t.Fatal(err)
		}
		if texts.Full() == nil {
			t.Errorf("%d bytes: there is room beside %d", most, texts.held.Load())
		}
		large.Close()
		small.Close()
		if err := texts.Full(); err != nil {
			t.Errorf("%d bytes: after all: %v", most, err)
		}
	}
}

// What is beside a call is counted as it is kept: once, however often the upstream says it.
func TestTextsCountOnceWhatIsBeside(t *testing.T) {
	texts := NewTexts(64 << 10)
	e := &ResponseEncoder{Texts: texts}
	if _, err := readAs(t, e, []*completionv1.CompletionEvent{created}); err != nil {
		t.Fatal(err)
	}
	again := delta(&completionv1.Delta{ToolCalls: []*completionv1.ToolCall{{Index: proto.Int32(0), Id: "call_1", Name: "", Extra: testStruct(t, map[string]any{"a": "b"})}}})
	for n := range 20_000 {
		if _, _, err := e.AppendMessage(nil, marshal(t, again)); err != nil {
			t.Fatalf("after %d: %v", n, err)
		}
	}
	e.Close()
}
