package redis

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

var (
	mixFor  = flag.Duration("mix", 5*time.Second, "how long TestMix goes on")
	mixSeed = flag.Uint64("mix-seed", rand.Uint64(), "what TestMix's random numbers begin with")
)

// mix is many completions of several processes at once, to whose owners, readers and store
// things happen. What must hold: every reader gets the events 1, 2, 3 … of the completion,
// each as it was written, and one end, the same for all; what an owner writes that has lost
// its completion is shown to nobody.
type mix struct {
	t        *testing.T
	journals []*Journal

	mu   sync.Mutex                // guards all below
	ends map[string]*journal.Entry // as the first reader saw them

	finished, lost, cancelled, fenced, resumed, refused atomic.Int32
}

// content is the data of a completion's event.
func content(id string, s int32) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%s-%d ", id, s), int(s%5))
}

func TestMix(t *testing.T) {
	t.Logf("-mix-seed=%d", *mixSeed)
	store := testbed.StartRedis(t)
	m := &mix{t: t, ends: map[string]*journal.Entry{}}
	for range 3 {
		// The leases are renewed by hand, so that they can be over.
		m.journals = append(m.journals, open(t, store, Config{Lease: 2 * time.Second, Patience: 10 * time.Second}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), *mixFor)
	defer cancel()
	var all sync.WaitGroup
	for worker := range uint64(40) {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(*mixSeed, worker))
			for i := 0; ctx.Err() == nil; i++ {
				m.live(rng, fmt.Sprintf("c%d.%d", worker, i))
			}
		})
	}
	rng := rand.New(rand.NewPCG(*mixSeed, 1000))
	for ctx.Err() == nil { // the store stands still now and then, or its connections break
		time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
		if rng.IntN(2) == 0 {
			store.Signal(syscall.SIGSTOP)
			time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
			store.Signal(syscall.SIGCONT)
			continue
		}
		c := m.journals[rng.IntN(3)].client
		c.Do(context.Background(), c.B().Arbitrary("CLIENT", "KILL", "TYPE", []string{"normal", "pubsub"}[rng.IntN(2)]).Build())
	}
	all.Wait()
	fmt.Printf("mix, seed %d: %d finished, %d lost, %d of them written on by their old owner, %d cancelled; %d times read on, %d refused\n",
		*mixSeed, m.finished.Load(), m.lost.Load(), m.fenced.Load(), m.cancelled.Load(), m.resumed.Load(), m.refused.Load())
	if m.finished.Load() == 0 || m.lost.Load() == 0 || m.fenced.Load() == 0 || m.cancelled.Load() == 0 || m.resumed.Load() == 0 {
		t.Error("something has not happened at all")
	}
}

