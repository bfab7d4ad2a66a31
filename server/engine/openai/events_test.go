package openai

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll returns the data of all events of a stream, and the error that ended it.
func readAll(r io.Reader) ([]string, error) {
	e := eventReader{r: r}
	var all []string
	for {
		data, err := e.next(true)
		if err != nil {
			return all, err
		}
		all = append(all, string(data))
	}
}

// TestEvents tests WHATWG HTML section 9.2.6, with its examples.
func TestEvents(t *testing.T) {
	for _, tc := range []struct {
		name, stream string
		want         []string
	}{
		{"nothing", "", nil},
		{"one", "data: a\n\n", []string{"a"}},
		{"stock example", "data: YHOO\ndata: +2\ndata: 10\n\n", []string{"YHOO\n+2\n10"}},
		{"comment, id, space example", ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
			[]string{"first event", "second event", " third event"}},
		{"empty data example", "data\n\ndata\ndata\n\ndata:\n\n", []string{"", "\n", ""}},
		{"space example", "data:test\n\ndata: test\n\n", []string{"test", "test"}},
		{"no data", "event: a\nid: 2\n\n\n\nretry: 1\n\n", nil},
		{"line ends", "data: a\rdata: b\r\ndata: c\n\r\ndata: d\r\r\ndata: e\n\n", []string{"a\nb\nc", "d", "e"}},
		{"a mark at the start only", "\uFEFFdata: a\n\n\uFEFFdata: b\n\n", []string{"a"}},
		{"colons", "data: a: b\n\n:data: c\n\ndata:: d\n\n", []string{"a: b", ": d"}},
		{"other names", "Data: a\n\n data: b\n\ndatas: c\n\ndat: d\n\n", nil},
		{"NUL", "data: a\x00b\n\n", []string{"a\x00b"}},
		{"end without a blank line", "data: a\n\ndata: b\n", []string{"a", "b"}},
		{"end without a line end", "data: a\n\ndata: b", []string{"a", "b"}},
		{"end after a name", "data: a\n\ndata", []string{"a", ""}},
		{"chunks apart by one newline", "data: {}\ndata: {\ndata: }\ndata: [DONE]\ndata: {}", []string{"{}", "{\n}", "[DONE]", "{}"}},
		{"one value in lines", "data: [{},\ndata: {}]\n\ndata: {\ndata: }\n\n", []string{"[{},\n{}]", "{\n}"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := readAll(strings.NewReader(tc.stream))
			if err != io.EOF || !slices.Equal(got, tc.want) {
				t.Errorf("got %q, %v, want %q", got, err, tc.want)
			}
		})
	}
}

// TestEventsAtOnce checks that an event is returned with the byte that ends it, which may be
// a CR, and not with the next one.
func TestEventsAtOnce(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\r", "\r\n\r", "\r\n\r\n"} {
		r, w := io.Pipe()
		go io.WriteString(w, "data: a"+end)
		e := eventReader{r: r}
		if data, err := e.next(true); string(data) != "a" || err != nil {
			t.Errorf("%q: got %q, %v", end, data, err)
		}
		r.Close()
	}
}

// TestEventsBroken checks that the complete events before an error are returned, and an
// incomplete one is not.
func TestEventsBroken(t *testing.T) {
	for stream, want := range map[string]int{"": 0, "data: a\n\n": 1, "data: a\n\ndata: b\n": 1, "data: a\n\ndata: b": 1} {
		for name, r := range map[string]io.Reader{
			"after the data": io.MultiReader(strings.NewReader(stream), iotest.ErrReader(errGone)),
			"with the data":  iotest.DataErrReader(io.MultiReader(strings.NewReader(stream), iotest.ErrReader(errGone))),
		} {
			if got, err := readAll(r); len(got) != want || err != errGone {
				t.Errorf("%q, error %s: got %q, %v", stream, name, got, err)
			}
		}
	}
}

// zeros is a reader that always returns 0 and no error.
type zeros struct{}

func (zeros) Read([]byte) (int, error) { return 0, nil }

func TestEventsLimits(t *testing.T) {
	line := "data: " + strings.Repeat("x", 1<<20) + "\n"
	for _, tc := range []struct {
		name string
		r    io.Reader
		want error
	}{
		{"a long line", strings.NewReader("data: " + strings.Repeat("x", maxEvent)), errEventTooLong},
		{"a long comment", strings.NewReader(":" + strings.Repeat("x", maxEvent)), errEventTooLong},
		{"many lines", strings.NewReader(strings.Repeat(line, 9)), errEventTooLong},
		{"many blank lines", repeat("data:" + strings.Repeat(" ", 16) + "\n"), errEventTooLong},
		{"many comments", io.LimitReader(repeat(": wait\n\n"), maxEvent+1<<20), io.EOF},
		{"no progress", zeros{}, io.ErrNoProgress},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got, err := readAll(tc.r); len(got) != 0 || !errors.Is(err, tc.want) {
				t.Errorf("got %d events, %v, want %v", len(got), err, tc.want)
			}
		})
	}
}

