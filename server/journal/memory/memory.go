// Package memory is a journal.Journal in this process's memory.
//
// An ended completion stays for the retention or until its memory is needed, the
// one that ended first going first; a running one always stays, and does not fail
// because others fill the memory: budget.go says who is let in. What has gone is
// remembered for another retention, its idempotency key too, so that whoever
// comes late learns that he is late and pays nothing twice.
package memory

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// What the journal counts for a completion beside its pages and names: its log,
// its places in maps and queues, and room for its last entry.
const (
	logCost  = 1 << 10
	goneCost = 480 // of one whose entries are gone
)

// Config bounds a Journal. A zero field takes its default.
type Config struct {
	Retention     time.Duration // how long an ended completion stays readable; default 10 min
	Bytes         int64         // the most memory for all completions; default 256 MiB
	MaxCompletion int64         // the most memory for the entries of one; default 16 MiB
}

// Journal implements journal.Journal. Close it after use; nothing may be appended
// afterwards.
type Journal struct {
	config Config

	mu     sync.Mutex // guards all below, and is taken before any log's
	logs   map[string]*log
	keys   map[claim]*log
	budget budget
	bytes  int64 // all that is held, of whatever runs and has ended
	ended  queue // logs that have ended, in that order, and so in order of expiry
	gone   queue // logs whose pages are gone, likewise
	timer  *time.Timer
	due    time.Time // what the timer is set for
}

// claim is an idempotency key and whose it is.
type claim struct{ principal, key string }

// New returns an empty journal.
func New(config Config) *Journal {
	config.Retention = cmp.Or(config.Retention, 10*time.Minute)
	config.Bytes = cmp.Or(config.Bytes, 256<<20)
	config.MaxCompletion = cmp.Or(config.MaxCompletion, 16<<20)
	j := &Journal{config: config, logs: map[string]*log{}, keys: map[claim]*log{}, budget: newBudget(config.Bytes, config.MaxCompletion)}
	j.timer = time.AfterFunc(time.Hour, j.expire)
	j.timer.Stop()
	return j
}

// Close stops the journal's timer.
func (j *Journal) Close() { j.timer.Stop() }

// Create implements journal.Journal.
func (j *Journal) Create(_ context.Context, c journal.Completion, o journal.Owner) (journal.Writer, journal.Completion, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.expireLocked()
	if holder := j.keys[claim{c.Principal, c.Key}]; c.Key != "" && holder != nil {
		return nil, holder.Completion, nil
	}
	l := &log{journal: j, Completion: c, owner: o}
	if !j.budget.admit(l) {
		return nil, journal.Completion{}, journal.ErrFull
	}
	j.makeRoom(logCost + l.names())
	j.logs[c.ID] = l
	if c.Key != "" {
		j.keys[claim{c.Principal, c.Key}] = l
	}
	return l, c, nil
}

// Get implements journal.Journal.
func (j *Journal) Get(_ context.Context, id string) (journal.Info, error) {
	return known(j.find(id))
}

// Find implements journal.Journal.
func (j *Journal) Find(_ context.Context, principal, key string) (journal.Info, error) {
	j.mu.Lock()
	j.expireLocked()
	l := j.keys[claim{principal, key}] // never with an empty key: Create sets none
	j.mu.Unlock()
	return known(l)
}

// known returns what is known of a log's completion; the log may be nil.
func known(l *log) (journal.Info, error) {
	if l == nil {
		return journal.Info{}, journal.ErrNotFound
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	info := journal.Info{Completion: l.Completion, Last: l.shown, Ended: l.ended && l.shown == l.last}
	if l.gone {
		return info, journal.ErrExpired
	}
	return info, nil
}

// Read implements journal.Journal.
func (j *Journal) Read(_ context.Context, id string, after int32) (journal.Reader, error) {
	return j.read(id, after, false)
}

// Follow implements journal.Journal.
func (j *Journal) Follow(_ context.Context, id string, after int32) (journal.Reader, error) {
	return j.read(id, after, true)
}

func (j *Journal) read(id string, after int32, follow bool) (journal.Reader, error) {
	l := j.find(id)
	if l == nil {
		return nil, journal.ErrNotFound
	}
	return l.read(after, follow)
}

// Cancel implements journal.Journal.
func (j *Journal) Cancel(_ context.Context, id string) error {
	l := j.find(id)
	if l == nil {
		return journal.ErrNotFound
	}
	l.mu.Lock()
	owner := l.owner
	l.mu.Unlock()
	if owner != nil {
		owner.Cancel()
	}
	return nil
}

// EndLost implements journal.Journal.
func (j *Journal) EndLost(_ context.Context, id string, data []byte) error {
	l := j.find(id)
	if l == nil {
		return journal.ErrNotFound
	}
	return l.endLost(data)
}

// Bytes returns how much memory the journal counts, which is at most its bound.
func (j *Journal) Bytes() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.bytes
}

func (j *Journal) find(id string) *log {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.expireLocked()
	return j.logs[id]
}
