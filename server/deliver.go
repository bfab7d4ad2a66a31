package server

import (
	"context"
	"errors"
	"io"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// receiver is what the events of a completion are for.
type receiver interface {
	// begin is called before the first events, unless the completion cannot be read.
	begin(ctx context.Context) error

	// receive is called with all events that are there, of which the last one may be
	// the completion's end. They are not to be kept.
	receive(entries []journal.Entry) error
}

// deliver gives a receiver the events behind the sequence after, until the completion's
// end. With a run, the caller has begun the completion, and leads that run; this is
// called once for it, to whatever end.
func (s *Server) deliver(ctx context.Context, id string, led *run, after int32, to receiver) error {
	limit, leave := s.config.Limits.Readers, func() { s.readers.remove(id) }
	if led != nil {
		limit = 0 // it is the first, even if others have been quicker
		leave = func() {
			s.readers.remove(id)
			led.leave()
		}
	}
	if err := s.readers.add(limit, id); err != nil {
		return err
	}
	// At once, not only when the reader notices: one that leads may wait for the upstream.
	stop := context.AfterFunc(ctx, leave)
	defer func() {
		if stop() {
			leave()
		}
	}()
	if led != nil {
		s.config.Observer.Reads(ctx, id)
		if err := to.begin(ctx); err != nil {
			return err
		}
		for b := led.lead(); b != nil; b = led.lead() {
			ended := hasEnd(b.entries)
			after = b.entries[len(b.entries)-1].Sequence
			err := to.receive(b.entries)
			b.release()
			if ended || err != nil {
				return err
			}
		}
	}
	return s.follow(ctx, id, led == nil, after, to)
}

// follow is deliver for what comes out of the journal. It begins the receiver, unless its
// caller has led the run, and done so.
func (s *Server) follow(ctx context.Context, id string, begins bool, after int32, to receiver) error {
	r, err := s.config.Journal.Follow(ctx, id, after)
	if err != nil {
		return readFailure(ctx, err)
	}
	defer r.Close()
	if begins {
		s.config.Observer.Reads(ctx, id)
		if err := to.begin(ctx); err != nil {
			return err
		}
	}
	return s.readAll(ctx, id, r, to)
}

// readAll gives a receiver all that a reader of the journal has, up to the completion's
// end, which it writes itself if the owner is lost.
func (s *Server) readAll(ctx context.Context, id string, r journal.Reader, to receiver) error {
	for lost := false; ; {
		entries, err := r.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, journal.ErrOwnerLost) && !lost:
			lost = true
			if err := s.endLost(ctx, id); err != nil {
				return err
			}
		case err != nil:
			return readFailure(ctx, err)
		default:
			if err := to.receive(entries); err != nil || hasEnd(entries) {
				return err
			}
		}
	}
}

// readFailure is journalFailure of a reader. Its stream ends, and the completion does not,
// unless its owner is lost, which is the end for all. A cursor that is ahead begins none.
func readFailure(ctx context.Context, err error) error {
	err = journalFailure(ctx, err)
	if f, ok := err.(*failure.Error); ok && f.Reason != failure.OwnerLost && f.Reason != failure.CursorAhead {
		return f.OfReader()
	}
	return err
}

// endLost ends a completion whose owner is lost, unless another reader has.
func (s *Server) endLost(ctx context.Context, id string) error {
	data, err := proto.Marshal(errLost.GRPCStatus().Proto())
	if err != nil {
		return err
	}
	err = s.config.Journal.EndLost(ctx, id, data)
	switch {
	case errors.Is(err, journal.ErrFenced):
		return nil
	case err != nil:
		return readFailure(ctx, err)
	}
	e := Ended{ID: id, Outcome: outcomeWord(errLost), Journaled: true, Cause: errLost}
	s.log(ctx, e, requestID(ctx))
	s.config.Observer.Ended(ctx, e)
	return nil
}

// failedStatus decodes the end of a completion that failed.
func failedStatus(e journal.Entry) (*statuspb.Status, error) {
	st := &statuspb.Status{}
	return st, proto.Unmarshal(e.Data, st)
}
