// Package journal keeps the events of completions, so that a reader can come
// late, come back, or come twice.
//
// A completion's journal is a list of entries with the sequences 1, 2, 3 …, of
// which the last one is its end. One writer appends, with the sequence that it
// takes to be next, so that a second writer is found out; any number of readers
// follow from where they choose. An entry is encoded once, by the writer, and
// its bytes are shared by all readers.
//
// Memory keeps everything in this process. A store shared by several processes
// can implement Journal as well: nothing here needs the writer and the readers
// to be in one process.
package journal

import (
	"context"
	"errors"
	"time"
)

// The errors of a Journal. Others are faults of the store.
var (
	ErrNotFound = errors.New("no such completion")
	ErrExpired  = errors.New("the completion's entries are gone")
	ErrAhead    = errors.New("the cursor is ahead of the journal")
	ErrFenced   = errors.New("the entry is not the next one: somebody else writes, or the end is written")
	ErrFull     = errors.New("the journal is full")
	ErrTooLarge = errors.New("the completion is too large")
)

// A Journal keeps completions. Its methods may be called by many goroutines at
// once. Package journaltest tests what it promises; the tests' fake is a small Memory.
type Journal interface {
	// Create opens the journal of a completion and returns its writer. With a key
	// that the principal has used for a completion that is still known, it creates
	// nothing and returns no writer but that completion. It returns ErrFull when
	// there is no room: it admits no more than can come to their ends.
	Create(ctx context.Context, c Completion) (Writer, Completion, error)

	// Get returns what is known of a completion: with ErrExpired still the
	// completion itself, with ErrNotFound nothing.
	Get(ctx context.Context, id string) (Info, error)

	// Find does what Get does for the completion that a principal's key stands for.
	// An empty key stands for none.
	Find(ctx context.Context, principal, key string) (Info, error)

	// Read returns a reader of what follows the sequence after. It returns
	// ErrNotFound, ErrExpired, or ErrAhead.
	Read(ctx context.Context, id string, after int32) (Reader, error)
}

// A Writer appends to one completion's journal. It is for one goroutine.
type Writer interface {
	// Append appends an entry, whose sequence must be the next one (or else:
	// ErrFenced), and returns its copy of the data, which is shared with readers:
	// never to be changed. It returns ErrTooLarge when the completion would be, and
	// ErrFull when there is no room now: Wait then. Neither is ever returned for the
	// last entry, so that every completion can end.
	Append(ctx context.Context, e Entry) (data []byte, err error)

	// Wait waits for room for the entry for which there was none; only that one, or
	// the last entry, can be appended then. It returns ErrFull when no other
	// completion's end will make room, and the cause of ctx when that is done.
	Wait(ctx context.Context, e Entry) error
}

// A Reader follows one completion's journal. It is for one goroutine.
type Reader interface {
	// Next returns the entries that follow, as many as there are, up to some
	// bound; it waits while there is none. They are valid until the next call.
	// After the last entry of the completion it returns io.EOF; it returns
	// ErrExpired when the entries have been dropped, and the cause of ctx when
	// that is done.
	Next(ctx context.Context) ([]Entry, error)

	// Close gives up the reader's place.
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
