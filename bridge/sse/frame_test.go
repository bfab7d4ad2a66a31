package sse

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

const block = "event: delta\ndata: {\"sequence\":117,\"delta\":{\"text\":\" world\"}}\nid: cmpl_01JB2QK4W6ZV9T3M8H5N7R0XYD_117\n\n"

// What is appended is what a reader reads.
func TestAppend(t *testing.T) {
	b := AppendField(nil, "event", "delta")
	b = AppendRetry(b, 999*time.Microsecond) // too short for one
	b = AppendField(b, "data", []byte("one"))
	b = AppendField(b, "data", ": two")
	b = AppendRetry(b, 1500*time.Millisecond+999*time.Microsecond)
	b = AppendField(b, "id", "x_7")
	b = append(b, '\n')
	const want = "event: delta\ndata: one\ndata: : two\nretry: 1500\nid: x_7\n\n"
	if string(b) != want {
		t.Errorf("got %q, want %q", b, want)
	}
	got := readEveryWay(t, string(b))
	if want := (outcome{[]Message{{"delta", "one\n: two", "x_7"}}, "x_7", 1500 * time.Millisecond, true}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// JSON from elsewhere, and a string that is made one, come out on one line, whatever
// a client takes for a line end, and mean what they did.
func TestAppendJSON(t *testing.T) {
	for _, text := range []string{
		"", "plain", "a b", "\n", "\r\n\n", "\x00\x1f\x7f", "\u0085", "\u2028\u2029", "\u2027\u202a", "é\u00a0", "😀", `"\`, "</script>", "\n\ndata: forged\n\n",
		strings.Repeat("eight by", 3) + "\u0085" + strings.Repeat("eight by", 3) + "\u2028",
	} {
		// As an encoder without any care writes it: what may stand in JSON does.
		value, err := json.MarshalIndent(map[string]string{text: text}, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		value = []byte(strings.NewReplacer(`\u2028`, "\u2028", `\u2029`, "\u2029").Replace(string(value)))
		got, err := AppendJSON([]byte("data: "), value)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		checkOneLine(t, got)
		var members map[string]string
		if err := json.Unmarshal(got[len("data: "):], &members); err != nil || !reflect.DeepEqual(members, map[string]string{text: text}) {
			t.Errorf("%q: got %q, %v", text, got, err)
		}

		got = AppendQuoted([]byte("data: "), []byte(text))
		checkOneLine(t, got)
		var unquoted string
		if err := json.Unmarshal(got[len("data: "):], &unquoted); err != nil || unquoted != text {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	if got, err := AppendJSON([]byte("data: "), []byte(`{"a":`)); err == nil || string(got) != "data: " {
		t.Errorf("half a value: got %q, %v", got, err)
	}
}

func checkOneLine(t *testing.T, line []byte) {
	t.Helper()
	if strings.ContainsAny(string(line), "\n\r\u0085\u2028\u2029") {
		t.Errorf("%q is more than one line", line)
	}
}

// Heartbeats change nothing for a reader, nor for one that would take a blank line
// after a comment for an event.
func TestHeartbeat(t *testing.T) {
	if !strings.HasPrefix(Heartbeat, ":") || strings.Index(Heartbeat, "\n") != len(Heartbeat)-1 {
		t.Errorf("%q is not a comment of one line", Heartbeat)
	}
	stream := Heartbeat + Heartbeat + block + Heartbeat + block + Heartbeat
	got := readAll(t, strings.NewReader(stream))
	want := readAll(t, strings.NewReader(block+block))
	if len(want.messages) != 2 || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
