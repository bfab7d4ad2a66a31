package sse

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// An outcome is all that can be known of a stream that was read to its end.
type outcome struct {
	messages    []Message
	lastEventID string
	retry       time.Duration
	hasRetry    bool
}

func readAll(t *testing.T, in io.Reader) outcome {
	t.Helper()
	var got outcome
	r := NewReader(in, 1<<30)
	for {
		m, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got.messages = append(got.messages, m)
	}
	got.lastEventID = r.LastEventID()
	got.retry, got.hasRetry = r.Retry()
	return got
}

// readEveryWay reads the input in one piece, in single bytes, and in every two
// pieces, and wants the same of all.
func readEveryWay(t *testing.T, input string) outcome {
	t.Helper()
	want := readAll(t, strings.NewReader(input))
	if got := readAll(t, iotest.OneByteReader(strings.NewReader(input))); !reflect.DeepEqual(got, want) {
		t.Errorf("in single bytes: %+v\nin one piece: %+v", got, want)
	}
	for i := range len(input) {
		in := io.MultiReader(strings.NewReader(input[:i]), strings.NewReader(input[i:]))
		if got := readAll(t, in); !reflect.DeepEqual(got, want) {
			t.Errorf("split at %d: %+v\nin one piece: %+v", i, got, want)
		}
	}
	return want
}

// The cases of testdata/eventstream.json are for any parser: events is what it
// dispatches, retry the reconnection time in milliseconds that it ends with.
func TestReaderCases(t *testing.T) {
	data, err := os.ReadFile("testdata/eventstream.json")
	if err != nil {
		t.Fatal(err)
	}
	var tests []struct {
		Name   string
		Input  string
		Events []Message
		Retry  *int64
	}
	if err := json.Unmarshal(data, &tests); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.Name, func(t *testing.T) {
			got := readEveryWay(t, test.Input)
			if len(got.messages)+len(test.Events) > 0 && !reflect.DeepEqual(got.messages, test.Events) {
				t.Errorf("got  %+v\nwant %+v", got.messages, test.Events)
			}
			if got.hasRetry != (test.Retry != nil) || got.hasRetry && got.retry.Milliseconds() != *test.Retry {
				t.Errorf("got retry %v, %v", got.retry, got.hasRetry)
			}
		})
	}
}

// The WHATWG Encoding standard says how many U+FFFD a broken sequence becomes.
// These cases are no JSON strings.
func TestReaderInvalidUTF8(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"no such byte", "\xffa", "\ufffda"},
		{"two of them", "\xff\xfea", "\ufffd\ufffda"},
		{"lone continuations", "\x80\xbf", "\ufffd\ufffd"},
		{"two bytes broken off", "\xc3a", "\ufffda"},
		{"three bytes broken off after two", "\xe2\x82a", "\ufffda"},
		{"four bytes broken off after three", "\xf0\x9f\x98a", "\ufffda"},
		{"four bytes broken off at the end of the line", "a\xf0\x9f\x98", "a\ufffd"},
		{"broken off by a whole one", "\xf0\x9f\x98\xf0\x9f\x98\x80", "\ufffd😀"},
		{"overlong", "\xc0\xaf\xe0\x80\xaf", "\ufffd\ufffd\ufffd\ufffd\ufffd"},
		{"surrogate", "\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
		{"too large", "\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
		{"U+FFFD itself", "\ufffd", "\ufffd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := readEveryWay(t, "event:"+test.in+"\ndata:"+test.in+"\nid:"+test.in+"\n\n").messages
			want := []Message{{Event: test.want, Data: test.want, ID: test.want}}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+q, want %+q", got, want)
			}
		})
	}
	if got := readEveryWay(t, "\xef\xbbdata: x\n\n").messages; got != nil {
		t.Errorf("half a byte order mark was taken for one: %+q", got)
	}
}