// live has one completion live, with some readers.
func (m *mix) live(rng *rand.Rand, id string) {
	owner := &owner{}
	w, _, err := m.journals[rng.IntN(3)].Create(context.Background(), journal.Completion{ID: id}, owner)
	if err != nil {
		m.refused.Add(1)
		return
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	for range 1 + rng.IntN(3) {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		readers.Go(func() { m.read(rng, id) })
	}
	events := int32(rng.IntN(200))
	dies := int32(-1)
	if rng.IntN(4) == 0 {
		dies = rng.Int32N(events + 1)
	}
	if rng.IntN(6) == 0 {
		canceller := m.journals[rng.IntN(3)]
		readers.Go(func() {
			if err := canceller.Cancel(context.Background(), id); err != nil && !errors.Is(err, journal.ErrNotFound) {
				m.refused.Add(1)
			}
		})
	}
	sequence := int32(1)
	for sequence <= events && owner.cancels.Load() == 0 && sequence != dies {
		var batch []journal.Entry
		for range min(events-sequence+1, 1+rng.Int32N(20)) {
			batch = append(batch, journal.Entry{Sequence: sequence, Data: content(id, sequence)})
			if sequence++; sequence == dies {
				break
			}
		}
		if n, err := w.Append(context.Background(), batch); n != len(batch) || err != nil {
			m.t.Errorf("%s: append to %d: %d, %v", id, sequence, n, err)
			return
		}
		if rng.IntN(3) == 0 {
			time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
		}
	}
	if sequence == dies {
		m.die(rng, w.(*writer), id, sequence)
		return
	}
	if owner.cancels.Load() > 0 {
		m.cancelled.Add(1)
	}
	if _, err := w.Append(context.Background(), []journal.Entry{{Sequence: sequence, Kind: journal.Finished, Data: []byte("end of " + id)}}); err != nil {
		m.t.Errorf("%s: the end: %v", id, err)
	}
	w.Close()
	m.finished.Add(1)
}

// die has an owner be lost: it gives up, or the store thinks so, as when its lease is over,
// and it does not know, and goes on writing.
func (m *mix) die(rng *rand.Rand, w *writer, id string, sequence int32) {
	m.lost.Add(1)
	if rng.IntN(2) == 0 {
		w.Close()
		return
	}
	err := w.journal.release(context.Background(), id, w.fence)
	for range 10 { // its connection may break
		if err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
		err = w.journal.release(context.Background(), id, w.fence)
	}
	if err != nil {
		m.t.Errorf("%s: %v", id, err)
	}
	other := m.journals[0]
	if other == w.journal {
		other = m.journals[1]
	}
	for range 1000 { // nor may it be had at once from there
		at, err := other.record(context.Background(), id)
		if err == nil && at.Ended {
			break
		}
		if err := other.EndLost(context.Background(), id, []byte("lost")); err != nil && !errors.Is(err, journal.ErrFenced) {
			m.refused.Add(1)
			time.Sleep(10 * time.Millisecond)
		}
	}
	for range 2 {
		e := []journal.Entry{{Sequence: sequence, Data: []byte("never to be seen")}}
		if n, err := w.Append(context.Background(), e); n != 0 || !errors.Is(err, journal.ErrFenced) {
			m.t.Errorf("%s: its old owner writes: %d, %v", id, n, err)
		}
	}
	w.Close()
	m.fenced.Add(1)
}

// read reads a completion to its end, here and there, leaving and coming back.
func (m *mix) read(rng *rand.Rand, id string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for last := int32(0); ; m.resumed.Add(1) {
		if ctx.Err() != nil {
			m.t.Errorf("%s: no end behind %d within 30 s", id, last)
			return
		}
		j := m.journals[rng.IntN(3)]
		stay, leave := context.WithCancel(ctx)
		if rng.IntN(3) == 0 {
			time.AfterFunc(time.Duration(rng.IntN(50))*time.Millisecond, leave)
		}
		end, err := m.readOn(stay, j, id, &last)
		leave()
		if end == nil {
			if err != nil && stay.Err() == nil {
				m.refused.Add(1) // the store could not be had
				time.Sleep(10 * time.Millisecond)
			}
			continue
		}
		m.mu.Lock()
		first := m.ends[id]
		if first == nil {
			m.ends[id] = end
		} else if first.Sequence != end.Sequence || first.Kind != end.Kind || !bytes.Equal(first.Data, end.Data) {
			m.t.Errorf("%s ends with %d %q for one, with %d %q for another", id, first.Sequence, first.Data, end.Sequence, end.Data)
		}
		m.mu.Unlock()
		return
	}
}

// readOn reads on behind a sequence, until the end, which it returns, or an error.
func (m *mix) readOn(ctx context.Context, j *Journal, id string, last *int32) (*journal.Entry, error) {
	r, err := j.Follow(ctx, id, *last)
	if err != nil {
		if errors.Is(err, journal.ErrNotFound) || errors.Is(err, journal.ErrAhead) || errors.Is(err, journal.ErrExpired) {
			m.t.Errorf("%s behind %d: %v", id, *last, err)
			return &journal.Entry{}, err
		}
		return nil, err
	}
	defer r.Close()
	for {
		entries, err := r.Next(ctx)
		if errors.Is(err, journal.ErrOwnerLost) {
			if err := j.EndLost(ctx, id, []byte("lost")); err != nil && !errors.Is(err, journal.ErrFenced) {
				return nil, err
			}
			continue
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				m.t.Errorf("%s ends behind %d without an end", id, *last)
			}
			return nil, err
		}
		for _, e := range entries {
			if e.Sequence != *last+1 {
				m.t.Errorf("%s: %d behind %d", id, e.Sequence, *last)
			}
			*last = e.Sequence
			if e.Kind != journal.Event {
				return &journal.Entry{Sequence: e.Sequence, Kind: e.Kind, Data: bytes.Clone(e.Data)}, nil
			}
			if !bytes.Equal(e.Data, content(id, e.Sequence)) {
				m.t.Errorf("%s: event %d is %q", id, e.Sequence, e.Data)
			}
		}
	}
}