// repeat reads s over and over.
func repeat(s string) io.Reader { return &repeater{s: s} }

type repeater struct {
	s  string
	at int
}

func (r *repeater) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		c := copy(p[n:], r.s[r.at:])
		n += c
		r.at = (r.at + c) % len(r.s)
	}
	return n, nil
}

func TestEventsDoNotAllocate(t *testing.T) {
	e := eventReader{r: repeat(": comment\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\r\n\r\n")}
	for range 1000 { // until the buffer is what a busy stream has
		if _, err := e.next(true); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(10_000, func() { e.next(true) }); n != 0 {
		t.Errorf("%v allocations an event, want 0", n)
	}
	if len(e.buf) != busyBuffer {
		t.Errorf("the buffer has %d bytes", len(e.buf))
	}
	slow := eventReader{r: iotest.OneByteReader(repeat("data: {\"choices\":[]}\n\n"))}
	for range 1000 {
		if _, err := slow.next(true); err != nil {
			t.Fatal(err)
		}
	}
	if len(slow.buf) != minBuffer {
		t.Errorf("the buffer of a slow stream grew to %d bytes", len(slow.buf))
	}
}

// Where it is not to wait, next does not read: it returns an event exactly when
// all of it has been read already.
func TestEventsDoNotWait(t *testing.T) {
	const stream = ": ping\n\ndata: {\ndata: \"a\"\ndata: }\n\ndata: b\r\n\r\ndata: {}\ndata: {}\n\n"
	for size := range len(stream) {
		reads := 0
		e := eventReader{r: readerFunc(func(p []byte) (int, error) {
			reads++
			return copy(p, stream[min((reads-1)*(size+1), len(stream)):min(reads*(size+1), len(stream))]), nil
		})}
		var got []string
		for len(got) < 4 {
			before := reads
			data, err := e.next(false)
			if reads != before {
				t.Fatalf("%d bytes at a time: it reads", size+1)
			}
			if err == errNotYet {
				data, err = e.next(true)
				if reads == before {
					t.Fatalf("%d bytes at a time: %q had been read", size+1, data)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(data))
		}
		if want := []string{"{\n\"a\"\n}", "b", "{}", "{}"}; !slices.Equal(got, want) {
			t.Errorf("%d bytes at a time: got %q, want %q", size+1, got, want)
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// FuzzReader compares eventReader, for several ways of reading, with a plain
// implementation of the section and the two exceptions.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"data: a\n\n", "data: a\r\rdata:b\r\n\r\n: c\n\ndata\n\n", "\uFEFFdata: a\n\n", "data: {}\ndata: {\ndata: }\ndata: [1]", "data: a\ndata: b",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		want := plainly(string(stream))
		for name, r := range map[string]io.Reader{
			"whole":         bytes.NewReader(stream),
			"byte by byte":  iotest.OneByteReader(bytes.NewReader(stream)),
			"half by half":  iotest.HalfReader(bytes.NewReader(stream)),
			"data with EOF": iotest.DataErrReader(bytes.NewReader(stream)),
		} {
			if got, err := readAll(r); err != io.EOF || !slices.Equal(got, want) {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
			}
		}
	})
}

var lineEnds = regexp.MustCompile(`\r\n|\r|\n`)

// plainly returns the data of the events of a stream.
func plainly(stream string) []string {
	var events, data []string
	dispatch := func() {
		if data == nil {
			return
		}
		// Data lines that cannot belong to one value.
		event := data[0]
		for _, line := range data[1:] {
			before, after := strings.TrimSpace(event), strings.TrimSpace(line)
			if strings.ContainsAny(before[max(0, len(before)-1):], "}]") && strings.IndexAny(after, "{[") == 0 {
				events = append(events, event)
				event = line
				continue
			}
			event += "\n" + line
		}
		events = append(events, event)
		data = nil
	}
	for _, line := range lineEnds.Split(strings.TrimPrefix(stream, "\uFEFF"), -1) {
		name, value, _ := strings.Cut(line, ":")
		switch {
		case line == "":
			dispatch()
		case name == "data":
			data = append(data, strings.TrimPrefix(value, " "))
		}
	}
	dispatch() // the end of the stream ends an event
	return events
}

// A chunk like the one before it costs no allocation, from the upstream's bytes to a
// chunk of ours.
func TestDeltasDoNotAllocate(t *testing.T) {
	for name, data := range map[string]string{
		"chat":   strings.Replace(plainChunks[0], `"content":""`, `"content":" world"`, 1),
		"plain":  plainChunks[1],
		"legacy": plainChunks[5],
	} {
		s := &stream{engine: newEngine(t, Config{BaseURL: "http://localhost"}), ctx: t.Context(), events: eventReader{r: repeat("data: " + data + "\n\n")}}
		next := func() {
			if c, err := s.Next(true); err != nil || c.Delta == nil {
				t.Fatal(c, err)
			}
		}
		for range 1000 { // until the buffer is what a busy stream has
			next()
		}
		if n := testing.AllocsPerRun(10_000, next); n != 0 {
			t.Errorf("%s: %v allocations a chunk, want 0", name, n)
		}
	}
}
