package redis

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// TestPublishedBeforeShown has a reader that has got an event elsewhere come to the owner
// before the owner shows it.
func TestPublishedBeforeShown(t *testing.T) {
	s := testbed.StartRedis(t)
	a := open(t, s, Config{})
	writing, _ := create(t, a, "c")
	w := writing.(*writer)
	if _, err := w.held.Append(t.Context(), []journal.Entry{event(1)}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.appendBatch(t.Context(), w, []journal.Entry{event(1)}); err != nil {
		t.Fatal(err)
	}
	r, err := a.Follow(soon(t), "c", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.held.Show(1)
	w.stored = 1
	end(t, w, 2)
	if entries, err := r.Next(soon(t)); err != nil || len(entries) != 1 || entries[0].Sequence != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestAnswerIsLost has a batch be there already, the end too, when it is appended: the
// answer to the first try had been lost.
func TestAnswerIsLost(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	writing, _ := create(t, a, "c")
	w := writing.(*writer)
	last := journal.Entry{Sequence: 4, Kind: journal.Finished, Data: []byte("end")}
	for _, batch := range [][]journal.Entry{{event(1), event(2)}, {event(3), last}} {
		if answer, _, err := a.appendBatch(t.Context(), w, batch); answer != isThere || err != nil {
			t.Fatal(answer, err)
		}
		if n, err := w.Append(t.Context(), batch); n != len(batch) || err != nil {
			t.Errorf("once more: %d, %v", n, err)
		}
	}
	w.Close()
	if e, err := follow(soon(t), b, "c", 0); err != nil || e.Sequence != 4 || string(e.Data) != "end" {
		t.Errorf("ends with %+v, %v", e, err)
	}
}

// TestGap has something be lost that was published: who is behind it reads the store.
func TestGap(t *testing.T) {
	topic := &topic{followers: map[*storedReader]struct{}{}}
	publish := func(first int32, n int32) {
		var batch []journal.Entry
		for s := first; s < first+n; s++ {
			batch = append(batch, event(s))
		}
		topic.published(appendFrames(fmt.Appendf(nil, "%d ", first), batch))
	}
	publish(1, 3)
	publish(4, 2)
	publish(8, 3) // without 6 and 7
	for _, tt := range []struct {
		last, first int32 // 0: it is read from the store
		n           int
	}{{0, 0, 0}, {3, 0, 0}, {5, 0, 0}, {6, 0, 0}, {7, 8, 3}, {9, 10, 1}} {
		entries, read := topic.look(&storedReader{last: tt.last})
		if len(entries) != tt.n || read != (tt.n == 0) || tt.n > 0 && entries[0].Sequence != tt.first {
			t.Errorf("behind %d: %v, %v", tt.last, entries, read)
		}
	}
	if entries, read := topic.look(&storedReader{last: 10}); len(entries) > 0 || read {
		t.Errorf("at the end: %v, %v", entries, read)
	}
}

// TestStreamHasAGap has an entry be lost in the middle: nobody is shown what follows as if
// it were all.
func TestStreamHasAGap(t *testing.T) {
	s := testbed.StartRedis(t)
	a, b := open(t, s, Config{}), open(t, s, Config{})
	w, _ := create(t, a, "c")
	for sequence := int32(1); sequence <= 4; sequence++ {
		add(t, w, sequence, sequence)
	}
	end(t, w, 5)
	run(t, a, "XDEL", a.streamKey("c"), "3-0")
	r, err := b.Read(t.Context(), "c", 0)
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := r.Next(t.Context()); len(entries) > 2 || !errors.Is(err, journal.ErrExpired) && len(entries) == 0 {
		t.Errorf("%v, %v", entries, err)
	}
	if entries, err := r.Next(t.Context()); !errors.Is(err, journal.ErrExpired) {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestScriptsAreForgotten has the store forget the scripts between two batches.
func TestScriptsAreForgotten(t *testing.T) {
	s := testbed.StartRedis(t)
	a := open(t, s, Config{})
	w, _ := create(t, a, "c")
	for sequence := int32(1); sequence <= 3; sequence++ {
		run(t, a, "SCRIPT", "FLUSH")
		add(t, w, sequence, sequence)
	}
	end(t, w, 4)
}

// TestTailIsBounded has large events be published: few are kept for those that follow.
func TestTailIsBounded(t *testing.T) {
	topic := &topic{followers: map[*storedReader]struct{}{}}
	for s := range int32(100) {
		topic.published(appendFrames(fmt.Appendf(nil, "%d ", s+1), []journal.Entry{{Data: make([]byte, 50_000)}}))
	}
	if n := len(topic.tail); n > 6 || topic.tail[n-1].Sequence != 100 {
		t.Errorf("%d are kept", n)
	}
}