func TestReaderLastEventID(t *testing.T) {
	for _, test := range []struct{ name, in, want string }{
		{"none", "data: x\n\n", ""},
		{"of an event", "id: 1\ndata: x\n\n", "1"},
		{"without data", "id: 1\n\n", "1"},
		{"of an event cut off", "id: 1\n\nid: 2\ndata: x\n", "1"},
		{"taken back", "id: 1\n\nid\n\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := readEveryWay(t, test.in).lastEventID; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestReaderRetryTooLong(t *testing.T) {
	want := math.MaxInt64 / time.Millisecond * time.Millisecond
	for _, ms := range []string{"9223372036855", "99999999999999999999999"} {
		got := readAll(t, strings.NewReader("retry: "+ms+"\n"))
		if got.retry != want || !got.hasRetry {
			t.Errorf("%s: got %v, want %v", ms, got.retry, want)
		}
	}
}

// A message is there when its blank line is, even if that is a CR of which nobody
// knows yet whether a LF follows.
func TestReaderDoesNotWait(t *testing.T) {
	for _, end := range []string{"\n", "\r", "\r\n"} {
		r := NewReader(io.MultiReader(
			strings.NewReader("data: x"+end+end[:1]),
			iotest.ErrReader(errors.New("read on")),
		), 100)
		if m, err := r.Next(); err != nil || m.Data != "x" {
			t.Errorf("%q: got %+v, %v", end, m, err)
		}
	}
}

func TestReaderErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct {
		name  string
		in    io.Reader
		limit int
		err   error
	}{
		{"the end", strings.NewReader("data: x\n\n"), 100, io.EOF},
		{"the end in an event", strings.NewReader("data: x\n\ndata: y\n"), 100, io.EOF},
		{"a stream that breaks", io.MultiReader(strings.NewReader("data: x\n\ndata: y\n"), iotest.ErrReader(broken)), 100, broken},
		{"a stream that breaks and goes on", io.MultiReader(strings.NewReader("data: x\n\n"),
			iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("data: y\n\n")))), 100, iotest.ErrTimeout},
		{"just small enough", strings.NewReader("data: x\n\n"), len("data: x"), io.EOF},
		{"a line too large", strings.NewReader("data: x\n\ndata: xy\n\n"), len("data: x"), ErrTooLarge},
		{"a comment too large", strings.NewReader("data: x\n\n:" + strings.Repeat("x", 1000) + "\n"), 100, ErrTooLarge},
		{"a line without end", io.MultiReader(strings.NewReader("data: x\n\n"), endless("x")), 100, ErrTooLarge},
		{"an event without end", io.MultiReader(strings.NewReader("data: x\n\n"), endless("data\n")), 100, ErrTooLarge},
		{"many small things", strings.NewReader("data: x\n\n" + strings.Repeat(Heartbeat+"id: 1\nevent: e\n", 1000)), 10, io.EOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := NewReader(test.in, test.limit)
			if m, err := r.Next(); err != nil || m.Data != "x" {
				t.Fatalf("got %+v, %v", m, err)
			}
			for range 3 {
				if m, err := r.Next(); err != test.err || m != (Message{}) {
					t.Errorf("got %+v, %v, want %v", m, err, test.err)
				}
			}
		})
	}
}

// endless is a stream of the same again and again.
type endless string

func (e endless) Read(p []byte) (n int, err error) {
	for n+len(e) <= len(p) {
		n += copy(p[n:], e)
	}
	return n, nil
}

// FuzzReader holds the reader against itself, in pieces, and against the section
// in its plainest form.
func FuzzReader(f *testing.F) {
	f.Add([]byte("event: a\ndata: x\r\ndata\r\rid: 1\nretry: 10\n\n"))
	f.Add([]byte("\ufeff: hb\ndata: x\n\n:data\ndata:  y\ndata:\n\nid: \x00\ndata\n\n"))
	f.Add([]byte("\xef\xbb\xbf\xef\xbb\xbfdata: \xf0\x9f\x98\n\ndata\xff: x\n\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		whole := readAll(t, strings.NewReader(string(input)))
		bytes := readAll(t, iotest.OneByteReader(strings.NewReader(string(input))))
		if !reflect.DeepEqual(whole, bytes) {
			t.Errorf("in one piece: %+v\nin single bytes: %+v", whole, bytes)
		}
		if want := readPlainly(input); !reflect.DeepEqual(whole, want) {
			t.Errorf("got  %+v\nwant %+v", whole, want)
		}
	})
}

// readPlainly is the section word by word, over a stream that is all there.
func readPlainly(input []byte) (got outcome) {
	stream := strings.TrimPrefix(decodeUTF8(input), "\ufeff")
	stream = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(stream)
	lines := strings.Split(stream, "\n")
	var data, eventType, id string
	for _, line := range lines[:len(lines)-1] { // the last has no end
		if line == "" {
			got.lastEventID = id
			if data != "" {
				m := Message{Event: "message", Data: strings.TrimSuffix(data, "\n"), ID: id}
				if eventType != "" {
					m.Event = eventType
				}
				got.messages = append(got.messages, m)
			}
			data, eventType = "", ""
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field == "event":
			eventType = value
		case field == "data":
			data += value + "\n"
		case field == "id" && !strings.Contains(value, "\x00"):
			id = value
		case field == "retry" && value != "" && strings.Trim(value, "0123456789") == "":
			ms, err := strconv.ParseInt(value, 10, 64)
			if err != nil || ms > math.MaxInt64/int64(time.Millisecond) {
				ms = math.MaxInt64 / int64(time.Millisecond)
			}
			got.retry, got.hasRetry = time.Duration(ms)*time.Millisecond, true
		}
	}
	return got
}
