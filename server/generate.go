package server

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// maxBatch is the most chunks that go into one batch.
const maxBatch = 64

// batch is what is journaled at a time. It exists only while there is something in it: a
// run that waits holds none.
type batch struct {
	entries []journal.Entry
	written int    // so many entries are in the journal, whose data is the journal's
	buf     []byte // what the data of the others is encoded into
}

var batchPool = sync.Pool{New: func() any { return new(batch) }}

// maxPooled is the most bytes of a batch's buffer that is used again.
const maxPooled = 64 << 10

// release gives a batch back.
func (b *batch) release() {
	if cap(b.buf) > maxPooled {
		return
	}
	clear(b.entries)
	b.entries, b.written, b.buf = b.entries[:0], 0, b.buf[:0]
	batchPool.Put(b)
}

// add adds an entry, whose data has been appended to buf, unless that failed.
func (b *batch) add(sequence int32, kind journal.Kind, buf []byte, err error) error {
	if err != nil {
		return failure.New(failure.UpstreamUnavailable, "the upstream sent what cannot be passed on").WithCause(err)
	}
	b.entries = append(b.entries, journal.Entry{Sequence: sequence, Kind: kind, Data: buf[len(b.buf):len(buf):len(buf)]})
	b.buf = buf
	return nil
}

// hasEnd tells whether the last entry is the completion's end.
func hasEnd(entries []journal.Entry) bool {
	return len(entries) > 0 && entries[len(entries)-1].Kind != journal.Event
}

// nextBatch journals what the engine has next, and returns what is journaled: nothing,
// perhaps. It reports whether the run goes on; if not, its end is journaled too.
func (r *run) nextBatch() (b *batch, more bool) {
	defer func() {
		if p := recover(); p != nil {
			b, more = r.recovered(p), false
		}
	}()
	var err error
	if b = r.unwritten; b != nil {
		r.unwritten = nil
		err = r.waitForRoom(b.entries[0])
	} else {
		b = r.receive()
	}
	if err == nil {
		if err = r.write(b); errors.Is(err, journal.ErrFull) {
			return r.split(b), true
		}
	}
	if err != nil {
		err = r.endRefused(b, err)
	}
	b.entries = b.entries[:b.written]
	if err == nil && !hasEnd(b.entries) {
		return b, true
	}
	r.finish(err)
	return b, false
}

// endRefused ends the run for what the journal does not take, in an end that it may take,
// or else in the journal's failure. When it does not take that either, it returns why, and
// readers learn from the journal that the owner is lost.
func (r *run) endRefused(b *batch, refused error) error {
	err := r.writeEnd(b, r.outcomeOf(journalFailure(context.Background(), refused)))
	if err != nil {
		err = r.writeEnd(b, journalFailure(context.Background(), err))
	}
	return err
}

// receive waits for the engine's next chunk, and makes a batch of it and of those that
// have come with it, and of the end.
func (r *run) receive() *batch {
	c, err := r.stream.Next(true)
	if c != nil {
		r.watchdog.touch()
	}
	b := batchPool.Get().(*batch)
	for taken := 1; c != nil; taken++ {
		// Whatever Next returns is lost unless it is taken: it is asked for nothing
		// beyond what this batch takes.
		if err = r.add(b, c); err != nil || taken == maxBatch {
			break
		}
		c, err = r.stream.Next(false)
	}
	if err != nil {
		r.addEnd(b, r.outcomeOf(err))
	}
	return b
}

// write appends to the journal what is not written yet of a batch.
func (r *run) write(b *batch) error {
	if b.written == len(b.entries) {
		return nil
	}
	// Not the run's context: the end is journaled when that is done.
	n, err := r.writer.Append(context.Background(), b.entries[b.written:])
	b.written += n
	r.sequence += int32(n)
	return err
}

// writeEnd does so with the end in place of what the journal has refused.
func (r *run) writeEnd(b *batch, outcome error) error {
	b.entries = b.entries[:b.written]
	r.addEnd(b, outcome)
	return r.write(b)
}

// split returns what is written of a batch: that need not wait until there is room for
// the rest, which comes with the next batch.
func (r *run) split(b *batch) *batch {
	r.unwritten = &batch{entries: b.entries[b.written:]}
	return &batch{entries: b.entries[:b.written:b.written]}
}

