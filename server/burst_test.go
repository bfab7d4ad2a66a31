package server

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
)

// numbered returns a completion's chunks, with n texts, and what a reader then has.
func numbered(n int) (chunks []*engine.Chunk, want string) {
	chunks = append(chunks, begun)
	words := []string{"1:created"}
	for i := range n {
		chunks = append(chunks, text(fmt.Sprint(i)))
		words = append(words, fmt.Sprintf("%d:%d", i+2, i))
	}
	return append(chunks, stopped), strings.Join(append(words, fmt.Sprintf("%d:STOP", n+2)), " ")
}

// TestBursts has so many chunks ready at once, around what goes into one batch and
// far beyond. None is lost, on any of the ways to read them.
func TestBursts(t *testing.T) {
	for _, n := range []int{1, maxBatch - 3, maxBatch - 2, maxBatch - 1, maxBatch, maxBatch + 1, 2*maxBatch - 2, 2 * maxBatch, 400, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			chunks, want := numbered(n)
			f := newFixture(t, atOnce(nil, chunks...))
			id, s := f.stream(t, t.Context(), prompt("x"))
			if got, err := read(s); got != want || err != nil {
				t.Errorf("streamed: got %.300q, %v; want %.300q", got, err, want)
			}
			if got, err := read(f.resume(t, t.Context(), id, 0)); got != want || err != nil {
				t.Errorf("resumed: got %.300q, %v; want %.300q", got, err, want)
			}
			whole, err := f.client.CreateCompletion(t.Context(), prompt("x"))
			if err != nil || len(whole.GetText()) != textLen(n) || whole.GetLastSequence() != int32(n+2) {
				t.Errorf("the whole: %d bytes up to %d, %v; want %d", len(whole.GetText()), whole.GetLastSequence(), err, textLen(n))
			}
		})
	}
}

// textLen is the length of the numbers below n, one behind the other.
func textLen(n int) (length int) {
	for i := range n {
		length += len(fmt.Sprint(i))
	}
	return length
}

// TestLeadChangesWithinABurst has the reader that leads leave, or another one come,
// while chunks are ready of which some have been taken.
func TestLeadChangesWithinABurst(t *testing.T) {
	const n = 1000
	for _, taken := range []int{1, maxBatch - 1, maxBatch, maxBatch + 1, n} {
		for _, leaves := range []bool{true, false} {
			t.Run(fmt.Sprintf("after %d events, leaves: %v", taken, leaves), func(t *testing.T) {
				chunks, want := numbered(n)
				f := newFixture(t, atOnce(nil, chunks...))
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				req := prompt("x")
				req.DisconnectGrace = durationpb.New(f.server.config.MaxDisconnectGrace)
				id, s := f.stream(t, ctx, req)
				var first []string
				for range taken {
					e, err := s.Recv()
					if err != nil {
						t.Fatal(err)
					}
					first = append(first, fmt.Sprintf("%d:%s", e.GetSequence(), word(e)))
				}
				if leaves {
					leave()
				}
				if got, err := read(f.resume(t, t.Context(), id, 0)); got != want || err != nil {
					t.Errorf("the second reader: got %.300q, %v; want %.300q", got, err, want)
				}
				if rest, err := read(s); !leaves && (strings.Join(first, " ")+" "+rest != want || err != nil) {
					t.Errorf("the first reader: got %q and %.300q, %v; want %.300q", first, rest, err, want)
				}
			})
		}
	}
}

// TestBurstsOfMany has completions whose bursts are of all sizes, each with readers
// that come at any time.
func TestBurstsOfMany(t *testing.T) {
	const completions, n = 20, 700
	chunks, want := numbered(n)
	f := newFixture(t, script(func(ctx context.Context, emit func(...*engine.Chunk) error) error {
		for i, left := 0, chunks; len(left) > 0 && ctx.Err() == nil; i++ {
			size := min(len(left), 1<<(i%9))
			if err := emit(left[:size]...); err != nil {
				return err
			}
			left = left[size:]
		}
		return context.Cause(ctx)
	}))
	var all sync.WaitGroup
	check := func(s eventStream) {
		if got, err := read(s); got != want || err != nil {
			t.Errorf("got %.300q, %v; want %.300q", got, err, want)
		}
	}
	for range completions {
		id, s := f.stream(t, t.Context(), prompt("x"))
		all.Go(func() { check(s) })
		for range 3 {
			late, err := f.client.ResumeCompletion(t.Context(), &completionv1.ResumeCompletionRequest{Id: id})
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() { check(late) })
		}
	}
	all.Wait()
}
