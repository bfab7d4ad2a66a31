package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// inEachMode runs a test of completions of so many texts in each way to read them, if the
// engine has as many.
func inEachMode(t *testing.T, c Config, name string, texts int, test func(t *testing.T, wait func(chunks int) bool)) {
	if !c.allows(texts) {
		return
	}
	for _, mode := range readModes {
		t.Run(name+", "+mode.name, func(t *testing.T) { test(t, mode.wait) })
	}
}

// testBursts has many chunks ready at once: about as many as a server takes in one go,
// which once lost those beyond, and far more than any buffer holds.
func testBursts(t *testing.T, c Config) {
	for _, n := range []int{1, 2, 3, 62, 63, 64, 65, 66, 127, 128, 129, 191, 192, 193, 400, 1000, 5000} {
		inEachMode(t, c, fmt.Sprint(n, " chunks"), n, func(t *testing.T, wait func(int) bool) {
			want := Completion{Bursts: [][]string{numbered(n)}}
			readAll(t, c, want, wait).check(t, want, completionv1.Finished_STOP)
		})
	}
}

// testTexts has texts that are hard to pass on, with more behind each.
func testTexts(t *testing.T, c Config) {
	family := " \U0001F469\u200D\U0001F469\u200D\U0001F466"
	for _, tt := range []struct {
		name  string
		texts []string
	}{
		{"none", nil},
		{"one byte", []string{"x"}},
		{"characters of many bytes", []string{" é", family, " 日本語", family, " \U0010FFFF"}},
		{"all that JSON escapes", []string{` "`, ` \`, " \x01", ` \n`, ` \u0041`, " \x7f", " <&>"}},
		{"a large one", append(append(numbered(3), " "+strings.Repeat("x", 9<<10)), numbered(200)...)},
		{"a very large one", append(append(numbered(70), " "+strings.Repeat("é", 150<<10)), numbered(70)...)},
		{"larger and larger ones", func() (texts []string) {
			for size := 1; size < 64<<10; size *= 2 {
				texts = append(append(texts, " "+strings.Repeat("y", size)), numbered(65)...)
			}
			return texts
		}()},
	} {
		inEachMode(t, c, tt.name, len(tt.texts), func(t *testing.T, wait func(int) bool) {
			want := Completion{Bursts: [][]string{tt.texts}}
			readAll(t, c, want, wait).check(t, want, completionv1.Finished_STOP)
		})
	}
}

// testEnds checks each end, with and without texts before it.
func testEnds(t *testing.T, c Config) {
	for _, n := range []int{0, 1, 64, 300} {
		inEachMode(t, c, fmt.Sprint(n, " chunks"), n, func(t *testing.T, wait func(int) bool) {
			want := Completion{Bursts: [][]string{numbered(n)}}
			readAll(t, c, want, wait).check(t, want, completionv1.Finished_STOP)
			if n > 0 { // a limit of tokens cannot be zero
				want.End = Length
				readAll(t, c, want, wait).check(t, want, completionv1.Finished_LENGTH)
			}
			if c.Abilities&Cuts != 0 {
				want.End = Cut
				got := readAll(t, c, want, wait)
				got.checkText(t, want)
				if got.err != io.EOF || got.finish != 0 {
					t.Errorf("cut: the end is %v, %v", got.err, got.finish)
				}
			}
			if c.Abilities&Fails != 0 {
				want.End = Fail
				got := readAll(t, c, want, wait)
				got.checkText(t, want)
				if got.err == nil || errors.Is(got.err, io.EOF) || got.finish != 0 {
					t.Errorf("failed: the end is %v, %v", got.err, got.finish)
				}
			}
		})
	}
}

// testPauses checks that Next returns all of a burst, and then waits for the next one.
func testPauses(t *testing.T, c Config) {
	for _, sizes := range [][]int{{1, 1, 1}, {1, 64, 1}, {64, 64, 64}, {65, 1, 200}, {1000, 1, 2}} {
		goOn := make(chan struct{}, len(sizes))
		want := Completion{Resume: goOn}
		for _, n := range sizes {
			want.Bursts = append(want.Bursts, numbered(n))
		}
		inEachMode(t, c, fmt.Sprint(sizes, " chunks"), want.texts(), func(t *testing.T, wait func(int) bool) {
			stream := open(t, t.Context(), c, want)
			defer stream.Close()
			got := &outcome{}
			for i := range sizes {
				soFar := Completion{Bursts: want.Bursts[:i+1]}
				within(t, "read a burst", func() {
					for got.text.Len() < len(soFar.text()) && got.next(stream, wait(got.chunks)) {
					}
				})
				got.checkText(t, soFar)
				if i == len(sizes)-1 {
					break // the end may be ready
				}
				within(t, "find nothing", func() {
					if c, err := stream.Next(false); c != nil || err != nil {
						t.Errorf("in the pause: %v, %v", c, err)
					}
				})
				goOn <- struct{}{}
			}
			within(t, "read the end", func() {
				for got.next(stream, wait(got.chunks)) {
				}
			})
			got.check(t, want, completionv1.Finished_STOP)
		})
	}
}

// testChunkHolds checks that a chunk does not change before the next call, even if more
// text comes.
func testChunkHolds(t *testing.T, c Config) {
	const n = 20
	goOn := make(chan struct{}, n)
	want := Completion{Resume: goOn}
	for range n {
		want.Bursts = append(want.Bursts, numbered(1))
	}
	stream := open(t, t.Context(), c, want)
	defer stream.Close()
	within(t, "read all", func() {
		for taken := 0; taken < len(want.Bursts); {
			c, err := stream.Next(true)
			if err != nil {
				t.Error(err)
				return
			}
			was := proto.CloneOf(c.Delta)
			if was.GetText() == "" {
				continue
			}
			if taken++; taken < len(want.Bursts) {
				goOn <- struct{}{}
			}
			if !proto.Equal(c.Delta, was) {
				t.Errorf("text %d became %v, from %v", taken, c.Delta, was)
			}
		}
	})
}

// testNextDoesNotWait checks that Next does not block when it is not to wait: before the
// completion has begun, and while it is silent.
func testNextDoesNotWait(t *testing.T, c Config) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(errGone)
	stream := open(t, ctx, c, Completion{Bursts: [][]string{numbered(1)}, End: Silence})
	defer stream.Close()
	got := &outcome{}
	take := func(c *engine.Chunk, err error) {
		if err != nil {
			t.Fatalf("got %v", err)
		}
		if c != nil {
			got.add(c)
		}
	}
	within(t, "find nothing before the start", func() {
		for range 5 {
			take(stream.Next(false))
		}
	})
	within(t, "read the text", func() {
		for got.text.Len() == 0 {
			take(stream.Next(true))
		}
	})
	within(t, "find nothing afterwards", func() {
		for range 50 {
			take(stream.Next(false))
		}
	})
	if got.text.String() != numbered(1)[0] || got.finish != 0 {
		t.Errorf("got %q, %v", got.text.String(), got.finish)
	}
}
