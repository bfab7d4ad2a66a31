package openai

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// TestLinear compares what a large event costs with one eight times as large: it may take
// some eight times as long and as many bytes, but not sixty-four times.
func TestLinear(t *testing.T) {
	const small, factor, most = 800, 8, 24
	list := func(n int, element string) string {
		return strings.TrimSuffix(strings.Repeat(element+",", n), ",")
	}
	delta := func(member string) string {
		return "data: {\"choices\":[{\"index\":0,\"delta\":{" + member + "}}]}\n\n"
	}
	for name, body := range map[string]func(n int) string{
		"content parts": func(n int) string {
			return delta(`"content":[` + list(n, `{"type":"text","text":"a word or two"}`) + `]`)
		},
		"content words": func(n int) string { return delta(`"content":[` + list(n, `"a word or two"`) + `]`) },
		"thinking parts": func(n int) string {
			return delta(`"content":[` + list(n, `{"type":"thinking","thinking":[{"text":"hm"}]}`) + `]`)
		},
		"parts within parts": func(n int) string {
			return delta(`"content":` + strings.Repeat(`[{"text":`, n/8) + `"` + strings.Repeat("a word or two ", n) + `"` + strings.Repeat("}]", n/8))
		},
		"unknown parts": func(n int) string { return delta(`"content":[` + list(n, `{"type":"x","x":1}`) + `]`) },
		"images":        func(n int) string { return delta(`"images":[` + list(n, `{"image_url":{"url":"data:,x"}}`) + `]`) },
		"details": func(n int) string {
			return delta(`"reasoning_details":[` + list(n, `{"type":"reasoning.text","text":"hm"}`) + `]`)
		},
		"choices": func(n int) string {
			return "data: {\"choices\":[" + list(n, `{"index":0,"delta":{"content":"a word or two"}}`) + "]}\n\n"
		},
		"legacy choices": func(n int) string { return "data: {\"choices\":[" + list(n, `{"text":"a word or two"}`) + "]}\n\n" },
		"choices with details": func(n int) string {
			return "data: {\"choices\":[" + list(n, `{"delta":{"annotations":[{"a":1}]}}`) + "]}\n\n"
		},
		"pieces of a call": func(n int) string {
			return delta(`"tool_calls":[` + list(n, `{"index":0,"function":{"arguments":"a word or two"}}`) + `]`)
		},
		"calls": func(n int) string {
			var calls strings.Builder
			for i := range n {
				fmt.Fprintf(&calls, `{"index":%d,"id":"c%d","function":{"name":"f","arguments":"{}"}},`, i, i)
			}
			return delta(`"tool_calls":[` + strings.TrimSuffix(calls.String(), ",") + `]`)
		},
		"calls in chunks": func(n int) string {
			var chunks strings.Builder
			for i := range n {
				chunks.WriteString(delta(fmt.Sprintf(`"tool_calls":[{"index":%d,"function":{"name":"f"}}]`, i)))
			}
			return chunks.String()
		},
		"calls without an index": func(n int) string {
			return delta(`"tool_calls":[` + list(n, `{"function":{"name":"f","arguments":"{}"}}`) + `]`)
		},
		"a long word":           func(n int) string { return delta(`"content":"` + strings.Repeat(`a word or two\n`, n) + `"`) },
		"halves":                func(n int) string { return delta(`"content":"` + strings.Repeat(`\ud83d`, n) + `"`) },
		"numbers that are none": func(n int) string { return delta(`"content":"x","x":[` + list(n, "NaN") + `]`) },
		"keys":                  func(n int) string { return delta(list(n, `"content":"x"`)) },
		"an event in lines": func(n int) string {
			return "data: {\"choices\":[\n" + strings.Repeat("data: {\"text\":\"x\"},\n", n) + "data: {}]}\n\n"
		},
		"empty lines before it": func(n int) string { return strings.Repeat("\n \n", n) + delta(`"content":"x"`) },
		"white space before it": func(n int) string { return strings.Repeat("     ", n) + `{"choices":[{"text":"x"}]}` },
		"comments":              func(n int) string { return strings.Repeat(": wait\n\n", n) + delta(`"content":"x"`) },
		"an error with a long path": func(n int) string {
			return failed + `"code":400,"message":{"detail":[{"loc":[` + list(4*n, `"a"`) + `]}]}}}` + "\n\n"
		},
		"an error with many paths": func(n int) string {
			return failed + `"code":400,"message":{"detail":[` + list(n, `{"loc":["body","a",0]}`) + `]}}}` + "\n\n"
		},
		"an error with many words":   func(n int) string { return failed + `"message":"` + strings.Repeat("invalid a: ", n) + `"}}` + "\n\n" },
		"a completion in many lines": func(n int) string { return `{"choices":[` + list(n, "{\"text\":\"x\"}\n") + `]}` },
	} {
		t.Run(name, func(t *testing.T) {
			little, much := body(small), body(factor*small)
			size, least := cost(t, little)
			for range 4 {
				_, took := cost(t, little)
				least = min(least, took)
			}
			for try := 0; ; try++ { // a machine may be busy, but not always
				largeSize, took := cost(t, much)
				if largeSize <= most*size && took <= most*least {
					return
				}
				if try == 30 {
					t.Fatalf("%d times as much costs %d bytes and %v, which were %d and %v", factor, largeSize, took, size, least)
				}
			}
		})
	}
}

// failed is how a body begins that is an error.
const failed = `data: {"error":{`

// cost returns what it costs to read a body at once and byte by byte.
func cost(t *testing.T, body string) (size uint64, took time.Duration) {
	t.Helper()
	base := newEngine(t, Config{BaseURL: "http://localhost"})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	for _, r := range []io.Reader{bytes.NewReader([]byte(body)), iotest.OneByteReader(strings.NewReader(body))} {
		e := Engine{config: base.config, redactor: base.redactor, transport: answers{func() io.Reader { return r }}}
		if err := generate(t.Context(), &e, chat(), ignore); (err != nil) != strings.HasPrefix(body, failed) {
			t.Fatal(err)
		}
		e.drains.Wait()
	}
	took = time.Since(start)
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, took
}
