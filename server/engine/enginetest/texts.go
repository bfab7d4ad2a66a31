package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// testBursts has so many chunks ready at once: around a turn of the server's, which
// once lost what was beyond it, and up to far more than any buffer holds.
func testBursts(t *testing.T, s Subject) {
	for _, n := range []int{1, 2, 3, 62, 63, 64, 65, 66, 127, 128, 129, 191, 192, 193, 400, 1000, 5000} {
		for _, way := range ways {
			if !s.says(n) {
				continue
			}
			t.Run(fmt.Sprint(n, " chunks, ", way.name), func(t *testing.T) {
				p := Play{Bursts: [][]string{words(n)}}
				readAll(t, open(t, t.Context(), s, p), way.wait).check(t, p, completionv1.Finished_STOP)
			})
		}
	}
}

// testTexts has texts that are hard to hand on, each with more behind it.
func testTexts(t *testing.T, s Subject) {
	family := " \U0001F469\u200D\U0001F469\u200D\U0001F466"
	for _, tt := range []struct {
		name  string
		texts []string
	}{
		{"none", nil},
		{"one byte", []string{"x"}},
		{"characters of many bytes", []string{" é", family, " 日本語", family, " \U0010FFFF"}},
		{"all that JSON escapes", []string{` "`, ` \`, " \x01", ` \n`, ` \u0041`, " \x7f", " <&>"}},
		{"a large one", append(append(words(3), " "+strings.Repeat("x", 9<<10)), words(200)...)},
		{"a very large one", append(append(words(70), " "+strings.Repeat("é", 150<<10)), words(70)...)},
		{"larger and larger ones", func() (texts []string) {
			for size := 1; size < 64<<10; size *= 2 {
				texts = append(append(texts, " "+strings.Repeat("y", size)), words(65)...)
			}
			return texts
		}()},
	} {
		for _, way := range ways {
			if !s.says(len(tt.texts)) {
				continue
			}
			t.Run(tt.name+", "+way.name, func(t *testing.T) {
				p := Play{Bursts: [][]string{tt.texts}}
				readAll(t, open(t, t.Context(), s, p), way.wait).check(t, p, completionv1.Finished_STOP)
			})
		}
	}
}

// testEnds checks each end, after texts and before any.
func testEnds(t *testing.T, s Subject) {
	for _, n := range []int{0, 1, 64, 300} {
		for _, way := range ways {
			if !s.says(n) {
				continue
			}
			t.Run(fmt.Sprint(n, " chunks, ", way.name), func(t *testing.T) {
				p := Play{Bursts: [][]string{words(n)}}
				readAll(t, open(t, t.Context(), s, p), way.wait).check(t, p, completionv1.Finished_STOP)
				if n > 0 { // no limit of a completion's tokens is zero
					p.End = Length
					readAll(t, open(t, t.Context(), s, p), way.wait).check(t, p, completionv1.Finished_LENGTH)
				}
				if s.Can&Cuts != 0 {
					p.End = Cut
					got := readAll(t, open(t, t.Context(), s, p), way.wait)
					got.checkText(t, p)
					if got.err != io.EOF || got.finish != 0 {
						t.Errorf("cut: the end is %v, %v", got.err, got.finish)
					}
				}
				if s.Can&Fails != 0 {
					p.End = Fail
					got := readAll(t, open(t, t.Context(), s, p), way.wait)
					got.checkText(t, p)
					if got.err == nil || errors.Is(got.err, io.EOF) || got.finish != 0 {
						t.Errorf("failed: the end is %v, %v", got.err, got.finish)
					}
				}
			})
		}
	}
}

// testPauses has silence between bursts: Next returns all of one, and waits for the
// next.
func testPauses(t *testing.T, s Subject) {
	for _, sizes := range [][]int{{1, 1, 1}, {1, 64, 1}, {64, 64, 64}, {65, 1, 200}, {1000, 1, 2}} {
		for _, way := range ways {
			t.Run(fmt.Sprint(sizes, " chunks, ", way.name), func(t *testing.T) {
				goOn := make(chan struct{}, len(sizes))
				p := Play{GoOn: goOn}
				for _, n := range sizes {
					p.Bursts = append(p.Bursts, words(n))
				}
				stream := open(t, t.Context(), s, p)
				defer stream.Close()
				got := &told{}
				for i := range sizes {
					heard := Play{Bursts: p.Bursts[:i+1]}
					soon(t, "read a burst", func() {
						for got.text.Len() < len(heard.text()) && got.next(stream, way.wait(got.chunks)) {
						}
					})
					got.checkText(t, heard)
					if i == len(sizes)-1 {
						break // the end may be there
					}
					soon(t, "find nothing", func() {
						if c, err := stream.Next(false); c != nil || err != nil {
							t.Errorf("in the pause: %v, %v", c, err)
						}
					})
					goOn <- struct{}{}
				}
				soon(t, "read the end", func() {
					for got.next(stream, way.wait(got.chunks)) {
					}
				})
				got.check(t, p, completionv1.Finished_STOP)
			})
		}
	}
}

// testChunkHolds checks that a chunk stays as it is until the next call, whatever
// comes meanwhile.
func testChunkHolds(t *testing.T, s Subject) {
	const n = 20
	goOn := make(chan struct{}, n)
	p := Play{GoOn: goOn}
	for range n {
		p.Bursts = append(p.Bursts, words(1))
	}
	stream := open(t, t.Context(), s, p)
	defer stream.Close()
	soon(t, "read all", func() {
		for taken := 0; taken < len(p.Bursts); {
			c, err := stream.Next(true)
			if err != nil {
				t.Error(err)
				return
			}
			was := clone(c)
			if was.GetText() == "" {
				continue
			}
			if taken++; taken < len(p.Bursts) {
				goOn <- struct{}{}
			}
			if !proto.Equal(c.Delta, was) {
				t.Errorf("text %d became %v, from %v", taken, c.Delta, was)
			}
		}
	})
}

// testManyAtOnce has completions of one engine read at once, each by a goroutine.
func testManyAtOnce(t *testing.T, s Subject) {
	p := Play{Bursts: [][]string{words(300)}}
	eng, req := s.Open(t, p)
	all := make([]*told, 16)
	soon(t, "read all", func() {
		var readers sync.WaitGroup
		for i := range all {
			readers.Go(func() {
				stream := eng.Generate(t.Context(), proto.CloneOf(req))
				defer stream.Close()
				all[i] = read(stream, ways[i%len(ways)].wait)
			})
		}
		readers.Wait()
	})
	for _, got := range all {
		got.check(t, p, completionv1.Finished_STOP)
	}
}

// testInterleaved has one goroutine read completions of one engine in turn.
func testInterleaved(t *testing.T, s Subject) {
	p := Play{Bursts: [][]string{words(200)}}
	eng, req := s.Open(t, p)
	streams, all := make([]engine.Stream, 3), make([]told, 3)
	for i := range streams {
		streams[i] = eng.Generate(t.Context(), proto.CloneOf(req))
		defer streams[i].Close()
	}
	soon(t, "read all", func() {
		for left := len(streams); left > 0; {
			for i, stream := range streams {
				if all[i].err == nil && !all[i].next(stream, true) {
					left--
				}
			}
		}
	})
	for i := range all {
		all[i].check(t, p, completionv1.Finished_STOP)
	}
}

// testFromManyGoroutines has a completion read by one goroutine after the other.
func testFromManyGoroutines(t *testing.T, s Subject) {
	p := Play{Bursts: [][]string{words(300)}}
	stream := open(t, t.Context(), s, p)
	defer stream.Close()
	got := &told{}
	for goesOn := true; goesOn; {
		soon(t, "read some", func() {
			for range 7 {
				if goesOn = got.next(stream, got.chunks%3 == 0); !goesOn {
					return
				}
			}
		})
	}
	got.check(t, p, completionv1.Finished_STOP)
}

// testNextDoesNotWait asks for what is not there: before the completion has begun,
// and while it is silent.
func testNextDoesNotWait(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(errGone)
	stream := open(t, ctx, s, Play{Bursts: [][]string{words(1)}, End: Silence})
	defer stream.Close()
	got := &told{}
	take := func(c *engine.Chunk, err error) {
		if err != nil {
			t.Fatalf("got %v", err)
		}
		if c != nil {
			got.take(c)
		}
	}
	soon(t, "find nothing before the start", func() {
		for range 5 {
			take(stream.Next(false))
		}
	})
	soon(t, "read the text", func() {
		for got.text.Len() == 0 {
			take(stream.Next(true))
		}
	})
	soon(t, "find nothing afterwards", func() {
		for range 50 {
			take(stream.Next(false))
		}
	})
	if got.text.String() != words(1)[0] || got.finish != 0 {
		t.Errorf("got %q, %v", got.text.String(), got.finish)
	}
}
