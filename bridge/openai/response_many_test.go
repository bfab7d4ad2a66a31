package openai

import (
	"math"
	"runtime"
	"testing"
	"time"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
)

// However a response is cut into items, to write the last event of many costs no more than
// that of a few, and a part of a letter is not held in a block for many.
func TestResponseOfManyItems(t *testing.T) {
	scripts := map[string]func(i int) *completionv1.CompletionEvent{
		"reasoning and text in turn": func(i int) *completionv1.CompletionEvent {
			if i%2 == 0 {
				return thought("a")
			}
			return text1("b")
		},
		"calls":          func(i int) *completionv1.CompletionEvent { return called(int32(i), "", "f", "") },
		"pieces of name": func(int) *completionv1.CompletionEvent { return called(0, "", "f", "") },
	}
	for name, script := range scripts {
		const few, many = 2000, 40000
		least := math.Inf(1) // a busy machine, or a collection, may hold up one try
		for try := 0; try < 4 && least > 8; try++ {
			least = min(least, float64(each(t, name, script, many))/float64(each(t, name, script, few)))
		}
		if least > 8 {
			t.Errorf("%s: each of %d takes %.1f times as long as each of %d", name, many, least, few)
		}
	}
}

// each returns how long each of so many events takes, and checks what is held for them.
func each(t *testing.T, name string, script func(i int) *completionv1.CompletionEvent, n int) time.Duration {
	t.Helper()
	e := begunEncoder(t, &ResponseEncoder{})
	var events [][]byte
	for i := range n {
		events = append(events, marshal(t, script(i)))
	}
	var before, after runtime.MemStats
	var out []byte
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	for _, event := range events {
		var err error
		if out, _, err = e.AppendMessage(out[:0], event); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / int64(n); held > 800 {
		t.Errorf("%s: %d bytes are held for each of %d", name, held, n)
	}
	runtime.KeepAlive(e)
	runtime.KeepAlive(events)
	return took / time.Duration(n)
}
