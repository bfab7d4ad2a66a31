package memory

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"

	"github.com/sluice-sse/sluice/server/journal"
)

const events = 2000 // of each completion that is measured

// deltas returns a completion's entries as the server makes them, with a word of
// text in each delta, and the mean size of their data.
func deltas(b *testing.B) ([]journal.Entry, float64) {
	b.Helper()
	words := strings.SplitAfter(" whoever comes back later finds everything exactly where somebody left it waiting", " ")[1:]
	var all []journal.Entry
	total := 0
	for s := int32(1); s <= events; s++ {
		event := &completionv1.CompletionEvent{Sequence: s, Event: &completionv1.CompletionEvent_Delta{
			Delta: &completionv1.Delta{Text: words[int(s)%len(words)]},
		}}
		kind := journal.Event
		if s == events {
			kind = journal.Finished
			event.Event = &completionv1.CompletionEvent_Finished{Finished: &completionv1.Finished{
				FinishReason: completionv1.Finished_STOP,
				Usage:        &completionv1.Usage{PromptTokens: 12, CompletionTokens: events, TotalTokens: events + 12},
			}}
		}
		data, err := proto.Marshal(event)
		if err != nil {
			b.Fatal(err)
		}
		total += len(data)
		all = append(all, journal.Entry{Sequence: s, Kind: kind, Data: data})
	}
	return all, float64(total) / events
}

// BenchmarkAppend appends events, so many at a time; every 2,000 make a completion. The
// figures are for one event.
func BenchmarkAppend(b *testing.B) {
	all, size := deltas(b)
	for _, batch := range []int{1, 2, 16, 50} {
		b.Run(fmt.Sprint("batch=", batch), func(b *testing.B) {
			m := newJournal(b, Config{Bytes: 64 << 20})
			ctx := b.Context()
			var w journal.Writer
			entries := make([]journal.Entry, batch)
			b.ReportAllocs()
			for i := 0; i < b.N; i += batch {
				if i%events == 0 {
					w = create(b, m, journal.Completion{ID: fmt.Sprint(i)})
				}
				copy(entries, all[i%events:])
				if _, err := w.Append(ctx, entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(size, "B/event")
		})
	}
}

// BenchmarkAppendAndFollow writes a completion as fast as it can while readers
// follow it to its end.
func BenchmarkAppendAndFollow(b *testing.B) {
	for _, readers := range []int{1, 10, 100} {
		b.Run(fmt.Sprint("readers=", readers), func(b *testing.B) {
			all, _ := deltas(b)
			m := newJournal(b, Config{Bytes: 64 << 20})
			n := 0
			before := mallocs()
			for b.Loop() {
				n++
				appendAndFollow(b, m, fmt.Sprint(n), all, readers)
			}
			written := float64(n * events)
			b.ReportMetric(float64(mallocs()-before)/written, "allocs/event")
			b.ReportMetric(written/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(written*float64(readers)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}

func mallocs() uint64 {
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.Mallocs
}

func appendAndFollow(b *testing.B, m *Journal, id string, all []journal.Entry, readers int) {
	ctx := b.Context()
	w := create(b, m, journal.Completion{ID: id})
	var wg sync.WaitGroup
	for range readers {
		r, err := m.Follow(ctx, id, 0)
		if err != nil {
			b.Fatal(err)
		}
		wg.Go(func() {
			defer r.Close()
			var last int32
			for {
				entries, err := r.Next(ctx)
				if err != nil {
					if !errors.Is(err, io.EOF) || last != events {
						b.Errorf("after %d: %v", last, err)
					}
					return
				}
				last = entries[len(entries)-1].Sequence
			}
		})
	}
	one := make([]journal.Entry, 1)
	for i := range all {
		one[0] = all[i]
		if _, err := w.Append(ctx, one); err != nil {
			b.Fatal(err)
		}
	}
	wg.Wait()
}

// BenchmarkRetain keeps 2,000 completions of 2,000 events in the default budget.
func BenchmarkRetain(b *testing.B) {
	const completions = 2000
	all, size := deltas(b)
	for b.Loop() {
		before := heap()
		m := New(Config{})
		for i := range completions {
			c := journal.Completion{ID: fmt.Sprintf("cmpl_%026d", i), Principal: "p", Key: fmt.Sprintf("%032d", i), Model: "model"}
			add(b, create(b, m, c), all...)
		}
		grown := heap() - before
		for i := range completions {
			if _, err := m.Get(b.Context(), fmt.Sprintf("cmpl_%026d", i)); err != nil {
				b.Fatalf("completion %d: %v", i, err)
			}
		}
		if limit := int64(256 << 20); m.Bytes() > limit || grown > limit {
			b.Fatalf("%d bytes counted, %d grown, of %d", m.Bytes(), grown, limit)
		}
		b.ReportMetric(size, "B/event")
		b.ReportMetric(float64(m.Bytes())/(completions*events), "counted-B/event")
		b.ReportMetric(float64(grown)/(completions*events), "heap-B/event")
		m.Close()
	}
}

// heap returns how much is allocated and in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what the first one's finalizers let go
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
