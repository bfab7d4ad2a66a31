package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// Why a run ended that neither finished nor failed: the causes of its context.
var (
	errCancelled = errors.New("cancelled by a caller")
	errAbandoned = errors.New("the last reader left")
)

// run is one completion while it is generated. Whoever holds the turn generates
// (lead.go); readers only join and leave, and anyone may cancel it.
//
// What each event needs comes first and together. With thousands of streams, none of
// it is in the processor's cache when the next event comes, and getting it there is
// most of what an event costs.
type run struct {
	turn         // guards all up to usage
	sequence     int32
	finishReason completionv1.Finished_FinishReason
	stream       engine.Stream
	writer       journal.Writer
	watchdog     watchdog
	journaled    []journal.Entry // in this turn
	buf          []byte          // used again for each event; small, as most are
	small        [48]byte
	unhook       func() bool // stops that the end of ctx detaches the run
	firstToken   time.Time
	usage        *completionv1.Usage

	mu      sync.Mutex // guards the two below
	readers int
	leaving *time.Timer // runs while there is no reader and a grace; else nil

	journal.Completion
	server    *Server
	requestID string
	grace     time.Duration
	ctx       context.Context
	cancel    context.CancelCauseFunc
	done      chan struct{} // closed when the end is in the journal
}

// newRun returns a run that has one reader, its caller. The turn is taken until it
// is started: others may join it before that.
func newRun(s *Server, c journal.Completion, req *completionv1.CompletionRequest, requestID string) *run {
	r := &run{
		Completion: c,
		server:     s,
		requestID:  requestID,
		grace:      min(req.GetDisconnectGrace().AsDuration(), s.config.MaxDisconnectGrace),
		done:       make(chan struct{}),
		readers:    1,
	}
	r.turn.Lock()
	r.buf = r.small[:0]
	r.ctx, r.cancel = context.WithCancelCause(s.ctx)
	return r
}

// join counts a reader in. The run waits for none of several.
func (r *run) join() {
	r.detach()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers++
	if r.leaving != nil {
		r.leaving.Stop()
		r.leaving = nil
	}
}

// leave counts a reader out. Without readers, the run is cancelled when the grace
// is over.
func (r *run) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readers--
	switch {
	case r.readers > 0, r.ctx.Err() != nil:
	case r.grace <= 0:
		r.cancel(errAbandoned)
	default:
		r.leaving = time.AfterFunc(r.grace, r.abandon)
	}
}

// abandon cancels the run unless a reader came in the last moment.
func (r *run) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.readers == 0 {
		r.cancel(errAbandoned)
	}
}

// settle stops what may still wait for readers.
func (r *run) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel(nil)
	if r.leaving != nil {
		r.leaving.Stop()
		r.leaving = nil
	}
}

// start readies a run to be generated.
func (r *run) start(w journal.Writer, eng engine.Engine, req *completionv1.CompletionRequest) {
	defer r.turn.Unlock()
	r.writer = w
	r.watchdog.watch(r.cancel, r.server)
	r.stream = eng.Generate(r.ctx, req)
	r.unhook = context.AfterFunc(r.ctx, r.detach) // an end does not wait for a reader either
}

// maxAdvance is the most events that are made of one turn.
const maxAdvance = 64

// advance journals what the engine has: it waits for one chunk, and takes those
// that have come with it. It reports whether the run goes on; if not, its end is
// journaled too. What it journals it appends to a slice. The caller has the turn.
func (r *run) advance(journaled []journal.Entry) ([]journal.Entry, bool) {
	r.journaled = journaled
	var err error
	for taken := 0; taken < maxAdvance && err == nil; taken++ {
		// Whatever Next returns is lost unless it is taken: it is asked for nothing
		// beyond what this turn takes.
		var c *engine.Chunk
		if c, err = r.stream.Next(taken == 0); c == nil {
			break
		}
		err = r.take(c)
	}
	if err == nil {
		return r.journaled, true
	}
	r.stream.Close()
	r.watchdog.stop()
	r.unhook()
	r.retire()
	r.end(r.outcome(err))
	close(r.done)
	r.server.dismiss(r)
	return r.journaled, false
}

// take journals a chunk.
func (r *run) take(c *engine.Chunk) error {
	r.watchdog.feed()
	if r.sequence == 0 {
		r.firstToken = time.Now()
		if err := r.created(c.Model); err != nil {
			return err
		}
	}
	answers, says := contents(c.Delta)
	// A finish reason that more of the answer follows was none: some servers give one
	// on each chunk, and an answer that is cut behind an early one is not complete.
	if answers || c.FinishReason != completionv1.Finished_FINISH_REASON_UNSPECIFIED {
		r.finishReason = c.FinishReason
	}
	if c.Usage != nil {
		r.usage = c.Usage
	}
	if !answers && !says {
		return nil
	}
	var err error
	r.buf, err = appendDelta(r.buf[:0], r.sequence+1, c.Delta)
	return r.append(journal.Event, err)
}

// contents tells whether a delta holds more of the answer, and whether it says
// something of the answer. Only the former shows that the model had not finished:
// sources, say, come when it has.
func contents(d *completionv1.Delta) (answers, says bool) {
	if d == nil {
		return false, false
	}
	return d.Text != "" || d.Reasoning != "" || d.Refusal != "" || len(d.ToolCalls) > 0 || len(d.Parts) > 0,
		len(d.Extra.GetFields()) > 0 || len(d.Logprobs.GetContent()) > 0 || len(d.Logprobs.GetRefusal()) > 0
}