// waitForRoom waits until others have made room in the journal for an entry. Meanwhile
// nothing is taken from the upstream, which has then to wait, too, and is not to blame.
func (r *run) waitForRoom(e journal.Entry) error {
	r.watchdog.pause()
	defer r.watchdog.resume()
	return r.writer.Wait(r.ctx, e)
}

// next is the sequence of the next entry of a batch.
func (r *run) next(b *batch) int32 { return r.sequence + int32(len(b.entries)-b.written) + 1 }

// add adds what a chunk says.
func (r *run) add(b *batch, c *engine.Chunk) error {
	if r.next(b) == 1 {
		r.firstToken = time.Now()
		if err := r.addCreated(b, c.Model); err != nil {
			return err
		}
	}
	isAnswer, isSaid := contents(c.Delta)
	// A finish reason that more of the answer follows was none: some servers give one
	// on each chunk, and an answer that is cut behind an early one is not complete.
	if isAnswer || c.FinishReason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
		r.finishReason = c.FinishReason
	}
	if c.Usage != nil {
		r.usage = c.Usage
	}
	if !isAnswer && !isSaid {
		return nil
	}
	sequence := r.next(b)
	buf, err := appendDelta(b.buf, sequence, c.Delta)
	return b.add(sequence, journal.Event, buf, err)
}

// contents tells whether a delta holds more of the answer, and whether it says
// something of the answer. Only the former shows that the model had not finished:
// sources, say, come when it has.
func contents(d *completionv1.Delta) (isAnswer, isSaid bool) {
	if d == nil {
		return false, false
	}
	return d.Text != "" || d.Reasoning != "" || d.Refusal != "" || len(d.ToolCalls) > 0 || len(d.Parts) > 0,
		len(d.Extra.GetFields()) > 0 || len(d.Logprobs.GetContent()) > 0 || len(d.Logprobs.GetRefusal()) > 0
}

// addCreated adds the first event.
func (r *run) addCreated(b *batch, model string) error {
	return r.addEvent(b, journal.Event, &completionv1.CompletionEvent{Event: &completionv1.CompletionEvent_Created{
		Created: &completionv1.Created{Id: r.ID, Model: cmp.Or(model, r.Model), CreateTime: timestamppb.New(r.CreateTime)},
	}})
}

func (r *run) addEvent(b *batch, kind journal.Kind, event *completionv1.CompletionEvent) error {
	event.Sequence = r.next(b)
	buf, err := proto.MarshalOptions{}.MarshalAppend(b.buf, event)
	return b.add(event.Sequence, kind, buf, err)
}

// addEnd adds the completion's end, after which nothing more is taken from the engine.
func (r *run) addEnd(b *batch, outcome error) {
	if r.stream != nil {
		r.stream.Close()
		r.stream = nil
	}
	r.server.uncount(r)
	r.outcome = outcome
	if err := r.addOutcome(b, outcome); err != nil { // what the upstream says cannot be encoded
		r.outcome = err
		_ = r.addOutcome(b, err)
	}
}

func (r *run) addOutcome(b *batch, outcome error) error {
	var failed *failure.Error
	if errors.As(outcome, &failed) {
		buf, err := proto.MarshalOptions{}.MarshalAppend(b.buf, failed.GRPCStatus().Proto())
		return b.add(r.next(b), journal.Failed, buf, err)
	}
	if outcome != nil {
		r.finishReason = completionv1.Finished_CANCELLED
	}
	if r.next(b) == 1 { // every completion that did not fail begins with created
		if err := r.addCreated(b, ""); err != nil {
			return err
		}
	}
	return r.addEvent(b, journal.Finished, &completionv1.CompletionEvent{Event: &completionv1.CompletionEvent_Finished{
		Finished: &completionv1.Finished{FinishReason: r.finishReason, Usage: r.usage},
	}})
}

// finish lets go of all that the run has, when its end is journaled, or could not be.
func (r *run) finish(journalErr error) {
	defer r.server.remove(r)
	r.stopDetach()
	r.watchdog.stop()
	_ = r.try(func() error { r.writer.Close(); return nil }) // whose fault is not to hide how the run has ended
	// A fault is logged before the run is removed, which is what Server.Close waits for.
	_ = r.try(func() error { r.tell(journalErr); return nil })
}
