// Package journal says how the events of completions are kept, so that a reader can
// come late, come back, or come twice, and in which words the one that generates a
// completion and its readers hear of each other.
//
// A completion's journal is a list of entries with the sequences 1, 2, 3 …, of which
// the last one is its end. One writer, the owner's, appends, in batches of what has
// come together. Any number of readers follow from where they choose. An entry is
// encoded once, by the owner, and its bytes are shared by all readers.
//
// Package memory keeps everything in this process. Nothing here needs the owner and
// the readers to be in one process, so a store that several processes share can
// implement Journal as well. This is what it has to see to:
//
//   - One step appends: it compares the fence and the sequence, adds the batch, renews
//     its time, and tells those that follow. Append returns when the store has the
//     batch, and nobody is shown more than that. An owner has one Append under way;
//     what comes meanwhile comes with the next one.
//   - An owner holds a completion by a lease, of which one for each process is enough,
//     and a fence, which goes up when the completion is taken from it. An owner whose
//     lease is over may not know it yet: each of its appends must fail by the fence.
//   - Follow subscribes first, then reads what is there, then goes on with what it is
//     told, and reads again where that has a gap. It looks at the owner's lease while
//     it waits.
//   - An owner hears of followers and of Cancel wherever they are, and that the
//     followers of a process that has died are gone.
//   - Who claims an idempotency key claims it in one step, or not at all.
//   - A store that cannot be reached makes nobody wait for long. Append may then keep
//     a bounded batch or more for it, and show them to the readers of this process;
//     Create with a key fails, as nobody could say whether the key is free.
//   - Everything expires by itself, should all processes die.
//
// Package journaltest tests what can be tested of this in one process.
package journal

import (
	"context"
	"errors"
	"time"
)

// The errors of a Journal. Others are faults of the store.
var (
	ErrNotFound  = errors.New("no such completion")
	ErrExpired   = errors.New("the completion's entries are gone")
	ErrAhead     = errors.New("the cursor is ahead of the journal")
	ErrFenced    = errors.New("the completion is written by somebody else, or has ended")
	ErrOwnerLost = errors.New("the completion's owner is gone and has not ended it")
	ErrFull      = errors.New("the journal is full")
	ErrTooLarge  = errors.New("the completion is too large")
)

// A Journal keeps completions. Its methods may be called by many goroutines at
// once. Package journaltest tests what it promises; the tests' fake is a small
// memory.Journal.
type Journal interface {
	// Create opens the journal of a completion and returns its writer. With a key
	// that the principal has used for a completion that is still known, it creates
	// nothing and returns no writer but that completion. It returns ErrFull when
	// there is no room: it admits no more than can come to their ends.
	Create(ctx context.Context, c Completion, o Owner) (Writer, Completion, error)

	// Get returns what is known of a completion: with ErrExpired still the
	// completion itself, with ErrNotFound nothing.
	Get(ctx context.Context, id string) (Info, error)

	// Find does what Get does for the completion that a principal's key stands for.
	// An empty key stands for none.
	Find(ctx context.Context, principal, key string) (Info, error)

	// Read returns a reader of what follows the sequence after, up to what is there
	// when it is read. Nobody hears of it. Errors: ErrNotFound, ErrExpired, ErrAhead.
	Read(ctx context.Context, id string, after int32) (Reader, error)

	// Follow does what Read does, but that the reader waits for more, until the
	// completion's end. The owner counts it until it is closed.
	Follow(ctx context.Context, id string, after int32) (Reader, error)

	// Cancel asks the owner to end the completion, and does not wait for that. One
	// that has ended, or has no owner, is left as it is. Errors: ErrNotFound.
	Cancel(ctx context.Context, id string) error

	// EndLost writes the last entry, of the kind Failed, of a completion whose owner
	// is gone without having done so, and fences that owner off. It returns ErrFenced
	// when it has an owner or an end, as when somebody else was quicker; ErrNotFound;
	// or ErrExpired.
	EndLost(ctx context.Context, id string, data []byte) error
}

// An Owner is told by the journal what others, in whatever process, want of its
// completion. Any goroutine calls it, from when Create is called, so before that
// returns, and at times still after the end; it must not wait. The journal does not
// hold it when the writer is closed.
type Owner interface {
	// Cancel asks for the completion's end.
	Cancel()

	// Readers tells that so many more follow the completion, or so many fewer.
	Readers(change int)
}

// A Writer appends to one completion's journal. It is for one goroutine at a time.
type Writer interface {
	// Append appends entries, whose sequences must be the next ones (or else:
	// ErrFenced), and returns how many it has appended: all, unless there is an error.
	// It makes the data of these the journal's copy, which is shared with readers:
	// never to be changed.
	//
	// It returns ErrTooLarge when the completion would be, and ErrFull when there is
	// no room now: Wait then. Neither is ever returned for the last entry, so that
	// every completion can end.
	Append(ctx context.Context, entries []Entry) (n int, err error)

	// Wait waits for room for the entry for which there was none; only that one, or
	// the last entry, can be appended next. It returns ErrFull when no other
	// completion's end will make room, and the cause of ctx when that is done.
	Wait(ctx context.Context, e Entry) error

	// Close gives the completion up. It is called once, after the last Append. If that
	// was not the end, the owner counts as gone: EndLost ends the completion.
	Close()
}

// A Reader reads one completion's journal. It is for one goroutine.
type Reader interface {
	// Next returns the entries that follow, as many as there are, up to a bound of a few
	// hundred, so that a slow reader is not handed a whole completion.
	// The slice is valid until the next call, the data for good.
	//
	// When there is none, the reader that follows waits for one; the other one returns
	// io.EOF. Both return io.EOF after the last entry of the completion; ErrOwnerLost
	// when there will be none for want of an owner, until EndLost is called;
	// ErrExpired when the entries have been dropped; and the cause of ctx when that is
	// done, but not instead of entries that are there.
	Next(ctx context.Context) ([]Entry, error)

	// Close gives up the reader's place. To call it again does nothing.
	Close()
}

// A Completion is what a journal knows of a completion besides its entries.
type Completion struct {
	ID         string
	Principal  string   // whose it is
	Key        string   // its idempotency key; empty: none
	Request    [32]byte // a hash of the request that the key was used with, if there is a key
	Model      string   // the model asked for
	CreateTime time.Time
}

// Info is a completion and how far its journal reaches.
type Info struct {
	Completion
	Last  int32 // the sequence of the last entry; 0: none yet
	Ended bool  // whether that is the end
}

// A Kind tells the entries apart that the journal's users must not confuse.
type Kind uint8

// The kinds of entries.
const (
	Event    Kind = iota // an event that others follow
	Finished             // the last event
	Failed               // the end, which is not an event but a status
)

// An Entry is one step of a completion.
type Entry struct {
	Sequence int32
	Kind     Kind
	Data     []byte // shared: never to be changed
}