// created journals the first event.
func (r *run) created(model string) error {
	if model == "" {
		model = r.Model
	}
	return r.appendEvent(journal.Event, &completionv1.CompletionEvent{Event: &completionv1.CompletionEvent_Created{
		Created: &completionv1.Created{Id: r.ID, Model: model, CreateTime: timestamppb.New(r.CreateTime)},
	}})
}

// appendEvent numbers and journals an event.
func (r *run) appendEvent(kind journal.Kind, event *completionv1.CompletionEvent) error {
	event.Sequence = r.sequence + 1
	var err error
	r.buf, err = proto.MarshalOptions{}.MarshalAppend(r.buf[:0], event)
	return r.append(kind, err)
}

// append journals what is in buf, unless it could not be encoded.
func (r *run) append(kind journal.Kind, err error) error {
	if err != nil {
		return failure.New(failure.UpstreamUnavailable, "the upstream sent what cannot be passed on").WithCause(err)
	}
	// Not the run's context: the end is journaled when that is done.
	e := journal.Entry{Sequence: r.sequence + 1, Kind: kind, Data: r.buf}
	data, err := r.writer.Append(context.Background(), e)
	if errors.Is(err, journal.ErrFull) {
		data, err = r.appendLater(e)
	}
	if err != nil {
		return journalFailure(err)
	}
	e.Data = data
	r.sequence++
	r.journaled = append(r.journaled, e)
	return nil
}

// appendLater journals an entry when others have made room for it. Meanwhile nothing
// is taken from the upstream, which has then to wait, too, and is not to blame.
func (r *run) appendLater(e journal.Entry) ([]byte, error) {
	r.watchdog.pause()
	err := r.writer.Wait(r.ctx, e)
	r.watchdog.goOn()
	if err != nil {
		return nil, err
	}
	return r.writer.Append(context.Background(), e)
}

// outcome says how the run ended, from what ended it: nil for finished,
// errCancelled or errAbandoned, or else a *failure.Error.
func (r *run) outcome(err error) error {
	cause := context.Cause(r.ctx)
	var failed *failure.Error
	switch {
	case err == io.EOF && r.finishReason != completionv1.Finished_FINISH_REASON_UNSPECIFIED:
		return nil
	case errors.Is(cause, errCancelled), errors.Is(cause, errAbandoned):
		return cause
	case errors.As(cause, &failed): // a timeout, or the end of a drain
		return failed
	case err == io.EOF:
		return failure.New(failure.UpstreamTruncated, "the upstream ended in the middle of its answer")
	case errors.As(err, &failed):
		return failed
	}
	return failure.New(failure.UpstreamUnavailable, "the upstream failed").WithCause(err)
}

// end journals and logs how the run ended. When that cannot be said, as when even the
// first event is too much for the journal, it ended in this: without an end, its readers
// would wait for ever.
func (r *run) end(outcome error) {
	err := r.appendEnd(outcome)
	var failed *failure.Error
	if errors.As(err, &failed) {
		outcome, err = failed, r.appendEnd(failed)
	}
	r.log(outcome, err)
}

func (r *run) appendEnd(outcome error) error {
	var failed *failure.Error
	var err error
	if errors.As(outcome, &failed) {
		r.buf, err = proto.Marshal(failed.GRPCStatus().Proto())
		return r.append(journal.Failed, err)
	}
	if outcome != nil {
		r.finishReason = completionv1.Finished_CANCELLED
	}
	if r.sequence == 0 { // every completion that did not fail begins with created
		if err := r.created(""); err != nil {
			return err
		}
	}
	return r.appendEvent(journal.Finished, &completionv1.CompletionEvent{Event: &completionv1.CompletionEvent_Finished{
		Finished: &completionv1.Finished{FinishReason: r.finishReason, Usage: r.usage},
	}})
}

// log writes the run's one line: never a prompt, a text or a key.
func (r *run) log(outcome, journalErr error) {
	level, word := slog.LevelInfo, "finished"
	var failed *failure.Error
	switch {
	case errors.As(outcome, &failed):
		level, word = slog.LevelWarn, "failed"
	case outcome != nil:
		word = "cancelled"
	}
	attrs := []slog.Attr{
		slog.String("id", r.ID),
		slog.String("model", r.Model),
		slog.String("outcome", word),
		slog.Int("events", int(r.sequence)),
		slog.Duration("duration", time.Since(r.CreateTime)),
	}
	if !r.firstToken.IsZero() {
		attrs = append(attrs, slog.Duration("first_token", r.firstToken.Sub(r.CreateTime)))
	}
	if r.requestID != "" {
		attrs = append(attrs, slog.String("request_id", r.requestID))
	}
	if failed != nil {
		attrs = append(attrs, slog.String("reason", failed.Reason.String()))
	}
	if outcome != nil {
		attrs = append(attrs, slog.Any("cause", outcome))
	}
	if journalErr != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.Any("journal", journalErr))
	}
	r.server.config.Log.LogAttrs(context.Background(), level, "completion", attrs...)
}
