package journal_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"github.com/sluice-sse/sluice/server/journal"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// owner is told what others want of its completion.
type owner struct{}

func (owner) Cancel()            { fmt.Println("somebody cancels") }
func (owner) Readers(change int) { fmt.Printf("readers: %+d\n", change) }

// One side appends a completion's events, the other side follows them from where it
// chooses. They know each other by the journal alone.
func Example() {
	ctx := context.Background()
	kept := memory.New(memory.Config{})
	defer kept.Close()
	var j journal.Journal = kept

	w, _, err := j.Create(ctx, journal.Completion{ID: "cmpl_1", Key: "4711"}, owner{})
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Append(ctx, []journal.Entry{{Sequence: 1, Data: []byte("Hello")}, {Sequence: 2, Data: []byte(" there")}}); err != nil {
		log.Fatal(err)
	}

	r, err := j.Follow(ctx, "cmpl_1", 1) // the reader has had the first event
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	if err := j.Cancel(ctx, "cmpl_1"); err != nil {
		log.Fatal(err)
	}
	if _, err := w.Append(ctx, []journal.Entry{{Sequence: 3, Kind: journal.Finished}}); err != nil {
		log.Fatal(err)
	}
	for {
		entries, err := r.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		for _, e := range entries {
			fmt.Printf("%d %q, the end: %t\n", e.Sequence, e.Data, e.Kind != journal.Event)
		}
	}
	// Output:
	// readers: +1
	// somebody cancels
	// 2 " there", the end: false
	// 3 "", the end: true
}
