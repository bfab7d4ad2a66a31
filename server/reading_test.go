package server

import (
	"context"
	"testing"
	"testing/synctest"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/sluice-sse/sluice/server/failure"
	"github.com/sluice-sse/sluice/server/journal"
)

// unreadable is a journal that cannot be read behind the first events.
type unreadable struct {
	journal.Journal
	err error
}

func (u *unreadable) Follow(ctx context.Context, id string, after int32) (journal.Reader, error) {
	r, err := u.Journal.Follow(ctx, id, after)
	return &unreadableReader{Reader: r, err: u.err}, err
}

type unreadableReader struct {
	journal.Reader
	err error
	has bool // something was read
}

func (r *unreadableReader) Next(ctx context.Context) ([]journal.Entry, error) {
	if r.has {
		return nil, r.err
	}
	r.has = true
	entries, err := r.Reader.Next(ctx)
	return entries[:1], err
}

// An error of a reader's stream is not to be taken for the end of the completion, which has
// the same reason at times: whoever took it for an event of its own would go on behind one that
// it does not have.
func TestUnreadable(t *testing.T) {
	for _, tt := range []struct {
		err      error
		reason   failure.Reason
		ofReader bool
	}{
		{errStore, failure.UpstreamUnavailable, true},
		{journal.ErrNotFound, failure.CompletionNotFound, true},
		{journal.ErrFenced, failure.OwnerLost, false}, // which is the end that the next reader gets, too
	} {
		t.Run(tt.reason.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, play(nil, begun, text("a"), stopped), func(c *Config) { c.Journal = &unreadable{c.Journal, tt.err} })
				id, s := f.stream(t, t.Context(), prompt("x"))
				if got, err := read(s); err != nil {
					t.Fatalf("who led it: %q, %v", got, err)
				}
				got, err := read(f.resume(t, t.Context(), id, 0))
				if got != "1:created" || reason(err) != tt.reason || endsReader(err) != tt.ofReader {
					t.Errorf("%q, %v, %v", got, err, status.Convert(err).Details())
				}
			})
		})
	}
}

func endsReader(err error) bool {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetMetadata()["ends"] == "reader"
		}
	}
	return false
}
