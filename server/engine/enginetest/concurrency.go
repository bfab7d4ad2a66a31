package enginetest

import (
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// testManyAtOnce reads completions of one engine by many goroutines.
func testManyAtOnce(t *testing.T, c Config) {
	want := Completion{Bursts: [][]string{numbered(300)}}
	eng, req := c.Open(t, want)
	all := make([]*outcome, 16)
	within(t, "read all", func() {
		var readers sync.WaitGroup
		for i := range all {
			readers.Go(func() {
				stream := eng.Generate(t.Context(), proto.CloneOf(req))
				defer stream.Close()
				all[i] = read(stream, readModes[i%len(readModes)].wait)
			})
		}
		readers.Wait()
	})
	for _, got := range all {
		got.check(t, want, completionv1.Finished_STOP)
	}
}

// testInterleaved reads completions of one engine in turn by one goroutine.
func testInterleaved(t *testing.T, c Config) {
	want := Completion{Bursts: [][]string{numbered(200)}}
	eng, req := c.Open(t, want)
	streams, all := make([]engine.Stream, 3), make([]outcome, 3)
	for i := range streams {
		streams[i] = eng.Generate(t.Context(), proto.CloneOf(req))
		defer streams[i].Close()
	}
	within(t, "read all", func() {
		for left := len(streams); left > 0; {
			for i, stream := range streams {
				if all[i].err == nil && !all[i].next(stream, true) {
					left--
				}
			}
		}
	})
	for i := range all {
		all[i].check(t, want, completionv1.Finished_STOP)
	}
}

// testFromManyGoroutines reads a completion by one goroutine after the other.
func testFromManyGoroutines(t *testing.T, c Config) {
	want := Completion{Bursts: [][]string{numbered(300)}}
	stream := open(t, t.Context(), c, want)
	defer stream.Close()
	got := &outcome{}
	for goesOn := true; goesOn; {
		within(t, "read some", func() {
			for range 7 {
				if goesOn = got.next(stream, got.chunks%3 == 0); !goesOn {
					return
				}
			}
		})
	}
	got.check(t, want, completionv1.Finished_STOP)
}
